//! The configuration in force, for the admin endpoint.
use crate::engine::Core;
use crate::mesh::Health;
use serde_json::{json, Value};

/// A JSON object: workloads, services, policies by name, what may leave the mesh (namespace empty) or a namespace,
/// certificates with their end in Unix seconds, revocation
/// lists, pods.
pub fn dump(core: &Core) -> String {
    let mesh = core.mesh();
    let workloads = mesh.workloads().map(|workload| {
        json!({
            "uid": &*workload.uid.0,
            "name": &*workload.name,
            "identity": workload.identity.to_string(),
            "addresses": workload.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "node": &*workload.node,
            "tunnel": format!("{:?}", workload.tunnel).to_uppercase(),
            "healthy": workload.health == Health::Healthy,
            "services": workload.services.iter().map(|(key, _)| &**key.text()).collect::<Vec<_>>(),
        })
    });
    let services = mesh.services().map(|service| {
        json!({
            "key": &**service.key.text(),
            "addresses": service.vips.iter().map(|vip| vip.ip.to_string()).collect::<Vec<_>>(),
            "ports": service.ports.iter().map(|port| json!([port.service, port.target])).collect::<Vec<_>>(),
        })
    });
    let mut traffic = vec![];
    mesh.traffic(|namespace, outbound| {
        traffic.push(json!({ "namespace": namespace, "outbound_traffic_policy": outbound.name() }));
    });
    let certificates = core
        .certificates()
        .into_iter()
        .map(|(identity, not_after)| json!({ "identity": identity.to_string(), "not_after": not_after }));
    json!({
        "direct": core.direct(),
        "workloads": workloads.collect::<Vec<Value>>(),
        "services": services.collect::<Vec<Value>>(),
        "policies": mesh.policies().map(|policy| &*policy.name).collect::<Vec<_>>(),
        "traffic": traffic,
        "crl": core.crl(),
        "certificates": certificates.collect::<Vec<Value>>(),
        "pods": core.pods(),
    })
    .to_string()
}
