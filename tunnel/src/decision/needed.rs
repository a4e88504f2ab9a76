//! What the mesh has to know before a connection can be decided, where it knows only what was asked for.

use super::Routed;
use crate::base::OriginalDst;
use std::net::IpAddr;

use crate::mesh::{Gateway, GatewayDestination, Mesh, Workload};

/// Something by the name under which the control plane has it, and whether the mesh knows it already.
#[derive(Debug, PartialEq, Eq)]
pub struct Needed {
    pub name: String,
    pub known: bool,
}

/// What a connection of `source` to `dst` needs: what is at the address, and the proxies that are to be passed.
pub fn needed(mesh: &Mesh, source: &Workload, dst: OriginalDst) -> Vec<Needed> {
    let workload = mesh.workload_at(&source.network, dst.ip());
    let service = mesh.service_at(&source.network, dst.ip(), &source.identity.namespace);
    // One that has the address within a prefix may not be the one that is meant.
    let exact = service.filter(|service| service.vips.iter().any(|vip| vip.ip == dst.ip()));
    let known = workload.is_some() || exact.is_some();
    let mut needed = vec![Needed { name: address_name(&source.network, dst.ip()), known }];
    match (service, workload) {
        (Some(service), _) => {
            if let Some(routed) = Routed::of(mesh, source, service, workload, dst) {
                let client = Routed::client(source);
                let scopes = routed.port.scopes_for(&client);
                let destinations = scopes.flat_map(|scope| &scope.destinations).map(|destination| &destination.service);
                needed.extend(
                    destinations.map(|name| Needed { name: name.to_string(), known: mesh.service(name).is_some() }),
                );
            }
            let weighted = service.weighted_waypoints.iter().map(|(waypoint, _)| waypoint);
            needed.extend(service.waypoint.iter().chain(weighted).map(|waypoint| gateway(mesh, source, waypoint)));
        }
        (None, Some(workload)) => needed.extend(workload.waypoint().map(|waypoint| gateway(mesh, source, waypoint))),
        (None, None) => {}
    }
    needed
}

/// The name of what is at an address.
pub fn address_name(network: &str, ip: IpAddr) -> String {
    format!("{network}/{ip}")
}

fn gateway(mesh: &Mesh, source: &Workload, gateway: &Gateway) -> Needed {
    match &gateway.destination {
        GatewayDestination::Service(key) => {
            Needed { name: key.text().to_string(), known: mesh.service(key.text()).is_some() }
        }
        GatewayDestination::Address(at) => {
            let service = || mesh.service_at(&at.network, at.ip, &source.identity.namespace).is_some();
            let known = mesh.workload_at(&at.network, at.ip).is_some() || service();
            Needed { name: address_name(&at.network, at.ip), known }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::proto;
    use crate::mesh::testing::*;

    fn names(mesh: &Mesh, dst: &str) -> Vec<(String, bool)> {
        let dst = OriginalDst::new(dst.parse().unwrap());
        needed(mesh, &mesh.pod("client"), dst).into_iter().map(|needed| (needed.name, needed.known)).collect()
    }

    #[test]
    fn an_address_is_needed_until_it_is_known() {
        let before = mesh([resource(pod("client", &["10.0.0.1"]))]);
        assert_eq!(names(&before, "10.1.0.1:80"), [("/10.1.0.1".to_owned(), false)]);
        let wide = before.and([resource(service("wide", &["10.1.0.0/16"]))]);
        assert_eq!(names(&wide, "10.1.0.1:80"), [("/10.1.0.1".to_owned(), false)]);
        let exact = wide.and([resource(service("web", &["10.1.0.1"]))]);
        assert_eq!(names(&exact, "10.1.0.1:80"), [("/10.1.0.1".to_owned(), true)]);
        assert_eq!(names(&exact, "10.0.0.1:80"), [("/10.0.0.1".to_owned(), true)]);
    }

    #[test]
    fn so_is_a_waypoint() {
        let by_name = waypoint("default/proxy.default.svc.cluster.local", 15008);
        let guarded = proto::Service { waypoint: Some(by_name), ..service("web", &["10.1.0.1"]) };
        let before = mesh([resource(pod("client", &["10.0.0.1"])), resource(guarded)]);
        let name = key(&service("proxy", &[]));
        assert_eq!(names(&before, "10.1.0.1:80")[1], (name.clone(), false));
        assert_eq!(names(&before.and([resource(service("proxy", &[]))]), "10.1.0.1:80")[1], (name, true));
        let at = proto::Workload { waypoint: Some(waypoint("10.0.0.9", 15008)), ..pod("a", &["10.0.0.2"]) };
        assert_eq!(names(&before.and([resource(at)]), "10.0.0.2:80")[1], ("/10.0.0.9".to_owned(), false));
    }
}
