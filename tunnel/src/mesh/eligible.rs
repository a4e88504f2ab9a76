//! All endpoints that a destination of routes may use, with what balancing among them needs to know.

use std::net::{IpAddr, SocketAddr};

use super::endpoints::{Chosen, Wanted};
use super::{service, Mesh, Workload};
use crate::base::Refusal;
use crate::routes::{Balancing, Destination, Distribute, Locality};

/// An endpoint for a destination.
#[derive(Clone, Copy, Debug)]
pub struct Eligible<'a> {
    pub chosen: Chosen<'a>,
    /// Its share among those of its priority; never 0.
    pub weight: u32,
    /// The least is used first.
    pub priority: u32,
}

/// So many units of weight are one percent of a distribution over localities.
const PERCENT: u64 = 10_000;

impl Mesh {
    /// Those of the destination's service and subset that a client may use; never none. `called`: by the client; its family
    /// is preferred, and for PASSTHROUGH it is the endpoint (Envoy's ORIGINAL_DST), as one of the addresses is for DYNAMIC_DNS.
    pub fn eligible(
        &self,
        source: &Workload,
        destination: &Destination,
        called: SocketAddr,
    ) -> Result<Vec<Eligible<'_>>, Refusal> {
        let service = self.service(&destination.service).ok_or(Refusal::UnknownService)?;
        let ip = called.ip();
        if let Some(waypoint) = service.waypoint().filter(|waypoint| !waypoint.is_served_by(self, source)) {
            return self.before(source, waypoint, service.address(source, destination.port, ip));
        }
        if matches!(destination.policy.balancing, Balancing::Passthrough | Balancing::DynamicDns) {
            let workload = self.workload_at(&source.network, ip).unwrap_or(Workload::outside());
            return Ok(vec![Eligible { chosen: Chosen::new(workload, ip, called.port()), weight: 1, priority: 0 }]);
        }
        let endpoints = self.endpoints(&service.key).ok_or(Refusal::NoEndpoint)?;
        let wanted = Wanted { source, service, port: destination.port, ip, gateway: false };
        let policy = destination.policy.locality.as_ref();
        let (mut eligible, mut missing) = (vec![], Refusal::NoEndpoint);
        for (nearness, fit) in endpoints.usable_for(wanted) {
            match fit {
                Ok(chosen) if destination.labels.fit(&chosen.workload.labels) => {
                    let priority = policy.map_or(nearness, |policy| priority(policy, source, chosen.workload));
                    let weight = chosen.workload.capacity;
                    eligible.push(Eligible { chosen: self.owner(chosen), weight, priority });
                }
                Ok(_) => {}
                Err(misses) => missing = misses,
            }
        }
        if let Some(shares) = policy.and_then(|policy| distribution(policy, source)) {
            distribute(&mut eligible, shares);
        }
        (!eligible.is_empty()).then_some(eligible).ok_or(missing)
    }

    /// Those of a destination with DYNAMIC_DNS at the addresses that the name which a client gives has; never none.
    pub fn resolved(
        &self,
        source: &Workload,
        destination: &Destination,
        addresses: &[IpAddr],
    ) -> Result<Vec<Eligible<'_>>, Refusal> {
        let service = self.service(&destination.service).ok_or(Refusal::UnknownService)?;
        let port = service.target_port(destination.port).unwrap_or(destination.port);
        let mut eligible = vec![];
        for ip in addresses.iter().filter(|ip| self.is_outside(source, **ip)) {
            eligible.extend(self.eligible(source, destination, SocketAddr::new(*ip, port))?);
        }
        (!eligible.is_empty()).then_some(eligible).ok_or(Refusal::NoAddress)
    }

    /// Whether a name of the world may lead a client to an address: to nothing of the client's own, nor past what is before a
    /// service of the mesh.
    fn is_outside(&self, source: &Workload, ip: IpAddr) -> bool {
        let reachable = source.addresses.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
        let own = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local(ip);
        let service = self.service_at(&source.network, ip, &source.identity.namespace);
        reachable && !own && service.is_none_or(|service| service.balancing == service::Balancing::Passthrough)
    }
}

/// Where clouds have their metadata, too.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// How many steps away an endpoint is.
fn priority(policy: &Locality, source: &Workload, endpoint: &Workload) -> u32 {
    if !policy.priority.is_empty() {
        let same = |key: &&crate::routes::PriorityKey| {
            let wanted = key.value.as_deref().unwrap_or_else(|| label(source, &key.key));
            label(endpoint, &key.key) == wanted
        };
        return (policy.priority.len() - policy.priority.iter().take_while(same).count()) as u32;
    }
    let (own, other) = (&source.locality, &endpoint.locality);
    match (own.region == other.region, own.zone == other.zone, own.subzone == other.subzone) {
        _ if !policy.failover => 0,
        (true, true, true) => 0,
        (true, true, false) => 1,
        (true, false, _) => 2,
        _ => match policy.failovers.iter().find(|(from, _)| **from == *own.region) {
            Some((_, to)) if **to != *other.region => 4,
            _ => 3,
        },
    }
}

/// A label, of which some are fields of a workload; empty: it has none.
fn label<'a>(workload: &'a Workload, key: &str) -> &'a str {
    match key {
        "topology.istio.io/network" => &workload.network,
        "topology.istio.io/cluster" => &workload.app.cluster,
        "topology.kubernetes.io/region" => &workload.locality.region,
        "topology.kubernetes.io/zone" => &workload.locality.zone,
        "topology.istio.io/subzone" => &workload.locality.subzone,
        "kubernetes.io/hostname" => &workload.node,
        key => workload.labels.get(key).unwrap_or_default(),
    }
}

fn distribution<'a>(policy: &'a Locality, source: &Workload) -> Option<&'a Distribute> {
    policy.distribute.iter().find(|distribute| is_in(&distribute.from, source))
}

/// Whether a workload is in a locality: "region/zone/subzone", of which pieces that are missing or `*` are any.
fn is_in(locality: &str, workload: &Workload) -> bool {
    let own = [&workload.locality.region, &workload.locality.zone, &workload.locality.subzone];
    locality.split('/').take_while(|piece| *piece != "*").zip(own).all(|(piece, own)| piece == &**own)
}

/// Shares out each locality's percents among its endpoints, by capacity. Those of no locality named get nothing.
fn distribute(eligible: &mut Vec<Eligible<'_>>, shares: &Distribute) {
    let place = |one: &Eligible<'_>| shares.to.iter().position(|(locality, _)| is_in(locality, one.chosen.workload));
    let mut sums = vec![0; shares.to.len()];
    eligible.iter().for_each(|one| _ = place(one).map(|place| sums[place] += u64::from(one.weight)));
    eligible.retain_mut(|one| {
        let Some(place) = place(one) else { return false };
        let percent = u64::from(shares.to[place].1);
        one.weight = (percent * PERCENT * u64::from(one.weight) / sums[place]).max(1) as u32;
        percent > 0
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::config::proto;
    use crate::routes::proto as routes;
    use crate::routes::testing::{scope, service as service_routes};
    use crate::routes::ServiceRoutes;

    /// A destination with a policy for localities.
    fn destination(locality: Option<routes::Locality>, labels: &[(&str, &str)]) -> Destination {
        let load_balancer = Some(routes::LoadBalancer { locality, ..Default::default() });
        let sent = routes::Destination {
            namespace: "default".into(),
            hostname: "web.default.svc.cluster.local".into(),
            port: 80,
            labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            policy: Some(routes::Policy { load_balancer, ..Default::default() }),
            ..Default::default()
        };
        let sent = service_routes(vec![routes::Scope { destinations: vec![sent], ..scope(vec![]) }]);
        let compiled = ServiceRoutes::compile(&sent).unwrap();
        Destination::clone(&compiled.ports[0].scopes[0].destinations[0])
    }

    /// At "region/zone/subzone", with labels and a weight.
    fn at(name: &str, ip: &str, locality: &str, labels: &[(&str, &str)], capacity: u32) -> proto::Workload {
        let mut pieces = locality.split('/').map(str::to_owned);
        let mut piece = || pieces.next().unwrap_or_default();
        proto::Workload {
            locality: Some(proto::Locality { region: piece(), zone: piece(), subzone: piece() }),
            labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            capacity: Some(capacity),
            ..pod(name, &[ip])
        }
    }

    fn a_mesh() -> Mesh {
        let web = service("web", &["10.1.0.1"]);
        let of = |workload: proto::Workload| resource(workload.of(&web, &[]));
        mesh([
            resource(web.clone()),
            resource(at("client", "10.0.0.1", "r1/z1/s1", &[("tier", "gold")], 1)),
            of(at("here", "10.0.0.2", "r1/z1/s1", &[("version", "v1")], 1)),
            of(at("zone", "10.0.0.3", "r1/z1/s2", &[("version", "v2"), ("tier", "gold")], 3)),
            of(at("region", "10.0.0.4", "r1/z2/s1", &[("version", "v1"), ("tier", "gold")], 1)),
            of(at("away", "10.0.0.5", "r2/z1/s1", &[("version", "v1")], 1)),
            of(at("far", "10.0.0.6", "r3/z1/s1", &[], 1)),
            of(at("sick", "10.0.0.7", "r1/z1/s1", &[("version", "v1")], 1).unhealthy()),
            of(at("idle", "10.0.0.8", "r1/z1/s1", &[("version", "v1")], 0)),
        ])
    }

    /// "name priority weight" of each.
    fn told(mesh: &Mesh, destination: &Destination) -> String {
        let eligible = mesh.eligible(&mesh.pod("client"), destination, "10.1.0.1:80".parse().unwrap()).unwrap();
        let mut told: Vec<_> = eligible
            .iter()
            .map(|one| format!("{} {} {}", one.chosen.workload.name, one.priority, one.weight))
            .collect();
        told.sort_unstable();
        told.join(", ")
    }

    #[test]
    fn subsets_are_endpoints_with_all_labels() {
        let mesh = a_mesh();
        let all = "away 0 1, far 0 1, here 0 1, region 0 1, zone 0 3";
        assert_eq!(told(&mesh, &destination(None, &[])), all);
        assert_eq!(told(&mesh, &destination(None, &[("version", "v1")])), "away 0 1, here 0 1, region 0 1");
        assert_eq!(told(&mesh, &destination(None, &[("version", "v1"), ("tier", "gold")])), "region 0 1");
        let destination = destination(None, &[("version", "v9")]);
        let none = mesh.eligible(&mesh.pod("client"), &destination, "10.1.0.1:80".parse().unwrap());
        assert_eq!(none.unwrap_err(), Refusal::NoEndpoint);
    }

    #[test]
    fn passthrough_leads_to_what_was_called() {
        let mesh = a_mesh();
        let mut destination = destination(None, &[]);
        destination.policy.balancing = Balancing::Passthrough;
        for (called, who) in [("10.0.0.4:7000", "region"), ("192.0.2.1:7000", "")] {
            let eligible = mesh.eligible(&mesh.pod("client"), &destination, called.parse().unwrap()).unwrap();
            let [Eligible { chosen, .. }] = eligible[..] else { panic!("{eligible:?}") };
            assert_eq!(SocketAddr::new(chosen.ip, chosen.port).to_string(), called);
            assert_eq!((&*chosen.workload.name, chosen.workload.is_outside()), (who, who.is_empty()));
        }
    }

    #[test]
    fn dynamic_dns_leads_outside_or_to_pods_by_their_tunnel() {
        let ports = vec![proto::Port { service_port: 80, target_port: 8080, ..Default::default() }];
        let wild = proto::Service { hostname: "*.example".into(), ports, ..service("wild", &["10.1.0.2"]) };
        let everywhere = proto::Service {
            load_balancing: Some(proto::LoadBalancing { mode: proto::Mode::Passthrough as i32, ..Default::default() }),
            ..service("everywhere", &["198.51.100.0/24"])
        };
        let mesh = a_mesh().and([resource(wild), resource(everywhere)]);
        let destination = Destination {
            service: "default/*.example".into(),
            port: 80,
            policy: crate::routes::Policy { balancing: Balancing::DynamicDns, ..Default::default() },
            ..destination(None, &[])
        };
        let to = |ips: &[&str]| {
            let ips: Vec<_> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            let eligible = mesh.resolved(&mesh.pod("client"), &destination, &ips)?;
            let told =
                |one: &Eligible<'_>| format!("{}:{} {}", one.chosen.ip, one.chosen.port, one.chosen.workload.name);
            Ok(eligible.iter().map(told).collect::<Vec<_>>())
        };
        let found = to(&["192.0.2.1", "10.0.0.4", "198.51.100.1", "2001:db8::1"]).unwrap();
        assert_eq!(found, ["192.0.2.1:8080 ", "10.0.0.4:8080 region", "198.51.100.1:8080 "]);
        for never in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "10.1.0.1", "10.1.0.2", "2001:db8::1"] {
            assert_eq!(to(&[never]), Err(Refusal::NoAddress), "{never}");
        }
        assert_eq!(to(&[]), Err(Refusal::NoAddress));
        for (host, name) in [
            ("Api.Example.", Some("api.example")),
            ("a.b.example", Some("a.b.example")),
            ("example", None),
            ("api.example.org", None),
            ("192.0.2.1", None),
        ] {
            assert_eq!(destination.name_of(host).as_deref(), name, "{host}");
        }
    }

    #[test]
    fn priorities_follow_localities_or_labels() {
        let mesh = a_mesh();
        let failover = routes::Locality { failover: true, ..Default::default() };
        let near = "away 3 1, far 3 1, here 0 1, region 2 1, zone 1 3";
        assert_eq!(told(&mesh, &destination(Some(failover.clone()), &[])), near);
        let failovers = vec![routes::Failover { from: "r1".into(), to: "r3".into() }];
        let hinted = "away 4 1, far 3 1, here 0 1, region 2 1, zone 1 3";
        assert_eq!(told(&mesh, &destination(Some(routes::Locality { failovers, ..failover }), &[])), hinted);
        for (keys, expected) in [
            (
                vec!["topology.kubernetes.io/region", "topology.kubernetes.io/zone"],
                "away 2 1, far 2 1, here 0 1, region 1 1, zone 0 3",
            ),
            (vec!["tier"], "away 1 1, far 1 1, here 1 1, region 0 1, zone 0 3"),
            (vec!["version=v1"], "away 0 1, far 1 1, here 0 1, region 0 1, zone 1 3"),
            (vec!["kubernetes.io/hostname", "tier"], "away 1 1, far 1 1, here 1 1, region 0 1, zone 0 3"),
        ] {
            let priority = keys.iter().map(|key| key.to_string()).collect();
            let locality = routes::Locality { priority, ..Default::default() };
            assert_eq!(told(&mesh, &destination(Some(locality), &[])), expected, "{keys:?}");
        }
    }

    #[test]
    fn shares_of_localities_are_shared_out_by_capacity() {
        let distribute = |from: &str, to: &[(&str, u32)]| routes::Locality {
            distribute: vec![routes::Distribute {
                from: from.into(),
                to: to.iter().map(|(locality, share)| (locality.to_string(), *share)).collect(),
            }],
            ..Default::default()
        };
        let mesh = a_mesh();
        for (from, to, expected) in [
            ("r1/*", &[("r1/z1/*", 80), ("r2/*", 20)][..], "away 0 200000, here 0 200000, zone 0 600000"),
            ("r1/z1/s1", &[("r3", 100)], "far 0 1000000"),
            ("*", &[("r1/z1/s1", 90), ("r1/z2/*", 10), ("r2", 0)], "here 0 900000, region 0 100000"),
            ("r2/*", &[("r3", 100)], "away 0 1, far 0 1, here 0 1, region 0 1, zone 0 3"),
        ] {
            assert_eq!(told(&mesh, &destination(Some(distribute(from, to)), &[])), expected, "{from}");
        }
    }
}
