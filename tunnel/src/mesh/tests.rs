use super::testing::*;
use super::*;

const A: &str = "Kubernetes//Pod/default/a";

fn default(name: &str) -> String {
    format!("default/{name}.default.svc.cluster.local")
}

#[test]
fn defaults_are_filled_in() {
    let sent = proto::Workload { service_account: String::new(), ..pod("a", &["10.0.0.1"]) };
    let mesh = mesh([resource(sent)]);
    let workload = mesh.workload(A).unwrap();
    assert_eq!(workload.identity.to_string(), "spiffe://cluster.local/ns/default/sa/default");
    assert_eq!(&*workload.app.cluster, "Kubernetes");
    assert_eq!((workload.capacity, workload.health, workload.tunnel), (1, Health::Healthy, TunnelProtocol::Hbone));
    assert_eq!(workload.app.kind, "deployment");
    assert!(workload.waypoint().is_none() && workload.application_tunnel().is_none());
}

#[test]
fn equal_parts_of_workloads_are_shared() {
    let replica = |name: &str, ip| proto::Workload { workload_name: "a".into(), ..pod(name, &[ip]) };
    let mesh = mesh([resource(replica("a-1", "10.0.0.1")), resource(replica("a-2", "10.0.0.2"))]);
    let (one, two) = (mesh.pod("a-1"), mesh.pod("a-2"));
    assert!(Arc::ptr_eq(&one.app, &two.app) && Arc::ptr_eq(&one.identity, &two.identity));
    assert!(Arc::ptr_eq(&one.identities, &two.identities) && Arc::ptr_eq(&one.locality, &two.locality));
}

#[test]
fn a_workload_is_found_until_it_is_removed() {
    let before = mesh([resource(pod("a", &["10.0.0.1", "fd00::1"]))]);
    for ip in ["10.0.0.1", "fd00::1"] {
        assert_eq!(before.at(ip), Some("a"));
    }
    let moved = before.and([resource(pod("a", &["10.0.0.2"]))]);
    assert_eq!((moved.at("10.0.0.1"), moved.at("fd00::1"), moved.at("10.0.0.2")), (None, None, Some("a")));
    let after = moved.without(&[A]);
    assert_eq!((after.at("10.0.0.2"), after.workloads().len(), after.networks.len()), (None, 0, 0));
    assert_eq!(before.at("10.0.0.1"), Some("a"), "older versions stay as they were");
}

#[test]
fn a_mapped_address_is_the_same_address() {
    let mesh = mesh([resource(pod("a", &["::ffff:10.0.0.1"]))]);
    assert_eq!(mesh.at("10.0.0.1"), Some("a"));
}

#[test]
fn networks_do_not_meet() {
    let other = proto::Workload { network: "other".into(), ..pod("b", &["10.0.0.1"]) };
    let mesh = mesh([resource(pod("a", &["10.0.0.1"])), resource(other)]);
    assert_eq!(mesh.at("10.0.0.1"), Some("a"));
    assert_eq!(&*mesh.workload_at("other", "10.0.0.1".parse().unwrap()).unwrap().name, "b");
}

#[test]
fn a_hosts_address_is_nobodys() {
    let host = proto::Workload { network_mode: proto::NetworkMode::HostNetwork as i32, ..pod("a", &["10.0.0.1"]) };
    assert_eq!(mesh([resource(host)]).at("10.0.0.1"), None);
}

#[test]
fn the_better_claim_to_an_address_wins_whoever_came_first() {
    let named = |name: &str, uid: &str, hbone: bool| {
        let workload = proto::Workload { uid: uid.into(), ..pod(name, &["10.0.0.1"]) };
        if hbone {
            workload
        } else {
            workload.plain()
        }
    };
    // The best first.
    let claims = [
        named("pod-hbone", "c//Pod/default/z", true),
        named("pod", "c//Pod/default/a", false),
        named("entry-hbone", "c/networking.istio.io/WorkloadEntry/default/b", true),
        named("entry", "c/networking.istio.io/WorkloadEntry/default/a", false),
        named("entry-later", "c/networking.istio.io/WorkloadEntry/default/c", false),
    ];
    for (index, better) in claims.iter().enumerate() {
        for worse in &claims[index + 1..] {
            let (better_first, worse_first) = (mesh([resource(better.clone())]), mesh([resource(worse.clone())]));
            let both = [better_first.and([resource(worse.clone())]), worse_first.and([resource(better.clone())])];
            for both in both {
                assert_eq!(both.at("10.0.0.1"), Some(better.name.as_str()), "against {}", worse.name);
                assert_eq!(both.without(&[&better.uid]).at("10.0.0.1"), Some(worse.name.as_str()));
                assert_eq!(both.without(&[&worse.uid]).at("10.0.0.1"), Some(better.name.as_str()));
            }
        }
    }
}

#[test]
fn a_local_pod_is_found_by_its_names() {
    let elsewhere = proto::Workload { node: "node-2".into(), ..pod("b", &["10.0.0.2"]) };
    let mesh = mesh([resource(pod("a", &["10.0.0.1"])), resource(elsewhere)]);
    let (a, b) = (mesh.pod("a"), mesh.pod("b"));
    assert_eq!(mesh.local(&a.key()).unwrap().uid, a.uid);
    assert!(mesh.local(&b.key()).is_none());
    assert!(mesh.local(&PodKey { service_account: "other".into(), ..a.key() }).is_none());
    assert!(mesh.without(&[A]).local(&a.key()).is_none());
}

#[test]
fn without_a_node_name_all_pods_are_local() {
    let mesh = Mesh::new("").and([resource(pod("a", &["10.0.0.1"]))]);
    assert!(mesh.local(&mesh.pod("a").key()).is_some());
}

#[test]
fn a_service_is_found_until_it_is_removed() {
    let sent = service("s", &["10.1.0.1", "fd01::1", "10.2.0.0/16"]);
    let before = mesh([resource(sent.clone())]);
    for ip in ["10.1.0.1", "fd01::1", "10.2.3.4"] {
        assert_eq!(before.vip(ip, "default"), Some(key(&sent).as_str()));
    }
    assert!(before.service(&key(&sent)).is_some() && before.service_named(&sent.hostname, "other").is_some());
    let moved = before.and([resource(service("s", &["10.1.0.2"]))]);
    let found = ["10.1.0.1", "fd01::1", "10.2.3.4", "10.1.0.2"].map(|ip| moved.vip(ip, "default").is_some());
    assert_eq!(found, [false, false, false, true]);
    let after = moved.without(&[&key(&sent)]);
    assert!(after.vip("10.1.0.2", "default").is_none() && after.service_named(&sent.hostname, "default").is_none());
    assert_eq!((after.services().len(), after.networks.len()), (0, 0));
}

#[test]
fn a_shared_address_or_name_means_the_preferred_service() {
    let shared = || service("s", &["10.1.0.1"]);
    let (a, b) = (in_namespace(shared(), "a"), in_namespace(shared(), "b"));
    let mut canonical = in_namespace(shared(), "c");
    canonical.canonical = true;
    let mut hidden = in_namespace(shared(), "0");
    hidden.visibility = proto::Visibility::Namespace as i32;
    for (services, from, expected) in [
        (vec![&a, &b], "a", Some("a")),
        (vec![&a, &b], "b", Some("b")),
        (vec![&b, &a], "other", Some("a")),
        (vec![&a, &b, &canonical], "other", Some("c")),
        (vec![&canonical, &b, &a], "b", Some("b")),
        (vec![&hidden, &b], "other", Some("b")),
        (vec![&hidden, &b], "0", Some("0")),
        (vec![&hidden], "other", None),
    ] {
        let mesh = services.iter().fold(Mesh::new(""), |mesh, service| mesh.and([resource((*service).clone())]));
        let expected = expected.map(|namespace| format!("{namespace}/{}", a.hostname));
        assert_eq!(mesh.vip("10.1.0.1", from), expected.as_deref(), "{from}");
        let named = mesh.service_named(&a.hostname, from).map(|service| service.key.to_string());
        assert_eq!(named, expected, "{from}");
    }
}

#[test]
fn prefixes_rank_by_namespace_then_length_and_yield_to_an_exact_address() {
    let sent = [
        ("exact", "x", "10.1.2.3"),
        ("wide", "a", "10.0.0.0/8"),
        ("narrow", "b", "10.1.0.0/16"),
        ("narrower", "b", "10.1.2.0/24"),
        ("all", "c", "0.0.0.0/0"),
        ("six", "a", "fd00::/8"),
    ];
    let with_prefix = |(name, namespace, prefix)| resource(in_namespace(service(name, &[prefix]), namespace));
    let mesh = mesh(sent.map(with_prefix));
    for (ip, from, expected) in [
        ("10.1.2.3", "a", "exact"),
        ("10.1.2.4", "a", "wide"),
        ("10.1.2.4", "b", "narrower"),
        ("10.1.3.4", "b", "narrow"),
        ("10.1.2.4", "other", "narrower"),
        ("10.1.3.4", "other", "narrow"),
        ("10.9.9.9", "other", "wide"),
        ("10.1.2.4", "c", "all"),
        ("192.168.0.1", "other", "all"),
        ("fdab::1", "other", "six"),
    ] {
        let found = mesh.vip(ip, from).unwrap();
        assert!(found.contains(&format!("/{expected}.")), "{ip} from {from}: {found}");
    }
    assert_eq!(mesh.vip("fe80::1", "a"), None);
    let without = mesh.without(&["b/narrower.default.svc.cluster.local"]);
    assert!(without.vip("10.1.2.4", "other").unwrap().contains("/narrow."));
}

#[test]
fn an_endpoint_may_come_before_its_service() {
    let sent = service("s", &["10.1.0.1"]);
    let early = mesh([resource(pod("a", &["10.0.0.1"]).of(&sent, &[]))]);
    assert_eq!(early.vip("10.1.0.1", "default"), None);
    let complete = early.and([resource(sent.clone())]);
    assert_eq!(complete.endpoint_names(&sent), ["a"]);
    let again = complete.and([resource(proto::Service { canonical: true, ..sent.clone() })]);
    assert_eq!(again.endpoint_names(&sent), ["a"], "a service keeps its endpoints when it changes");
    let back = again.without(&[&key(&sent)]).and([resource(sent.clone())]);
    assert_eq!(back.endpoint_names(&sent), ["a"], "and when it comes back");
    assert!(early.without(&[A]).endpoints.is_empty());
}

#[test]
fn the_order_in_a_push_does_not_matter() {
    let sent = service("s", &["10.1.0.1"]);
    let (a, b) = (pod("a", &["10.0.0.1"]).of(&sent, &[]), pod("b", &["10.0.0.1"]).of(&sent, &[(80, 81)]));
    let resources = [resource(sent.clone()), resource(a), resource(b)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mesh = mesh(order.map(|index| resources[index].clone()));
        assert_eq!(mesh.endpoint_names(&sent), ["a", "b"]);
        assert_eq!(mesh.at("10.0.0.1"), Some("a"));
        assert_eq!(mesh.vip("10.1.0.1", "default"), Some(key(&sent).as_str()));
    }
}

#[test]
fn a_resource_that_is_removed_and_sent_in_one_push_stays() {
    let sent = service("s", &["10.1.0.1"]);
    let before = mesh([resource(pod("a", &["10.0.0.1"]).of(&sent, &[])), resource(sent.clone())]);
    let resources = [resource(pod("a", &["10.0.0.2"]).of(&sent, &[]))];
    let (after, _) = before.apply(proto::ADDRESS, resources, &[A.to_owned(), "unknown".to_owned()]);
    assert_eq!((after.at("10.0.0.1"), after.at("10.0.0.2")), (None, Some("a")));
    assert_eq!(after.endpoint_names(&sent), ["a"]);
}

#[test]
fn endpoints_follow_their_workloads() {
    let (one, two) = (service("one", &[]), service("two", &[]));
    let before =
        mesh([resource(pod("a", &["10.0.0.1"]).of(&one, &[])), resource(pod("b", &["10.0.0.2"]).of(&one, &[]))]);
    assert_eq!(before.endpoint_names(&one), ["a", "b"]);
    let moved = before.and([resource(pod("a", &["10.0.0.1"]).of(&two, &[]))]);
    assert_eq!((moved.endpoint_names(&one), moved.endpoint_names(&two)), (vec!["b".to_owned()], vec!["a".to_owned()]));
    let sick = before.and([resource(pod("a", &["10.0.0.1"]).of(&one, &[]).unhealthy())]);
    assert_eq!(sick.endpoint_names(&one), ["b", "a"], "unhealthy ones come last");
    assert_eq!(before.without(&[A]).endpoint_names(&one), ["b"]);
}

#[test]
fn of_two_at_one_address_the_running_one_counts() {
    let (dying, lost, running) = (pod("a", &["10.0.0.1"]), pod("b", &["10.0.0.1"]), pod("c", &["10.0.0.1"]));
    let before = mesh([resource(dying.draining()), resource(lost.unhealthy())]);
    assert_eq!(before.at("10.0.0.1"), Some("a"), "one that still serves, rather than one that does not");
    assert_eq!(before.and([resource(running)]).at("10.0.0.1"), Some("c"), "healthy, though last by name");
}

#[test]
fn an_untouched_service_keeps_its_endpoints_as_they_are() {
    let (one, two) = (service("one", &[]), service("two", &[]));
    let before =
        mesh([resource(pod("a", &["10.0.0.1"]).of(&one, &[])), resource(pod("b", &["10.0.0.2"]).of(&two, &[]))]);
    let same = |mesh: &Mesh, name: &str| {
        Arc::ptr_eq(&mesh.endpoints[default(name).as_str()], &before.endpoints[default(name).as_str()])
    };
    let after = before.and([resource(pod("a", &["10.0.0.3"]).of(&one, &[]))]);
    assert_eq!([same(&after, "one"), same(&after, "two")], [false, true]);
    let resent = before.and([resource(pod("a", &["10.0.0.1"]).of(&one, &[]))]);
    assert!(same(&resent, "one"), "a resource that is as it was changes nothing");
}

fn rejected<const N: usize>(mesh: &Mesh, resources: [Resource; N]) -> (Mesh, Vec<(String, String)>) {
    let (mesh, rejected) = mesh.apply(proto::ADDRESS, resources, &[]);
    (mesh, rejected.into_iter().map(|rejected| (rejected.name, rejected.reason)).collect())
}

#[test]
fn a_bad_resource_is_named_and_the_rest_of_its_push_is_taken() {
    let bad = proto::Workload { addresses: vec![vec![1, 2, 3]], ..pod("a", &[]) };
    let before = mesh([resource(pod("a", &["10.0.0.1"]))]);
    let (after, rejected) = rejected(&before, [resource(bad), resource(pod("b", &["10.0.0.2"]))]);
    assert_eq!(rejected, [(A.to_owned(), "an address has 3 bytes, not 4 or 16".to_owned())]);
    assert_eq!(after.at("10.0.0.1"), Some("a"), "the last good version stays in force");
    assert_eq!(after.at("10.0.0.2"), Some("b"));
}

#[test]
fn bad_workloads_are_rejected_with_a_reason() {
    let good = || pod("a", &["10.0.0.1"]);
    let gateway = |gateway: proto::GatewayAddress| proto::Workload { waypoint: Some(gateway), ..good() };
    for (sent, reason) in [
        (proto::Workload { uid: String::new(), ..good() }, "no uid"),
        (proto::Workload { tunnel_protocol: 2, ..good() }, "tunnel_protocol 2"),
        (proto::Workload { tunnel_protocol: 9, ..good() }, "tunnel_protocol 9"),
        (proto::Workload { workload_type: 9, ..good() }, "workload_type 9"),
        (proto::Workload { namespace: String::new(), ..good() }, "spiffe://cluster.local/ns//sa/a"),
        (proto::Workload { service_account: "a/b".into(), ..good() }, "sa/a/b"),
        (gateway(proto::GatewayAddress { destination: None, hbone_mtls_port: 15008 }), "no destination"),
        (gateway(waypoint("10.0.0.9", 0)), "no hbone_mtls_port"),
        (gateway(waypoint("10.0.0.9", 70_000)), "port 70000"),
        (good().of(&service("s", &[]), &[(80, 65_536)]), "port 65536"),
        (proto::Workload { services: [("nonsense".into(), Default::default())].into(), ..good() }, "\"nonsense\""),
        (
            proto::Workload { application_tunnel: Some(proto::ApplicationTunnel { protocol: 7, port: 0 }), ..good() },
            "application tunnel protocol 7",
        ),
    ] {
        let (after, rejected) = rejected(&Mesh::new(""), [resource(sent.clone())]);
        assert_eq!((rejected.len(), after.workloads().len()), (1, 0), "{reason}");
        assert!(rejected[0].1.contains(reason), "{rejected:?}");
    }
}

#[test]
fn bad_services_are_rejected_with_a_reason() {
    let good = || service("s", &["10.1.0.1"]);
    let balancing = |mode, scope| {
        let balancing = proto::LoadBalancing { mode, routing_preference: vec![scope], health_policy: 0 };
        proto::Service { load_balancing: Some(balancing), ..good() }
    };
    for (sent, reason) in [
        (proto::Service { hostname: String::new(), ..good() }, "namespace/hostname"),
        (proto::Service { hostname: "a/b".into(), ..good() }, "namespace/hostname"),
        (proto::Service { ip_families: 9, ..good() }, "ip_families 9"),
        (proto::Service { weighted_waypoints: vec![Default::default()], ..good() }, "weighted waypoint"),
        (service("s", &["10.1.0.0/33"]), "out of range"),
        (balancing(9, 1), "mode 9"),
        (balancing(1, 0), "scope 0"),
        (balancing(1, 9), "scope 9"),
    ] {
        let (after, rejected) = rejected(&Mesh::new(""), [resource(sent.clone())]);
        assert_eq!((rejected.len(), after.services().len()), (1, 0), "{reason}");
        assert!(rejected[0].1.contains(reason), "{rejected:?}");
    }
}

#[test]
fn what_can_not_be_read_is_rejected() {
    let named = |bytes: &'static [u8]| Resource { body: bytes.into(), ..resource(pod("a", &[])) };
    let (_, reasons) = rejected(&Mesh::new(""), [named(b"\xff\xff"), named(b"")]);
    assert_eq!(reasons[1].1, "neither a workload nor a service");
    assert_eq!(reasons.len(), 2);
    let (_, misnamed) = rejected(&Mesh::new(""), [Resource { name: "other".to_owned(), ..resource(pod("a", &[])) }]);
    assert_eq!(misnamed, [("other".to_owned(), format!("its own name is {A:?}"))]);
    let other = Resource { type_url: "other".to_owned(), ..resource(pod("a", &[])) };
    assert_eq!(rejected(&Mesh::new(""), [other.clone()]).1, [(A.to_owned(), "is a 'other'".to_owned())]);
    let (_, unknown) = Mesh::new("").apply("other", [other], &[]);
    assert_eq!(unknown[0].reason, "resources of this type are not known");
}

#[test]
fn what_is_held_is_told_with_its_version() {
    let held = |mesh: &Mesh, type_url: &str| {
        let mut held = vec![];
        mesh.held(type_url, |name, version| held.push((name.to_owned(), version.to_string())));
        held.sort();
        held
    };
    let web = service("web", &["10.1.0.1"]);
    let newer = Resource { version: "2".to_owned(), ..resource(web.clone()) };
    let mesh = mesh([resource(pod("a", &["10.0.0.1"])), resource(web.clone()), newer]);
    let mesh = mesh.apply(proto::AUTHORIZATION, [policy("trial", true)], &[]).0;
    assert_eq!(held(&mesh, proto::ADDRESS), [(A.to_owned(), "1".to_owned()), (key(&web), "2".to_owned())]);
    assert_eq!(held(&mesh, proto::AUTHORIZATION), [("default/trial".to_owned(), "1".to_owned())]);
    assert_eq!(held(&mesh, "type.googleapis.com/another"), [], "of a type that is not known nothing is held");
    let bad = Resource {
        version: "2".to_owned(),
        ..resource(proto::Workload { capacity: Some(1), addresses: vec![vec![1]], ..pod("a", &[]) })
    };
    let mesh = rejected(&mesh, [bad]).0;
    assert_eq!(held(&mesh, proto::ADDRESS)[0].1, "1", "what was rejected is not held");
}

fn policy(name: &str, dry_run: bool) -> Resource {
    let policy = proto::Authorization { name: name.into(), namespace: "default".into(), dry_run, ..Default::default() };
    sent(proto::AUTHORIZATION, &format!("default/{name}"), &policy)
}
