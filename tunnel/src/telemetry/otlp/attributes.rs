//! Attributes, by OpenTelemetry's semantic conventions where these have a name, else by Istio's.
use super::proto::{AnyValue, KeyValue, Resource, Value};
use crate::mesh::{Service, Workload};
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Default)]
pub struct Attributes(pub Vec<KeyValue>);

impl Attributes {
    /// One that is empty is none.
    pub fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.put(key, Value::Text(text.to_owned()));
        }
    }

    pub fn number(&mut self, key: &str, number: impl TryInto<i64>) {
        self.put(key, Value::Number(number.try_into().unwrap_or(i64::MAX)));
    }

    /// As `{name}.address` and `{name}.port`.
    pub fn address(&mut self, name: &str, address: SocketAddr) {
        self.text(&format!("{name}.address"), &address.ip().to_canonical().to_string());
        self.number(&format!("{name}.port"), address.port());
    }

    fn put(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value });
    }
}

/// A workload, as the resource of what is told of it. The service's name is Istio's (`tracingServiceName:
/// APP_LABEL_AND_NAMESPACE`), so that sidecars' spans and ours are of one service.
pub fn resource(of: &Workload) -> Resource {
    let mut attributes = Attributes::default();
    let app = &of.app;
    attributes.text("service.name", &format!("{}.{}", app.canonical_name, app.namespace));
    attributes.text("service.version", &app.canonical_revision);
    attributes.text("service.instance.id", &of.uid.0);
    attributes.text("k8s.cluster.name", &app.cluster);
    attributes.text("k8s.namespace.name", &app.namespace);
    attributes.text("k8s.node.name", &of.node);
    if of.is_pod() {
        attributes.text("k8s.pod.name", &of.name);
    }
    if app.kind != "pod" {
        attributes.text(&format!("k8s.{}.name", app.kind), &app.workload);
    }
    attributes.text("cloud.region", &of.locality.region);
    attributes.text("cloud.availability_zone", &of.locality.zone);
    Resource { attributes: attributes.0 }
}

/// Istio's tags, which say whose the span is.
pub fn istio(attributes: &mut Attributes, own: &Workload) {
    let app = &own.app;
    attributes.text("istio.canonical_service", &app.canonical_name);
    attributes.text("istio.canonical_revision", &app.canonical_revision);
    attributes.text("istio.namespace", &app.namespace);
    attributes.text("istio.cluster_id", &app.cluster);
    attributes.text("istio.mesh_id", &own.identity.trust_domain);
}

pub fn hostname(service: &Option<Arc<Service>>) -> &str {
    service.as_ref().map_or("", |service| service.key.hostname())
}
