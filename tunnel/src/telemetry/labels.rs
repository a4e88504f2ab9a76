//! Labels of Istio's metrics, as text.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use super::request::RequestLabels;
use super::series::{Labels, Merge, Side};
use crate::observability::MetricName;

/// The series of one metric, each with the text of its labels: those that a Telemetry gives the same labels are one.
pub(super) fn rendered<L: Rendered, T: Copy + Merge>(series: &[(Arc<L>, T)], metric: MetricName) -> Vec<(String, T)> {
    let customized = series.iter().any(|(labels, _)| (**labels).as_ref().custom.is_some());
    let (mut all, mut known) = (Vec::<(String, T)>::with_capacity(series.len()), HashMap::<String, usize>::new());
    for (labels, totals) in series {
        let Some(text) = labels.text(metric) else { continue };
        if let Some(index) = known.get(&text) {
            all[*index].1.merge(totals);
            continue;
        }
        if customized {
            known.insert(text.clone(), all.len());
        }
        all.push((text, *totals));
    }
    all
}

/// Labels of a series, as text.
pub(super) trait Rendered: AsRef<Labels> {
    /// Tells each standard one, with its value.
    fn each(&self, put: &mut dyn FnMut(&str, &str));

    /// None: a Telemetry has switched the metric off.
    fn text(&self, metric: MetricName) -> Option<String> {
        let custom = self.as_ref().custom.as_deref();
        let own = custom.and_then(|custom| Some((custom, custom.metric(metric)?)));
        if own.is_some_and(|(_, metric)| metric.disabled) {
            return None;
        }
        let mut text = String::with_capacity(1 << 10);
        let mut put = |name: &str, value: &str| {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{name}=\"{}\"", Value(value));
        };
        self.each(&mut |name, value| {
            if !own.is_some_and(|(_, metric)| metric.replaces(name)) {
                put(name, value);
            }
        });
        if let Some((custom, metric)) = own {
            custom.tags(metric).for_each(|(name, value)| put(name, value));
        }
        Some(text)
    }
}

impl Rendered for Labels {
    fn each(&self, put: &mut dyn FnMut(&str, &str)) {
        self.each("tcp", put);
    }
}

impl Rendered for RequestLabels {
    fn each(&self, put: &mut dyn FnMut(&str, &str)) {
        let RequestLabels { labels, kind } = self;
        labels.each(kind.protocol(), put);
        put("response_code", &kind.status.to_string());
        put("response_flags", &kind.flags.to_string());
        if kind.protocol() == "grpc" {
            put("grpc_response_status", &kind.grpc_status());
        }
    }
}

impl Labels {
    fn each(&self, protocol: &str, put: &mut dyn FnMut(&str, &str)) {
        put("reporter", self.direction.reporter());
        side(put, SOURCE, &self.source);
        side(put, DESTINATION, &self.destination);
        let (key, name) = self.service.as_ref().map(|(key, name)| (key, &**name)).unzip();
        put("destination_service", key.map_or("", |key| key.hostname()));
        put("destination_service_namespace", key.map_or("", |key| key.namespace()));
        put("destination_service_name", name.unwrap_or(""));
        put("request_protocol", protocol);
        put("connection_security_policy", self.security());
    }
}

/// Names of the labels of one end.
type Names = [&'static str; 10];

const SOURCE: Names = [
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "source_region",
    "source_zone",
];
const DESTINATION: Names = [
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "destination_region",
    "destination_zone",
];

fn side(put: &mut dyn FnMut(&str, &str), names: Names, side: &Side) {
    let app = side.app.as_deref();
    let name = app.map_or("", |app| &app.canonical_name);
    let revision = app.map_or("", |app| &app.canonical_revision);
    let principal = side.principal.as_ref().map(|identity| identity.to_string()).unwrap_or_default();
    let locality = side.locality.as_deref();
    let values = [
        app.map_or("", |app| &app.workload),
        name,
        revision,
        app.map_or("", |app| &app.namespace),
        &principal,
        name,
        revision,
        app.map_or("", |app| &app.cluster),
        locality.map_or("", |locality| &locality.region),
        locality.map_or("", |locality| &locality.zone),
    ];
    for (index, (name, value)) in names.into_iter().zip(values).enumerate() {
        // Only where they are known, as ztunnel does it.
        let of_place = index >= 8;
        if !(of_place && value.is_empty()) {
            put(name, value);
        }
    }
}

/// A label's value: escaped, `unknown` where there is none.
pub(super) struct Value<'a>(pub(super) &'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.0.is_empty() { "unknown" } else { self.0 };
        value.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            _ => f.write_char(c),
        })
    }
}
