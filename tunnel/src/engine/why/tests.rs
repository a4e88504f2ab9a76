use super::judge::end_of;
use super::*;
use crate::base::{OriginalDst, Rng};
use crate::config::proto;
use crate::decision::{self, Outbound, Way};
use crate::mesh::testing::{key, pod, resource, sent, service, traffic};
use crate::mesh::TunnelProtocol;
use crate::policy::Attempt;
use crate::routes::proto as routes;
use crate::routes::testing::{rule, scope};
use serde_json::json;
use std::net::SocketAddr;

/// Random meshes, each with a question that is answered and done five times.
const CASES: u64 = 500;

fn headless(name: &str) -> proto::Service {
    service(name, &[])
}

fn denying(name: &str, account: &str) -> proto::Authorization {
    let of = proto::StringMatch { match_type: Some(proto::MatchType::Suffix(format!("/sa/{account}"))) };
    let one = proto::Match { principals: vec![of], ..proto::Match::default() };
    proto::Authorization {
        name: name.into(),
        namespace: "default".into(),
        scope: proto::PolicyScope::WorkloadSelector as i32,
        action: proto::Action::Deny as i32,
        rules: vec![proto::Rule { clauses: vec![proto::Clause { matches: vec![one] }], ..proto::Rule::default() }],
        ..proto::Authorization::default()
    }
}

/// Eight pods, some of another node, captured or not, ready or not, behind three services, some of them refused `a`.
fn random(rng: &mut Rng) -> Mesh {
    let mut below = |limit| rng.below(limit).unwrap();
    let services = [service("web", &["10.1.0.1"]), service("api", &["10.1.0.2"]), headless("db")];
    let mut resources: Vec<_> = services.iter().cloned().map(resource).collect();
    for (number, name) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
        let mut one = pod(name, &[&format!("10.0.0.{}", number + 1)]);
        one.node = if number == 0 || below(2) == 0 { "node-1".into() } else { "node-2".into() };
        for of in &services {
            match below(6) {
                0 => one = one.of(of, &[(80, 9000)]),
                1 => one = one.of(of, &[]),
                _ => {}
            }
        }
        match below(6) {
            0 if number > 0 => one = one.plain(),
            1 => one = one.unhealthy(),
            2 => one = one.draining(),
            _ => {}
        }
        if below(3) == 0 {
            one.authorization_policies = vec!["default/not-a".into()];
        }
        if below(12) == 0 && number > 0 {
            one.network_mode = proto::NetworkMode::HostNetwork as i32;
        }
        resources.push(resource(one));
    }
    let mut mesh = Mesh::new("node-1").apply(proto::ADDRESS, resources, &[]).0;
    let policy = denying("not-a", "a");
    mesh = mesh.apply(proto::AUTHORIZATION, [sent(proto::AUTHORIZATION, "default/not-a", &policy)], &[]).0;
    if below(2) == 0 {
        mesh.know_all_policies();
    }
    mesh
}

fn ask(mesh: &Mesh, from: &str, to: &str, port: Option<u16>) -> Result<Value, String> {
    let source = mesh.pod(from);
    let node = Node {
        pods: &[source.key()],
        name: "node-1",
        certificates: [((*source.identity).clone(), 10)].into(),
        now: 1,
        direct: true,
        paths: Default::default(),
    };
    let (method, path) = ("GET".into(), "/".into());
    WhyQuestion { from: from.into(), to: to.into(), port, method, path, headers: vec![] }.answer(mesh, &node)
}

/// What the tours would do, many times over: (verdict at the client, end, allowed at the end).
fn done(mesh: &Mesh, dst: OriginalDst, rng: &mut Rng) -> (String, Option<SocketAddr>, bool) {
    let source = mesh.pod("a");
    let way = match decision::outbound(mesh, &source, dst, rng) {
        Outbound::Refuse(why) => return (why.name().to_owned(), None, false),
        Outbound::Hbone(route) => Way::Hbone(route),
        Outbound::Plain(plain) => Way::Plain(plain),
        _ => return ("allowed".into(), None, true),
    };
    let (workload, address) = end_of(&way);
    let allowed = workload.is_none_or(|workload| {
        let attempt = Attempt {
            peer: matches!(way, Way::Hbone(_)).then(|| source.identity.clone()),
            source: source.addresses[0],
            destination: address,
            door: None,
        };
        workload.tunnel != TunnelProtocol::Hbone || mesh.guard_of(workload).judge(&attempt).outcome().is_ok()
    });
    ("allowed".into(), Some(address), allowed)
}

#[test]
fn the_answer_and_the_data_path_agree() {
    let mut rng = Rng::seeded(7);
    let names = ["web", "api", "db", "b", "c", "d", "10.0.0.5", "10.1.0.1", "10.9.9.9", "nobody"];
    let (mut allowed, mut refused) = (0, 0);
    for case in 0..CASES {
        let mesh = random(&mut rng);
        let to = names[rng.below(names.len() as u64).unwrap() as usize];
        let port = [80, 8080, 15008][rng.below(3).unwrap() as usize];
        let told = ask(&mesh, "a", to, Some(port)).unwrap();
        let said = &told["ports"][0];
        let Some(address) = said["address"].as_str() else { continue };
        let dst = OriginalDst::new(address.parse().unwrap());
        let used: Vec<&Value> =
            said["endpoints"].as_array().unwrap().iter().filter(|one| one["used"] == true).collect();
        for _ in 0..5 {
            let (verdict, end, lets_in) = done(&mesh, dst, &mut rng);
            let what = format!("case {case}, a to {to}:{port}: {told:#}");
            let Some(end) = end else {
                assert_eq!(said["verdict"], verdict, "{what}");
                continue;
            };
            let found = used.iter().find(|one| one["address"] == end.to_string());
            let found = found.unwrap_or_else(|| panic!("{end} is not among the endpoints: {what}"));
            assert_eq!(found["verdict"] == "allowed", lets_in, "{what}");
            if said["verdict"] != "depends" {
                assert_eq!(said["verdict"] == "allowed", lets_in, "{what}");
            }
            *(if lets_in { &mut allowed } else { &mut refused }) += 1;
        }
        let direct = decision::direct(&mesh, &mesh.pod("a"), dst);
        assert_eq!(said["not_direct"] == "", direct.is_ok(), "case {case}");
        if let Ok(way) = direct {
            assert_eq!(used.len(), 1, "case {case}");
            assert_eq!((&used[0]["address"], &used[0]["path"]), (&way.target.to_string().into(), &"direct".into()));
        }
    }
    assert!(allowed > 200 && refused > 200, "{allowed} {refused}: both must be met");
}

fn small() -> Mesh {
    let (web, empty) = (service("web", &["10.1.0.1"]), service("empty", &["10.1.0.2"]));
    let far = proto::Workload { node: "node-2".into(), ..pod("far", &["10.0.0.9"]) };
    let resources = [
        resource(pod("a", &["10.0.0.1"])),
        resource(pod("web-1", &["10.0.0.2"]).of(&web, &[])),
        resource(pod("bare", &["10.0.0.3"]).plain()),
        resource(far),
        resource(web),
        resource(empty),
    ];
    let mut mesh = Mesh::new("node-1").and(resources);
    mesh.know_all_policies();
    mesh
}

fn verdict(from: &str, to: &str, port: Option<u16>) -> (Value, Value) {
    let said = ask(&small(), from, to, port).unwrap();
    (said["ports"][0]["verdict"].clone(), said["ports"][0]["path"].clone())
}

#[test]
fn each_kind_of_destination_is_found() {
    for (to, port, expected) in [
        ("web", None, ("allowed", "direct")),
        ("default/web", Some(80), ("allowed", "direct")),
        ("web.default.svc.cluster.local", Some(80), ("allowed", "direct")),
        ("default/far", Some(80), ("allowed", "tunnel")),
        ("10.0.0.9", Some(80), ("allowed", "tunnel")),
        ("bare", Some(80), ("allowed", "plain")),
        ("empty", None, ("no_endpoint", "")),
        ("web", Some(81), ("unknown_port", "")),
        ("example.com", Some(443), ("allowed", "plain")),
    ] {
        assert_eq!(verdict("a", to, port), (json!(expected.0), json!(expected.1)), "{to} {port:?}");
    }
    assert!(ask(&small(), "a", "example.com", None).unwrap_err().contains("example.com:PORT"));
}

#[test]
fn a_source_elsewhere_or_unknown_is_told_where_to_ask() {
    let mesh = small();
    let node = Node {
        pods: &[mesh.pod("a").key()],
        name: "node-1",
        certificates: HashMap::new(),
        now: 1,
        direct: true,
        paths: Default::default(),
    };
    let asked = |from: &str| {
        let (method, path) = ("GET".into(), "/".into());
        WhyQuestion { from: from.into(), to: "web".into(), port: None, method, path, headers: vec![] }
            .answer(&mesh, &node)
    };
    assert_eq!(asked("far").unwrap_err(), "default/far runs on node-2: ask there");
    assert!(asked("nobody").unwrap_err().contains("pods are default/a"));
    let bare = asked("bare").unwrap();
    assert_eq!((&bare["source"]["served"], &bare["ports"][0]["path"]), (&false.into(), &"plain".into()));
    assert_eq!(asked("a").unwrap()["ports"][0]["verdict"], "no_identity", "it has no certificate");
}

/// `api.example` with an endpoint outside of the mesh, `*.pass.example`, whose connections go where they went, and
/// `*.resolved.example`, whose endpoints DNS has.
fn named(policy: proto::OutboundTrafficPolicy) -> Mesh {
    let entry = |host: &str, mode: proto::Mode, vips: &[&str]| proto::Service {
        hostname: host.into(),
        by_name: Some(proto::ByName { http: vec![80], tls: vec![443] }),
        ports: [80, 443].map(|port| proto::Port { service_port: port, target_port: port, ..Default::default() }).into(),
        load_balancing: Some(proto::LoadBalancing { mode: mode as i32, ..Default::default() }),
        ..service(host, vips)
    };
    let api = entry("api.example", proto::Mode::Unspecified, &[]);
    let resolved = entry("*.resolved.example", proto::Mode::Unspecified, &["240.240.0.1"]);
    let balancer = routes::LoadBalancer { algorithm: routes::Algorithm::DynamicDns.into(), ..Default::default() };
    let by_dns = routes::Destination {
        namespace: "default".into(),
        hostname: resolved.hostname.clone(),
        port: 80,
        policy: Some(routes::Policy { load_balancer: Some(balancer), ..Default::default() }),
        ..Default::default()
    };
    let scope = routes::Scope { destinations: vec![by_dns], ..scope(vec![rule("all", &["prefix:/"])]) };
    let ports = vec![routes::PortRoutes {
        port: 80,
        protocol: routes::Protocol::Http.into(),
        scopes: vec![scope],
        hosts: vec![],
    }];
    let routed = routes::ServiceRoutes { namespace: "default".into(), hostname: resolved.hostname.clone(), ports };
    let mut mesh = Mesh::new("node-1").and([
        resource(pod("a", &["10.0.0.1"])),
        resource(pod("server", &["198.51.100.9"]).plain().of(&api, &[])),
        resource(api),
        resource(entry("*.pass.example", proto::Mode::Passthrough, &[])),
        resource(resolved.clone()),
    ]);
    mesh = mesh.apply(routes::SERVICE_ROUTES, [sent(routes::SERVICE_ROUTES, &key(&resolved), &routed)], &[]).0;
    mesh = mesh.apply(proto::TRAFFIC, [traffic("", policy)], &[]).0;
    mesh.know_all_policies();
    mesh
}

#[test]
fn hosts_that_are_known_by_their_name_alone_are_judged_by_it() {
    for (policy, unknown) in [
        (proto::OutboundTrafficPolicy::RegistryOnly, ("not_in_registry", "", None)),
        (proto::OutboundTrafficPolicy::AllowAny, ("allowed", "plain", None)),
    ] {
        let mesh = named(policy);
        for (to, port, expected) in [
            ("api.example", 80, ("allowed", "plain", Some("198.51.100.9:80"))),
            ("API.example", 443, ("allowed", "plain", Some("198.51.100.9:443"))),
            ("api.example", 81, unknown),
            ("a.pass.example", 80, ("allowed", "plain", None)),
            ("pass.example", 80, unknown),
            ("a.resolved.example", 80, ("allowed", "requests", None)),
            ("other.example", 80, unknown),
            ("203.0.113.1", 80, unknown),
        ] {
            let told = ask(&mesh, "a", to, Some(port)).unwrap();
            let said = &told["ports"][0];
            let end = said["endpoints"][0]["address"].as_str();
            let found = (said["verdict"].as_str().unwrap(), said["path"].as_str().unwrap(), end);
            assert_eq!(found, expected, "{to}:{port}: {told:#}");
        }
    }
}
