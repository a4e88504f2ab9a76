use crate::base::OriginalDst;
use crate::config::Resource;
use std::collections::BTreeMap;

use super::*;
use crate::base::{Refusal, Rng};
use crate::config::proto;
use crate::mesh::testing::*;
use crate::mesh::{Mesh, Workload};

/// The decision for a connection of the pod `client`, in one line.
fn decide(mesh: &Mesh, dst: &str) -> String {
    decide_from(mesh, "client", dst, &mut Rng::seeded(1))
}

fn decide_from(mesh: &Mesh, source: &str, dst: &str, rng: &mut Rng) -> String {
    match outbound(mesh, &mesh.pod(source), OriginalDst::new(dst.parse().unwrap()), rng) {
        Outbound::Hbone(route) => {
            let service = route.service.map(|service| format!(" for {}", service.name)).unwrap_or_default();
            format!("hbone {} {} to {}{service}", route.dial, route.authority, route.destination.name)
        }
        Outbound::Plain(plain) => {
            let name = plain.destination.map(|workload| format!(" to {}", workload.name)).unwrap_or_default();
            let service = plain.service.map(|service| format!(" for {}", service.name)).unwrap_or_default();
            format!("plain {}{name}{service}", plain.addr)
        }
        Outbound::Http(routed) => format!("http {}", routed.service.name),
        Outbound::Tls(routed) => format!("tls {}", routed.service.name),
        Outbound::Passthrough { addr } => format!("passthrough {addr}"),
        Outbound::Governed(governed) => format!("governed {}", governed.destination.service),
        Outbound::Named => "named".to_owned(),
        Outbound::Refuse(reason) => format!("refuse {}", reason.name()),
    }
}

fn client() -> Resource {
    resource(pod("client", &["10.0.0.1", "fd00::1"]))
}

fn check<const N: usize>(mesh: &Mesh, table: [(&str, &str); N]) {
    for (dst, expected) in table {
        assert_eq!(decide(mesh, dst), expected, "to {dst}");
    }
}

#[test]
fn addresses_decide() {
    let sent = service("s", &["10.1.0.1", "fd01::1", "10.3.0.0/16"]);
    let outside = service("outside", &["10.1.0.2"]);
    let mesh = mesh([
        client(),
        resource(sent.clone()),
        resource(pod("a", &["10.0.0.2", "fd00::2"]).of(&sent, &[])),
        resource(pod("plain", &["10.0.0.3"]).of(&outside, &[]).plain()),
        resource(outside),
        resource(service("empty", &["10.1.0.9"])),
        resource(pod("sick", &["10.0.0.4"]).unhealthy()),
    ]);
    check(
        &mesh,
        [
            ("192.168.0.1:443", "passthrough 192.168.0.1:443"),
            ("[::ffff:192.168.0.1]:443", "passthrough 192.168.0.1:443"),
            ("10.0.0.2:1234", "hbone 10.0.0.2:15008 10.0.0.2:1234 to a"),
            ("[fd00::2]:1234", "hbone [fd00::2]:15008 [fd00::2]:1234 to a"),
            ("10.0.0.1:80", "hbone 10.0.0.1:15008 10.0.0.1:80 to client"),
            ("10.0.0.3:1234", "plain 10.0.0.3:1234 to plain"),
            ("10.0.0.4:80", "hbone 10.0.0.4:15008 10.0.0.4:80 to sick"),
            ("10.1.0.1:80", "hbone 10.0.0.2:15008 10.0.0.2:8080 to a for s"),
            ("[fd01::1]:80", "hbone [fd00::2]:15008 [fd00::2]:8080 to a for s"),
            ("10.3.1.2:80", "hbone 10.0.0.2:15008 10.0.0.2:8080 to a for s"),
            ("10.1.0.1:81", "refuse unknown_port"),
            ("10.1.0.2:80", "plain 10.0.0.3:8080 to plain for outside"),
            ("10.1.0.9:80", "refuse no_endpoint"),
            ("127.0.0.1:80", "passthrough 127.0.0.1:80"),
            ("127.0.0.1:15001", "refuse illegal_port"),
            ("127.0.0.1:15006", "refuse illegal_port"),
            ("127.1.2.3:15001", "refuse illegal_port"),
            ("[fd29:fca8:b7bf::1]:15001", "refuse illegal_port"),
            ("[fd29:fca8:b7bf::1]:80", "passthrough [fd29:fca8:b7bf::1]:80"),
            ("[::1]:15008", "refuse illegal_port"),
            ("[::ffff:127.0.0.1]:15008", "refuse illegal_port"),
            ("192.168.0.1:15008", "passthrough 192.168.0.1:15008"),
        ],
    );
}

#[test]
fn the_registry_decides_what_may_be_left_for() {
    let outside = service("outside", &["10.1.0.2"]);
    let addressed = service("addressed", &["10.3.0.0/16", "fd03::/64"]);
    let open = mesh([
        client(),
        resource(pod("a", &["10.0.0.2", "fd00::2"])),
        resource(pod("plain", &["10.0.0.3"]).of(&outside, &[]).plain()),
        resource(proto::Service {
            load_balancing: Some(proto::LoadBalancing { mode: proto::Mode::Passthrough as i32, ..Default::default() }),
            ..addressed
        }),
        resource(outside),
        resource(proto::Workload {
            network_mode: proto::NetworkMode::HostNetwork as i32,
            ..pod("host", &["192.168.0.7"])
        }),
    ]);
    let known = [
        ("10.0.0.2:1234", "hbone 10.0.0.2:15008 10.0.0.2:1234 to a"),
        ("[fd00::2]:1234", "hbone [fd00::2]:15008 [fd00::2]:1234 to a"),
        ("10.0.0.3:1234", "plain 10.0.0.3:1234 to plain"),
        ("10.1.0.2:80", "plain 10.0.0.3:8080 to plain for outside"),
        ("10.3.1.2:443", "plain 10.3.1.2:443 for addressed"),
        ("[fd03::9]:443", "plain [fd03::9]:443 for addressed"),
        ("127.0.0.1:80", "passthrough 127.0.0.1:80"),
        ("[::1]:80", "passthrough [::1]:80"),
        ("127.0.0.1:15001", "refuse illegal_port"),
    ];
    let unknown = ["192.168.0.1:443", "[::ffff:192.168.0.1]:443", "[fd09::1]:443", "192.168.0.7:80"];
    let with = |sent| open.apply(proto::TRAFFIC, [sent], &[]).0;
    let (any, only) = (proto::OutboundTrafficPolicy::AllowAny, proto::OutboundTrafficPolicy::RegistryOnly);
    for closed in [with(traffic("", only)), with(traffic("default", only))] {
        check(&closed, known);
        check(&closed, unknown.map(|dst| (dst, "refuse not_in_registry")));
    }
    for open in [with(traffic("", any)), with(traffic("other", only))] {
        check(&open, known);
        check(&open, [("192.168.0.1:443", "passthrough 192.168.0.1:443")]);
    }
    let selected = |mode| proto::Workload { outbound_traffic_policy: mode, ..pod("client", &["10.0.0.1", "fd00::1"]) };
    for (own, namespaces, left) in [
        (only as i32, any, "refuse not_in_registry"),
        (any as i32, only, "passthrough 192.168.0.1:443"),
        (7, any, "refuse not_in_registry"),
    ] {
        let mesh = with(traffic("default", namespaces)).and([resource(selected(own))]);
        check(&mesh, known);
        check(&mesh, [("192.168.0.1:443", left)]);
    }
}

#[test]
fn an_endpoints_own_port_wins() {
    let sent = proto::Service {
        ports: vec![
            proto::Port { service_port: 80, target_port: 8080, ..Default::default() },
            proto::Port { service_port: 81, target_port: 0, ..Default::default() },
        ],
        ..service("s", &["10.1.0.1"])
    };
    let mesh = mesh([
        client(),
        resource(sent.clone()),
        resource(pod("a", &["10.0.0.2"]).of(&sent, &[(80, 9090), (82, 9092)])),
        resource(pod("b", &["10.0.0.3"]).of(&sent, &[(81, 9091)])),
    ]);
    for _ in 0..20 {
        check(
            &mesh,
            [
                ("10.1.0.1:81", "hbone 10.0.0.3:15008 10.0.0.3:9091 to b for s"),
                ("10.1.0.1:82", "hbone 10.0.0.2:15008 10.0.0.2:9092 to a for s"),
            ],
        );
    }
    let spread = spread(&mesh, "10.1.0.1:80", 100);
    let expected = ["hbone 10.0.0.2:15008 10.0.0.2:9090 to a for s", "hbone 10.0.0.3:15008 10.0.0.3:8080 to b for s"];
    assert!(spread.keys().eq(expected), "{spread:?}");
}

/// How often each decision is made.
fn spread(mesh: &Mesh, dst: &str, times: usize) -> BTreeMap<String, usize> {
    let (mut rng, mut spread) = (Rng::seeded(7), BTreeMap::new());
    (0..times).for_each(|_| *spread.entry(decide_from(mesh, "client", dst, &mut rng)).or_default() += 1);
    spread
}

/// How often each pod is chosen, by name.
fn chosen(mesh: &Mesh, dst: &str) -> BTreeMap<String, usize> {
    let name = |decision: String| decision.split(' ').skip_while(|word| *word != "to").nth(1).unwrap().to_owned();
    spread(mesh, dst, 1000).into_iter().map(|(decision, count)| (name(decision), count)).collect()
}

fn names(chosen: &BTreeMap<String, usize>) -> Vec<&str> {
    chosen.keys().map(String::as_str).collect()
}

#[test]
fn endpoints_are_chosen_by_capacity() {
    let sent = service("s", &["10.1.0.1"]);
    let weighing = |name: &str, ip, capacity| proto::Workload { capacity, ..pod(name, &[ip]).of(&sent, &[]) };
    let even = mesh([
        client(),
        resource(sent.clone()),
        resource(weighing("a", "10.0.0.2", None)),
        resource(weighing("b", "10.0.0.3", Some(1))),
    ]);
    let counts = chosen(&even, "10.1.0.1:80");
    assert!(counts.values().all(|count| (400..600).contains(count)), "{counts:?}");
    let uneven = even.and([
        resource(weighing("a", "10.0.0.2", Some(9))),
        resource(weighing("c", "10.0.0.4", Some(0))),
        resource(weighing("d", "10.0.0.5", Some(100)).unhealthy()),
    ]);
    let counts = chosen(&uneven, "10.1.0.1:80");
    assert_eq!(names(&counts), ["a", "b"]);
    assert!((850..950).contains(&counts["a"]), "{counts:?}");
    let nobody = mesh([client(), resource(sent.clone()), resource(weighing("a", "10.0.0.2", Some(0)))]);
    assert_eq!(decide(&nobody, "10.1.0.1:80"), "refuse no_endpoint");
}

#[test]
fn unhealthy_endpoints_serve_only_where_the_service_allows() {
    let sent = service("s", &["10.1.0.1"]);
    let endpoints = |mesh: Mesh| {
        mesh.and([
            resource(pod("a", &["10.0.0.2"]).of(&sent, &[])),
            resource(pod("sick", &["10.0.0.3"]).of(&sent, &[]).unhealthy()),
        ])
    };
    let strict = endpoints(mesh([client(), resource(sent.clone())]));
    assert_eq!(names(&chosen(&strict, "10.1.0.1:80")), ["a"]);
    let balancing = proto::LoadBalancing { health_policy: proto::HealthPolicy::AllowAll as i32, ..Default::default() };
    let lenient = strict.and([resource(proto::Service { load_balancing: Some(balancing), ..sent.clone() })]);
    assert_eq!(names(&chosen(&lenient, "10.1.0.1:80")), ["a", "sick"]);
    let recovered = strict.and([resource(pod("sick", &["10.0.0.3"]).of(&sent, &[]))]);
    assert_eq!(names(&chosen(&recovered, "10.1.0.1:80")), ["a", "sick"]);
}

fn balanced(mode: proto::Mode, scopes: &[proto::Scope]) -> proto::Service {
    let balancing = proto::LoadBalancing {
        mode: mode as i32,
        routing_preference: scopes.iter().map(|scope| *scope as i32).collect(),
        health_policy: 0,
    };
    proto::Service { load_balancing: Some(balancing), ..service("s", &["10.1.0.1"]) }
}

/// Pods at all degrees of nearness to the client, which is in region `r`, zone `z`, subzone `s` and on `node-1`.
fn nearness(sent: &proto::Service, without: &[&str]) -> Mesh {
    let place = |pod: proto::Workload, region: &str, zone: &str, subzone: &str, node: &str| {
        let locality = Some(proto::Locality { region: region.into(), zone: zone.into(), subzone: subzone.into() });
        proto::Workload { locality, node: node.into(), ..pod }
    };
    let mut mesh =
        mesh([resource(place(pod("client", &["10.0.0.1"]), "r", "z", "s", "node-1")), resource(sent.clone())]);
    let places = [
        ("node", "r", "z", "s", "node-1"),
        ("subzone", "r", "z", "s", "node-2"),
        ("zone", "r", "z", "x", "node-2"),
        ("region", "r", "x", "x", "node-2"),
        ("far", "x", "x", "x", "node-2"),
    ];
    for (index, (name, region, zone, subzone, node)) in places.into_iter().enumerate() {
        if !without.contains(&name) {
            let endpoint = pod(name, &[&format!("10.0.1.{index}")]).of(sent, &[]);
            mesh = mesh.and([resource(place(endpoint, region, zone, subzone, node))]);
        }
    }
    mesh
}

#[test]
fn nearer_endpoints_are_preferred() {
    use proto::Mode::{Failover, Strict};
    use proto::Scope::{Network, Node, Region, Subzone, Zone};
    let all = &[Region, Zone, Subzone, Node][..];
    for (mode, scopes, without, expected) in [
        (Failover, all, &[][..], &["node"][..]),
        (Failover, all, &["node"], &["subzone"]),
        (Failover, all, &["node", "subzone"], &["zone"]),
        (Failover, all, &["node", "subzone", "zone"], &["region"]),
        (Failover, all, &["node", "subzone", "zone", "region"], &["far"]),
        (Failover, &[Region, Zone], &[], &["node", "subzone", "zone"]),
        (Failover, &[Zone, Region], &["node", "subzone", "zone"], &["far", "region"]),
        (Failover, &[], &[], &["far", "node", "region", "subzone", "zone"]),
        (Failover, &[Network, Region, Zone], &[], &["node", "subzone", "zone"]),
        (Failover, &[Network, Region, Zone], &["node", "subzone", "zone"], &["region"]),
        (Strict, all, &[], &["node"]),
        (Strict, &[Region, Zone], &[], &["node", "subzone", "zone"]),
        (Strict, &[Network, Region, Zone], &[], &["node", "subzone", "zone"]),
        (Strict, &[Node], &[], &["node"]),
    ] {
        let mesh = nearness(&balanced(mode, scopes), without);
        assert_eq!(names(&chosen(&mesh, "10.1.0.1:80")), expected, "{mode:?} {scopes:?} without {without:?}");
    }
    let nobody = nearness(&balanced(Strict, all), &["node"]);
    assert_eq!(decide(&nobody, "10.1.0.1:80"), "refuse no_endpoint");
}

#[test]
fn nearest_endpoints_share_by_capacity() {
    let sent = balanced(proto::Mode::Failover, &[proto::Scope::Node]);
    let mesh = nearness(&sent, &[]);
    let heavy = proto::Workload { capacity: Some(3), ..pod("heavy", &["10.0.2.1"]).of(&sent, &[]) };
    let counts = chosen(&mesh.and([resource(heavy)]), "10.1.0.1:80");
    assert_eq!(names(&counts), ["heavy", "node"]);
    assert!((700..800).contains(&counts["heavy"]), "{counts:?}");
    let idle = |name: &str, ip| proto::Workload { capacity: Some(0), ..pod(name, &[ip]).of(&sent, &[]) };
    let further = nearness(&sent, &["node"]).and([resource(idle("node", "10.0.1.0"))]);
    let expected = ["far", "region", "subzone", "zone"];
    assert_eq!(names(&chosen(&further, "10.1.0.1:80")), expected, "one without capacity does not count, however near");
}

#[test]
fn a_passthrough_service_keeps_the_address() {
    let sent = proto::Service {
        addresses: vec![vip_address("", "10.1.0.1"), vip_address("", "10.3.0.0/16")],
        ..balanced(proto::Mode::Passthrough, &[])
    };
    let mesh = mesh([client(), resource(sent.clone()), resource(pod("a", &["10.0.0.2"]).of(&sent, &[]))]);
    check(&mesh, [("10.1.0.1:80", "plain 10.1.0.1:80 for s"), ("10.3.0.9:99", "plain 10.3.0.9:99 for s")]);
}

#[test]
fn draining_endpoints_are_used_when_none_is_healthy() {
    let sent = service("s", &["10.1.0.1"]);
    let draining = |name, ip| resource(pod(name, &[ip]).of(&sent, &[]).draining());
    let sick = resource(pod("sick", &["10.0.0.9"]).of(&sent, &[]).unhealthy());
    let leaving =
        mesh([client(), resource(sent.clone()), draining("a", "10.0.0.2"), draining("b", "10.0.0.3"), sick.clone()]);
    assert_eq!(names(&chosen(&leaving, "10.1.0.1:80")), ["a", "b"]);
    let healthy = leaving.and([resource(pod("c", &["10.0.0.4"]).of(&sent, &[]))]);
    assert_eq!(names(&chosen(&healthy, "10.1.0.1:80")), ["c"]);
    check(&mesh([client(), resource(sent.clone()), sick]), [("10.1.0.1:80", "refuse no_endpoint")]);
}

#[test]
fn who_owns_an_address_decides_how_it_is_reached() {
    let named = service("named", &["10.1.0.1"]);
    let wide =
        proto::Service { addresses: vec![vip_address("", "10.0.0.0/16")], ..balanced(proto::Mode::Passthrough, &[]) };
    let by_slice = proto::Workload {
        uid: "Kubernetes/discovery.k8s.io/EndpointSlice/default/named/10.0.0.2".into(),
        network_mode: proto::NetworkMode::HostNetwork as i32,
        ..pod("named", &["10.0.0.2"]).of(&named, &[]).plain()
    };
    let before = mesh([client(), resource(named.clone()), resource(wide), resource(by_slice)]);
    check(
        &before,
        [("10.1.0.1:80", "plain 10.0.0.2:8080 to named for named"), ("10.0.0.2:99", "plain 10.0.0.2:99 for s")],
    );
    let owned = before.and([resource(pod("a", &["10.0.0.2"]))]);
    check(
        &owned,
        [
            ("10.1.0.1:80", "hbone 10.0.0.2:15008 10.0.0.2:8080 to a for named"),
            ("10.0.0.2:99", "hbone 10.0.0.2:15008 10.0.0.2:99 to a for s"),
        ],
    );
}

#[test]
fn the_family_of_the_address_is_kept_where_it_can_be() {
    use proto::IpFamilies::{Automatic, Dual, Ipv4Only, Ipv6Only};
    for (families, ips, dst, expected) in [
        (Automatic, &["10.0.0.2", "fd00::2"][..], "10.1.0.1:80", "10.0.0.2:15008"),
        (Automatic, &["10.0.0.2", "fd00::2"], "[fd01::1]:80", "[fd00::2]:15008"),
        (Dual, &["fd00::2"], "10.1.0.1:80", "[fd00::2]:15008"),
        (Ipv4Only, &["fd00::2", "10.0.0.2"], "[fd01::1]:80", "10.0.0.2:15008"),
        (Ipv6Only, &["10.0.0.2", "fd00::2"], "10.1.0.1:80", "[fd00::2]:15008"),
        (Ipv6Only, &["10.0.0.2"], "10.1.0.1:80", "no_address"),
        (Automatic, &[], "10.1.0.1:80", "no_address"),
        (Automatic, &["10.0.0.2", "10.0.0.3"], "10.0.0.3:80", "10.0.0.3:15008"),
    ] {
        let sent =
            proto::Service { ip_families: families as i32, ..service("s", &["10.1.0.1", "fd01::1", "10.0.0.3"]) };
        let mesh = mesh([client(), resource(sent.clone()), resource(pod("a", ips).of(&sent, &[]))]);
        assert_eq!(decide(&mesh, dst).split(' ').nth(1), Some(expected), "{families:?} {ips:?} {dst}");
    }
}

#[test]
fn an_endpoint_on_another_network_is_not_reached() {
    let sent = service("s", &["10.1.0.1"]);
    let remote = proto::Workload { network: "remote".into(), ..pod("remote", &["10.0.0.2"]).of(&sent, &[]) };
    let alone = mesh([client(), resource(sent.clone()), resource(remote)]);
    check(&alone, [("10.1.0.1:80", "refuse other_network"), ("10.0.0.2:80", "passthrough 10.0.0.2:80")]);
    let both = alone.and([resource(pod("near", &["10.0.0.3"]).of(&sent, &[]))]);
    assert_eq!(names(&chosen(&both, "10.1.0.1:80")), ["near"]);
}

#[test]
fn a_host_is_reached_through_a_service_only() {
    let sent = service("s", &["10.1.0.1"]);
    let host = proto::Workload {
        network_mode: proto::NetworkMode::HostNetwork as i32,
        ..pod("host", &["10.0.0.2"]).of(&sent, &[]).plain()
    };
    let mesh = mesh([client(), resource(sent.clone()), resource(host)]);
    check(&mesh, [("10.1.0.1:80", "plain 10.0.0.2:8080 to host for s"), ("10.0.0.2:80", "passthrough 10.0.0.2:80")]);
}

#[test]
fn hidden_services_are_not_found() {
    let sent = proto::Service {
        visibility: proto::Visibility::Namespace as i32,
        ..in_namespace(service("s", &["10.1.0.1"]), "other")
    };
    check(&mesh([client(), resource(sent)]), [("10.1.0.1:80", "passthrough 10.1.0.1:80")]);
}

/// A waypoint `wp` with service `waypoint` (10.1.0.9), whose port is 15008, and pods behind it.
fn behind_waypoint(at: &proto::GatewayAddress) -> Mesh {
    let waypoint = proto::Service {
        ports: vec![proto::Port { service_port: 15008, target_port: 15008, ..Default::default() }],
        ..service("waypoint", &["10.1.0.9"])
    };
    let sent = proto::Service { waypoint: Some(at.clone()), ..service("s", &["10.1.0.1"]) };
    let workload = proto::Workload { waypoint: Some(at.clone()), ..pod("a", &["10.0.0.2"]).of(&sent, &[]) };
    let open = service("open", &["10.1.0.2"]);
    mesh([
        client(),
        resource(pod("wp", &["10.0.0.9"]).of(&waypoint, &[])),
        resource(waypoint),
        resource(sent),
        resource(workload.of(&open, &[])),
        resource(open),
    ])
}

#[test]
fn waypoints_come_first() {
    for at in [
        waypoint("default/waypoint.default.svc.cluster.local", 15008),
        waypoint("10.1.0.9", 15008),
        waypoint("10.0.0.9", 15008),
    ] {
        check(
            &behind_waypoint(&at),
            [
                ("10.1.0.1:80", "hbone 10.0.0.9:15008 10.1.0.1:80 to wp for s"),
                ("10.1.0.1:99", "hbone 10.0.0.9:15008 10.1.0.1:99 to wp for s"),
                ("10.0.0.2:1234", "hbone 10.0.0.9:15008 10.0.0.2:1234 to wp"),
                // Service traffic does not use the waypoint of a workload.
                ("10.1.0.2:80", "hbone 10.0.0.2:15008 10.0.0.2:8080 to a for open"),
            ],
        );
        let (mesh, mut rng) = (behind_waypoint(&at), Rng::seeded(1));
        let from_waypoint = |dst, rng: &mut Rng| decide_from(&mesh, "wp", dst, rng);
        assert_eq!(from_waypoint("10.0.0.2:1234", &mut rng), "hbone 10.0.0.2:15008 10.0.0.2:1234 to a");
        assert_eq!(from_waypoint("10.1.0.1:80", &mut rng), "hbone 10.0.0.2:15008 10.0.0.2:8080 to a for s");
    }
}

#[test]
fn a_services_waypoint_is_not_for_an_address_that_is_a_workloads_own() {
    let at = waypoint("default/waypoint.default.svc.cluster.local", 15008);
    let sent = proto::Service { waypoint: Some(at.clone()), ..service("s", &["10.0.0.3"]) };
    let mesh = behind_waypoint(&at).and([resource(pod("b", &["10.0.0.3"]).of(&sent, &[])), resource(sent)]);
    check(&mesh, [("10.0.0.3:80", "hbone 10.0.0.3:15008 10.0.0.3:8080 to b for s")]);
}

#[test]
fn a_waypoint_that_is_not_there_refuses() {
    let elsewhere = proto::GatewayAddress {
        destination: Some(proto::GatewayDestination::Address(vip_address("remote", "10.0.0.9"))),
        hbone_mtls_port: 15008,
    };
    for (at, expected) in [
        (waypoint("default/nowhere", 15008), "refuse unknown_waypoint"),
        (waypoint("10.9.9.9", 15008), "refuse unknown_waypoint"),
        (waypoint("default/waypoint.default.svc.cluster.local", 15009), "refuse unknown_waypoint"),
        (elsewhere, "refuse other_network"),
    ] {
        let mesh = behind_waypoint(&at);
        check(&mesh, [("10.1.0.1:80", expected), ("10.0.0.2:80", expected)]);
    }
    let at = waypoint("default/waypoint.default.svc.cluster.local", 15008);
    let without = behind_waypoint(&at).without(&["Kubernetes//Pod/default/wp"]);
    check(&without, [("10.1.0.1:80", "refuse unknown_waypoint")]);
}

#[test]
fn a_passthrough_service_has_its_waypoint_too() {
    let at = waypoint("default/waypoint.default.svc.cluster.local", 15008);
    let sent = proto::Service { waypoint: Some(at.clone()), ..balanced(proto::Mode::Passthrough, &[]) };
    let mesh = behind_waypoint(&at).and([resource(sent)]);
    check(&mesh, [("10.1.0.1:80", "hbone 10.0.0.9:15008 10.1.0.1:80 to wp for s")]);
}

#[test]
fn a_waypoint_with_an_application_tunnel_needs_no_target_port() {
    let at = waypoint("default/waypoint.default.svc.cluster.local", 15008);
    let bare = proto::Service { ports: vec![], ..service("waypoint", &["10.1.0.9"]) };
    let tunnel = Some(proto::ApplicationTunnel { protocol: 0, port: 15088 });
    let sandwiched = proto::Workload { application_tunnel: tunnel, ..pod("wp", &["10.0.0.9"]).of(&bare, &[]) };
    let without = behind_waypoint(&at).and([resource(bare)]);
    check(&without, [("10.1.0.1:80", "refuse unknown_waypoint")]);
    let with = without.and([resource(sandwiched)]);
    check(&with, [("10.1.0.1:80", "hbone 10.0.0.9:15008 10.1.0.1:80 to wp for s")]);
}

#[test]
fn weighted_waypoints_share_the_connections() {
    let at = waypoint("default/waypoint.default.svc.cluster.local", 15008);
    let weighted = |one, other| {
        let waypoints = [("10.0.0.9", one), ("10.0.0.8", other)]
            .map(|(ip, weight)| proto::WeightedWaypoint { destination: Some(waypoint(ip, 15008)), weight });
        let sent = proto::Service {
            waypoint: Some(at.clone()),
            weighted_waypoints: waypoints.into(),
            ..service("s", &["10.1.0.1"])
        };
        behind_waypoint(&at).and([resource(sent), resource(pod("wp-2", &["10.0.0.8"]))])
    };
    let counts = chosen(&weighted(1, 3), "10.1.0.1:80");
    assert!((200..300).contains(&counts["wp"]) && (700..800).contains(&counts["wp-2"]), "{counts:?}");
    assert_eq!(names(&chosen(&weighted(0, 3), "10.1.0.1:80")), ["wp-2"]);
    assert_eq!(names(&chosen(&weighted(0, 0), "10.1.0.1:80")), ["wp"]);
}

#[test]
fn a_peer_may_be_its_workload_or_who_its_service_names() {
    let further = "spiffe://other/ns/x/sa/y";
    let sent =
        proto::Service { subject_alt_names: vec![further.into(), "dns.name".into()], ..service("s", &["10.1.0.1"]) };
    let mesh = mesh([client(), resource(sent.clone()), resource(pod("a", &["10.0.0.2"]).of(&sent, &[]))]);
    let accepted = |dst: &str| match outbound(
        &mesh,
        &mesh.pod("client"),
        OriginalDst::new(dst.parse().unwrap()),
        &mut Rng::seeded(1),
    ) {
        Outbound::Hbone(route) => route.identities.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let own = "spiffe://cluster.local/ns/default/sa/a";
    assert_eq!(accepted("10.0.0.2:80"), [own]);
    assert_eq!(accepted("10.1.0.1:80"), [own, further]);
}

fn ask(mesh: &Mesh, local: &str, method: &str, authority: &str, forwarded: Option<&str>) -> Result<Inbound, Refusal> {
    let request = ConnectRequest {
        method: method.as_bytes(),
        authority: authority.as_bytes(),
        forwarded: forwarded.map(str::as_bytes),
    };
    let local = mesh.pod(local);
    inbound(mesh, &local, local.addresses[0], &request)
}

/// What a CONNECT to the pod `local` comes to: the target, or status and reason.
fn answer(mesh: &Mesh, local: &str, authority: &str) -> String {
    match ask(mesh, local, "CONNECT", authority, None) {
        Ok(inbound) => inbound.target.to_string(),
        Err(reason) => format!("{} {}", reason.status(), reason.name()),
    }
}

#[test]
fn a_request_is_checked_against_its_destination() {
    let sent = proto::Service {
        ports: vec![
            proto::Port { service_port: 80, target_port: 8080, ..Default::default() },
            proto::Port { service_port: 81, target_port: 0, ..Default::default() },
            proto::Port { service_port: 82, target_port: 15001, ..Default::default() },
        ],
        ..service("s", &["10.1.0.1"])
    };
    let hidden = proto::Service {
        visibility: proto::Visibility::Namespace as i32,
        ..in_namespace(service("hidden", &[]), "other")
    };
    let mesh = mesh([
        resource(sent.clone()),
        resource(pod("a", &["10.0.0.2"]).of(&sent, &[(83, 8083)])),
        resource(pod("b", &["10.0.0.3"])),
        resource(pod("six", &["fd00::2"])),
        resource(hidden),
    ]);
    for (local, authority, expected) in [
        ("a", "10.0.0.2:8080", "10.0.0.2:8080"),
        ("a", "[::ffff:10.0.0.2]:8080", "10.0.0.2:8080"),
        ("six", "[fd00::2]:8080", "[fd00::2]:8080"),
        ("a", "10.0.0.3:8080", "400 address_mismatch"),
        ("a", "10.1.0.1:80", "400 address_mismatch"),
        ("a", "192.168.0.1:80", "400 address_mismatch"),
        ("a", "127.0.0.1:80", "400 address_mismatch"),
        ("a", "10.0.0.2", "400 bad_authority"),
        ("a", "", "400 bad_authority"),
        ("a", "10.0.0.2:15001", "503 illegal_port"),
        ("a", "10.0.0.2:15006", "503 illegal_port"),
        ("a", "10.0.0.2:15008", "503 illegal_port"),
        ("a", "s.default.svc.cluster.local:80", "10.0.0.2:8080"),
        ("a", "s.default.svc.cluster.local:83", "10.0.0.2:8083"),
        ("a", "s.default.svc.cluster.local:81", "503 unknown_port"),
        ("a", "s.default.svc.cluster.local:82", "503 illegal_port"),
        ("a", "s.default.svc.cluster.local:99", "503 unknown_port"),
        ("a", "nowhere.default.svc.cluster.local:80", "503 unknown_service"),
        ("a", "hidden.default.svc.cluster.local:80", "503 unknown_service"),
    ] {
        assert_eq!(answer(&mesh, local, authority), expected, "{authority:?} at {local}");
    }
    for method in ["GET", "connect", ""] {
        let refused = ask(&mesh, "a", method, "10.0.0.2:80", None).unwrap_err();
        assert_eq!((refused, refused.status()), (Refusal::MethodNotConnect, 400));
    }
}

#[test]
fn a_waypoint_answers_for_what_is_behind_it() {
    for at in ["default/waypoint.default.svc.cluster.local", "10.1.0.9", "10.0.0.9"] {
        let mesh = behind_waypoint(&waypoint(at, 15008));
        assert_eq!(answer(&mesh, "wp", "10.1.0.1:80"), "10.0.0.9:80", "a service's");
        assert_eq!(answer(&mesh, "wp", "10.0.0.2:80"), "10.0.0.9:80", "a workload's");
        assert_eq!(answer(&mesh, "wp", "10.1.0.2:80"), "400 address_mismatch", "without a waypoint");
        assert_eq!(answer(&mesh, "client", "10.1.0.1:80"), "400 address_mismatch", "not the waypoint");
    }
}

#[test]
fn an_application_tunnel_takes_all_addresses_at_its_port() {
    let with = |protocol, port| {
        let application_tunnel = Some(proto::ApplicationTunnel { protocol, port });
        mesh([resource(proto::Workload { application_tunnel, ..pod("a", &["10.0.0.2"]) })])
    };
    assert_eq!(answer(&with(0, 15088), "a", "192.168.0.1:80"), "10.0.0.2:15088");
    assert_eq!(answer(&with(0, 0), "a", "192.168.0.1:80"), "10.0.0.2:80");
    assert_eq!(answer(&with(0, 15008), "a", "192.168.0.1:80"), "503 illegal_port");
    assert_eq!(answer(&with(1, 15088), "a", "192.168.0.1:80"), "503 proxy_protocol");
}

#[test]
fn the_service_of_a_request_is_one_that_the_pod_is_of() {
    let (sent, other) = (service("s", &["10.1.0.1"]), service("other", &["10.1.0.2"]));
    let mesh = mesh([resource(sent.clone()), resource(other), resource(pod("a", &["10.0.0.2"]).of(&sent, &[]))]);
    let service = |authority: &str, forwarded: Option<&str>| {
        Some(ask(&mesh, "a", "CONNECT", authority, forwarded).unwrap().service?.name.to_string())
    };
    let host = "for=\"10.0.0.1:1\";host=s.default.svc.cluster.local";
    assert_eq!(service("10.0.0.2:8080", Some(host)).as_deref(), Some("s"));
    assert_eq!(service("10.0.0.2:8080", Some("host=other.default.svc.cluster.local")), None);
    assert_eq!(service("10.0.0.2:8080", None), None);
    assert_eq!(service("s.default.svc.cluster.local:80", None).as_deref(), Some("s"));
}

#[test]
fn plain_connections_are_for_the_pods_own_addresses() {
    let mesh = mesh([resource(pod("a", &["10.0.0.2", "fd00::2"]))]);
    let local: &Workload = &mesh.pod("a");
    for (dst, expected) in [
        ("10.0.0.2:80", Ok("10.0.0.2:80")),
        ("[::ffff:10.0.0.2]:80", Ok("10.0.0.2:80")),
        ("[fd00::2]:80", Ok("[fd00::2]:80")),
        ("10.0.0.3:80", Err(Refusal::AddressMismatch)),
        ("10.0.0.2:15001", Err(Refusal::IllegalPort)),
        ("10.0.0.2:15006", Err(Refusal::IllegalPort)),
        ("10.0.0.2:15008", Err(Refusal::IllegalPort)),
    ] {
        let decided = inbound_plain(local, OriginalDst::new(dst.parse().unwrap()));
        assert_eq!(decided, expected.map(|addr| addr.parse().unwrap()), "{dst}");
    }
}

/// How connections of `client` could do without a tunnel, in one line; the tunnel would send each to the same place.
fn directly(mesh: &Mesh, dst: &str) -> String {
    let wanted = OriginalDst::new(dst.parse().unwrap());
    let Ok(way) = direct(mesh, &mesh.pod("client"), wanted) else { return "tunnel".to_owned() };
    for seed in 1..20 {
        let Outbound::Hbone(route) = outbound(mesh, &mesh.pod("client"), wanted, &mut Rng::seeded(seed)) else {
            panic!("{dst}: {}", decide(mesh, dst));
        };
        assert_eq!(
            (route.authority.to_string(), &route.destination.uid),
            (way.target.to_string(), &way.destination.uid)
        );
        assert_eq!(route.service.map(|one| one.name.clone()), way.service.as_ref().map(|one| one.name.clone()));
    }
    format!("{} to {}", way.target, way.destination.name)
}

fn check_directly<const N: usize>(mesh: &Mesh, table: [(&str, &str); N]) {
    for (dst, expected) in table {
        assert_eq!(directly(mesh, dst), expected, "to {dst}");
    }
}

fn elsewhere(workload: proto::Workload) -> proto::Workload {
    proto::Workload { node: "node-2".into(), ..workload }
}

#[test]
fn pods_of_one_node_need_no_tunnel() {
    let tunnelled = proto::Workload {
        application_tunnel: Some(proto::ApplicationTunnel { protocol: 0, port: 80 }),
        ..pod("tunnelled", &["10.0.0.5"])
    };
    let host = proto::Workload { network_mode: 1, ..pod("host", &["10.0.0.6"]) };
    let mesh = mesh([
        client(),
        resource(pod("a", &["10.0.0.2", "fd00::2"])),
        resource(pod("plain", &["10.0.0.3"]).plain()),
        resource(elsewhere(pod("far", &["10.0.0.4"]))),
        resource(tunnelled),
        resource(host),
    ]);
    check_directly(
        &mesh,
        [
            ("10.0.0.2:1234", "10.0.0.2:1234 to a"),
            ("[::ffff:10.0.0.2]:1234", "10.0.0.2:1234 to a"),
            ("[fd00::2]:1234", "[fd00::2]:1234 to a"),
            ("10.0.0.2:15001", "tunnel"),
            ("10.0.0.2:15006", "tunnel"),
            ("10.0.0.2:15008", "tunnel"),
            ("10.0.0.1:80", "tunnel"),
            ("10.0.0.3:80", "tunnel"),
            ("10.0.0.4:80", "tunnel"),
            ("10.0.0.5:80", "tunnel"),
            ("10.0.0.6:80", "tunnel"),
            ("10.0.0.7:80", "tunnel"),
            ("127.0.0.1:80", "tunnel"),
        ],
    );
}

#[test]
fn a_service_needs_no_tunnel_where_it_leaves_no_choice() {
    let (sole, two, far) =
        (service("sole", &["10.1.0.1"]), service("two", &["10.1.0.2"]), service("far", &["10.1.0.3"]));
    let prefers_near = balanced(proto::Mode::Failover, &[proto::Scope::Node]).load_balancing;
    let near = proto::Service { load_balancing: prefers_near, ..service("near", &["10.1.0.4"]) };
    let sick = service("sick", &["10.1.0.5"]);
    let idle = proto::Workload { capacity: Some(0), ..pod("f", &["10.0.0.7"]).of(&sole, &[]) };
    let six = proto::Service { ip_families: 2, ..service("six", &["10.1.0.6"]) };
    let mesh = mesh([
        client(),
        resource(
            pod("a", &["10.0.0.2", "fd00::2"]).of(&sole, &[(80, 9000)]).of(&two, &[]).of(&near, &[]).of(&six, &[]),
        ),
        resource(pod("b", &["10.0.0.3"]).of(&two, &[])),
        resource(elsewhere(pod("c", &["10.0.0.4"]).of(&far, &[]).of(&near, &[]))),
        resource(pod("d", &["10.0.0.5"]).of(&sick, &[])),
        resource(pod("e", &["10.0.0.6"]).of(&sick, &[]).unhealthy()),
        resource(idle),
        resource(sole),
        resource(two),
        resource(far),
        resource(near),
        resource(sick),
        resource(six),
    ]);
    check_directly(
        &mesh,
        [
            ("10.1.0.1:80", "10.0.0.2:9000 to a"),
            ("10.1.0.1:81", "tunnel"),
            ("10.1.0.2:80", "tunnel"),
            ("10.1.0.3:80", "tunnel"),
            ("10.1.0.4:80", "10.0.0.2:8080 to a"),
            ("10.1.0.5:80", "10.0.0.5:8080 to d"),
            ("10.1.0.6:80", "tunnel"),
        ],
    );
    let grown = mesh.and([resource(pod("g", &["10.0.0.8"]).of(&service("sole", &["10.1.0.1"]), &[]))]);
    check_directly(&grown, [("10.1.0.1:80", "tunnel")]);
}

#[test]
fn what_has_to_pass_a_waypoint_needs_the_tunnel() {
    let at = waypoint("10.0.0.9", 15008);
    check_directly(&behind_waypoint(&at), [("10.0.0.2:1234", "tunnel"), ("10.1.0.1:80", "tunnel")]);
}
