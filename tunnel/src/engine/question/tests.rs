use super::*;
use crate::config::proto;
use crate::mesh::testing::{pod, resource, sent, service};
use serde_json::json;

/// `web` and `idle` are pods of this node, `far` one of another, `bare` not in the mesh.
fn mesh() -> Mesh {
    let shop = proto::Service {
        ports: [(80, 8080), (81, 0), (82, 9000)]
            .map(|(service_port, target_port)| proto::Port { service_port, target_port, ..Default::default() })
            .into(),
        ..service("shop", &["10.1.0.1"])
    };
    let far = proto::Workload { node: "node-2".into(), ..pod("far", &["fd00::9", "10.0.0.9"]) };
    let mut mesh = Mesh::new("node-1").and([
        resource(shop.clone()),
        resource(pod("web", &["10.0.0.2", "fd00::2"]).of(&shop, &[(81, 8081), (82, 9001)])),
        resource(pod("idle", &["10.0.0.3"])),
        resource(far),
        resource(pod("bare", &["10.0.0.4"]).plain()),
    ]);
    let of_far = proto::StringMatch { match_type: Some(proto::MatchType::Suffix("/sa/far".into())) };
    let one = proto::Match { principals: vec![of_far], ..proto::Match::default() };
    let only_far = proto::Authorization {
        name: "only-far".into(),
        namespace: "default".into(),
        scope: proto::PolicyScope::Namespace as i32,
        rules: vec![proto::Rule { clauses: vec![proto::Clause { matches: vec![one] }], ..proto::Rule::default() }],
        ..proto::Authorization::default()
    };
    mesh = mesh.apply(proto::AUTHORIZATION, [sent(proto::AUTHORIZATION, "default/only-far", &only_far)], &[]).0;
    mesh.know_all_policies();
    mesh
}

fn asked(from: &str, to: &str, port: Option<u16>, address: Option<&str>) -> Result<Value, String> {
    let mesh = mesh();
    let pods = ["web", "idle"].map(|name| mesh.pod(name).key());
    Question { from, to, port, address, request: None }.answer(&mesh, &pods)
}

fn told(from: &str, to: &str, address: Option<&str>) -> Value {
    asked(from, to, Some(80), address).unwrap()
}

#[test]
fn who_asks_is_found_in_the_mesh() {
    let far = "spiffe://cluster.local/ns/default/sa/far";
    for (from, to, address, [name, identity, source, destination]) in [
        ("far", "web", None, ["default/far", far, "10.0.0.9", "10.0.0.2"]),
        ("default/far", "fd00::2", None, ["default/far", far, "fd00::9", "fd00::2"]),
        ("10.0.0.9", "default/web", None, ["default/far", far, "10.0.0.9", "10.0.0.2"]),
        ("::ffff:10.0.0.9", "::ffff:10.0.0.2", None, ["default/far", far, "10.0.0.9", "10.0.0.2"]),
        ("fd00::9", "web", None, ["default/far", far, "fd00::9", "fd00::2"]),
        ("bare", "web", None, ["default/bare", "", "10.0.0.4", "10.0.0.2"]),
        ("10.9.9.9", "web", None, ["", "", "10.9.9.9", "10.0.0.2"]),
        (far, "web", Some("fd00::7"), ["", far, "fd00::7", "fd00::2"]),
        (far, "web", None, ["", far, "", "10.0.0.2"]),
        ("plain", "web", Some("10.0.0.9"), ["", "", "10.0.0.9", "10.0.0.2"]),
    ] {
        let told = told(from, to, address);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found = ["name", "identity", "address"].map(|piece| text(&told["source"][piece]));
        assert_eq!(found, [name, identity, source], "{from}");
        assert_eq!(
            told["destination"],
            json!({ "name": "default/web", "address": destination, "identity": null }),
            "{from}"
        );
        let verdict = if identity == far { "allowed" } else { "policy_not_allowed" };
        assert_eq!(told["ports"][0]["verdict"], verdict, "{from}");
    }
}

#[test]
fn a_pod_may_be_meant_by_its_deployment() {
    let of = |name: &str, ip: &str| proto::Workload { workload_name: "shop".into(), ..pod(name, &[ip]) };
    let mut mesh = Mesh::new("node-1").and([
        resource(of("shop-2", "10.0.0.2")),
        resource(of("shop-1", "10.0.0.1")),
        resource(pod("shop", &["10.0.0.3"])),
    ]);
    mesh.know_all_policies();
    for (pods, expected) in [
        (&["shop-1", "shop-2"][..], "default/shop-1"),
        (&["shop-2", "shop"], "default/shop"),
        (&["shop-2"], "default/shop-2"),
    ] {
        let keys: Vec<_> = pods.iter().map(|name| mesh.pod(name).key()).collect();
        let question = Question { from: "shop-1", to: "shop", port: Some(80), address: None, request: None };
        assert_eq!(question.answer(&mesh, &keys).unwrap()["destination"]["name"], expected);
    }
    let question = Question { from: "shop", to: "shop-1", port: Some(80), address: None, request: None };
    let told = question.answer(&mesh, &[mesh.pod("shop-1").key()]).unwrap();
    assert_eq!(told["source"]["name"], "default/shop", "the pod of that name comes first");
}

#[test]
fn what_is_assumed_is_told() {
    for (from, to, given, names, service, no_address) in [
        ("plain", "web", None, vec!["web"], None, true),
        ("plain", "10.0.0.2", Some("10.0.0.1"), vec![], None, false),
        ("default/far", "default/web", None, vec![], None, false),
        ("far", "web", None, vec!["far", "web"], None, false),
        ("default/far", "default/shop", None, vec![], Some("default/shop"), false),
    ] {
        let expected = json!({ "default_namespace": names, "service": service, "no_address": no_address });
        assert_eq!(told(from, to, given)["assumed"], expected, "{from} {to}");
    }
}

#[test]
fn without_a_port_it_is_each_that_a_service_leads_to() {
    let told = asked("far", "web", None, None).unwrap();
    let ports: Vec<_> = told["ports"].as_array().unwrap().iter().map(|one| one["port"].as_u64().unwrap()).collect();
    assert_eq!(ports, [8080, 8081, 9001], "with those that the pod maps itself");
}

#[test]
fn what_cannot_be_answered_says_what_to_ask_instead() {
    for (from, to, port, address, words) in [
        (
            "far",
            "nobody",
            None,
            None,
            "nobody is no pod or Service of the mesh on this node: pods are default/idle, default/web",
        ),
        (
            "web",
            "far",
            None,
            None,
            "far is no pod or Service of the mesh on this node; ask on node-2, where it runs: pods are",
        ),
        ("web", "10.0.0.9", None, None, "10.0.0.9 is no pod or Service of the mesh on this node; ask on node-2"),
        ("web", "other/web", None, None, "other/web is no pod or Service of the mesh on this node: pods are"),
        ("nobody", "web", None, None, "default/nobody is not known to this node's tunnel; give its address, or its id"),
        ("far", "idle", None, None, "no Service leads to idle, so that no port of it is known: give --port"),
        ("fd00::9", "10.0.0.2", None, None, "fd00::9 and 10.0.0.2 have no addresses of one family"),
        ("spiffe://td", "web", None, None, "\"spiffe://td\" is not of the form spiffe://<trust domain>/ns/"),
        ("plain", "web", None, Some("home"), "--address \"home\" is no address, such as"),
        ("far", "web", None, Some("10.0.0.1"), "--address is for an identity or \"plain\"; far has its own"),
    ] {
        let error = asked(from, to, port, address).unwrap_err();
        assert!(error.starts_with(words), "{error}");
    }
}
