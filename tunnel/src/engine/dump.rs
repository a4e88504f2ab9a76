//! The configuration in force, for the admin endpoint.
use crate::engine::Core;
use crate::mesh::{Health, Mesh, Service, Workload};
use crate::observability::{Metric, Scope, Side};
use crate::policy::Policy;
use crate::tls::credentials::Credentials;
use serde_json::{json, Value};

/// A JSON object: workloads, services, policies, what may leave the mesh (namespace empty) or a namespace, what
/// is told of whose traffic, what DNS has answered
/// for names of endpoints and those that clients give, certificates with their end in Unix seconds, revocation lists, pods. Nothing in it is secret.
pub fn dump(core: &Core) -> String {
    let mesh = core.mesh();
    let mut traffic = vec![];
    mesh.traffic(|namespace, outbound| {
        traffic.push(json!({ "namespace": namespace, "outbound_traffic_policy": outbound.name() }));
    });
    let lookups = core.lookups().answers();
    let names = lookups.iter().map(|(name, addresses)| (name, addresses)).chain(mesh.answers());
    let names = names.map(|(name, addresses)| (name.to_string(), json!(**addresses)));
    json!({
        "direct": core.direct(),
        "workloads": mesh.workloads().map(|one| workload(one)).collect::<Vec<_>>(),
        "services": mesh.services().map(|one| service(&mesh, one)).collect::<Vec<_>>(),
        "policies": mesh.policies().map(|one| policy(one)).collect::<Vec<_>>(),
        "traffic": traffic,
        "telemetry": mesh.telemetry().all().map(|(name, scope)| telemetry(name, scope)).collect::<Vec<_>>(),
        "names": names.collect::<serde_json::Map<_, _>>(),
        "crl": core.crl(),
        "certificates": core.credentials().iter().map(|(identity, own)| certificate(&identity.to_string(), own))
            .collect::<Vec<_>>(),
        "pods": core.pods(),
    })
    .to_string()
}

/// What a Telemetry says, and of whose traffic.
fn telemetry(name: &str, scope: &Scope) -> Value {
    json!({ "name": name, "client": side(&scope.client), "server": side(&scope.server) })
}

fn side(side: &Side) -> Value {
    let metric = |metric: &Metric| {
        json!({
            "name": format!("{:?}", metric.name),
            "disabled": metric.disabled,
            "tags": metric.tags.keys().map(|tag| &**tag).collect::<Vec<_>>(),
            "removed": metric.removed,
        })
    };
    json!({
        "metrics": side.metrics.iter().map(metric).collect::<Vec<_>>(),
        "logs": side.logging.as_ref().map(|logging| logging.logs.iter().map(|log| &*log.name).collect::<Vec<_>>()),
        "traces": side.tracing.as_ref().map(|tracing| json!({
            "providers": tracing.provider.iter().map(|one| &*one.name).collect::<Vec<_>>(),
            "sampling": f64::from(tracing.sampling) / 100.0,
        })),
    })
}

fn workload(workload: &Workload) -> Value {
    json!({
        "uid": &*workload.uid.0,
        "namespace": &*workload.identity.namespace,
        "name": &*workload.name,
        "workload": &*workload.app.workload,
        "identity": workload.identity.to_string(),
        "addresses": workload.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "node": &*workload.node,
        "tunnel": format!("{:?}", workload.tunnel).to_uppercase(),
        "waypoint": workload.waypoint().is_some(),
        "healthy": workload.health == Health::Healthy,
        "services": workload.services.iter().map(|(key, _)| &**key.text()).collect::<Vec<_>>(),
    })
}

fn service(mesh: &Mesh, service: &Service) -> Value {
    let (healthy, all) = mesh.endpoints(&service.key).map_or((0, 0), |endpoints| endpoints.count());
    let routed = |port: u16| mesh.routes(service.key.text(), port).is_some();
    json!({
        "key": &**service.key.text(),
        "name": &*service.name,
        "addresses": service.vips.iter().map(|vip| vip.ip.to_string()).collect::<Vec<_>>(),
        "ports": service.ports.iter().map(|port| json!([port.service, port.target])).collect::<Vec<_>>(),
        "routed_ports": service.ports.iter().map(|one| one.service).filter(|one| routed(*one)).collect::<Vec<_>>(),
        "waypoint": service.waypoint.is_some() || !service.weighted_waypoints.is_empty(),
        "healthy": healthy,
        "endpoints": all,
    })
}

fn policy(policy: &Policy) -> Value {
    json!({
        "name": &*policy.name,
        "action": policy.action_name(),
        "scope": policy.reach.name(),
        "rules": policy.rules.len(),
        "dry_run": policy.dry_run,
        "refused": &*policy.refused,
    })
}

fn certificate(identity: &str, own: &Credentials) -> Value {
    let (chain, roots) = own.certificates();
    json!({
        "identity": identity,
        "not_after": own.not_after,
        "chain": chain,
        "roots": roots,
    })
}
