//! Whole resources: scopes, weights, faults, connections, and what is refused.

use crate::routes::proto::{self, Target};
use crate::routes::testing::{client, compiled, destination, labels, port, rule, scope, service, share, to, Sample};
use crate::routes::{Abort, Client, Connection, Decision, ServiceRoutes};

fn subset(decision: &Decision) -> String {
    match decision {
        Decision::Forward(forwarded) => match &forwarded.weighted().target {
            crate::routes::Target::Destination(destination) => destination.subset.to_string(),
            crate::routes::Target::Unroutable(unroutable) => {
                format!("{} {}", unroutable.status.as_u16(), unroutable.flag)
            }
        },
        other => format!("{other:?}"),
    }
}

#[test]
fn weights_share_the_requests_exactly() {
    for (shares, expected) in [
        (vec![(0, 90), (1, 10)], vec![("v1", 90), ("v2", 10)]),
        (vec![(0, 1), (1, 2), (2, 5)], vec![("v1", 1), ("v2", 2), ("v3", 5)]),
        (vec![(0, 0), (1, 3)], vec![("v2", 3)]),
        (vec![(0, 0), (1, 1), (2, 0)], vec![("v2", 1)]),
    ] {
        let scope = compiled(vec![proto::HttpRule { action: Some(to(&shares)), ..rule("r", &[]) }]);
        let sum: u32 = shares.iter().map(|(_, weight)| weight).sum();
        let sample = Sample::new("GET http://h/");
        let chosen: Vec<_> = (0..u64::from(sum))
            .map(|point| {
                let draw = |limit| {
                    assert_eq!(limit, u64::from(sum));
                    point
                };
                subset(&scope.decide(&client(&labels("")), &sample.request(), draw))
            })
            .collect();
        for (subset, count) in &expected {
            assert_eq!(chosen.iter().filter(|chosen| chosen == subset).count(), *count, "{shares:?}");
        }
    }
}

#[test]
fn one_destination_gets_all_without_a_draw() {
    let scope = compiled(vec![proto::HttpRule { action: Some(to(&[(1, 0)])), ..rule("r", &[]) }]);
    let decision = scope.decide(&client(&labels("")), &Sample::new("GET http://h/").request(), |_| panic!("drawn"));
    assert_eq!(subset(&decision), "v2");
}

#[test]
fn a_destination_that_does_not_exist_has_its_own_answer() {
    let unroutable = proto::Unroutable { status: 503, flag: "NC".into(), reason: "no subset v9".into() };
    let forward = proto::Forward { destinations: vec![share(Target::Unroutable(unroutable), 1)], ..Default::default() };
    let scope = compiled(vec![proto::HttpRule { action: Some(proto::Action::Forward(forward)), ..rule("r", &[]) }]);
    let decision = scope.decide(&client(&labels("")), &Sample::new("GET http://h/").request(), |_| 0);
    assert_eq!(subset(&decision), "503 NC");
}

#[test]
fn what_no_rule_matches_is_not_found_or_unimplemented() {
    for (unmatched, expected) in
        [(proto::Unmatched::NotFound, "NotFound"), (proto::Unmatched::Unimplemented, "Unimplemented")]
    {
        let sent = proto::Scope { unmatched: unmatched.into(), ..scope(vec![rule("r", &["exact:/a"])]) };
        let port = port(vec![sent]).unwrap();
        let decision = port.scopes[0].decide(&client(&labels("")), &Sample::new("GET http://h/").request(), |_| 0);
        assert_eq!(format!("{decision:?}"), expected);
    }
}

#[test]
fn the_first_scope_that_fits_the_client_holds() {
    let named = |name: &str, namespaces: &[&str], labels: &[(&str, &str)]| proto::Scope {
        namespaces: namespaces.iter().map(|namespace| (*namespace).into()).collect(),
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        ..scope(vec![rule(name, &[])])
    };
    let port = port(vec![
        named("both", &["one"], &[("app", "web")]),
        named("namespaces", &["one", "two"], &[]),
        named("labels", &[], &[("app", "web"), ("tier", "x")]),
        named("all", &[], &[]),
    ]);
    let port = port.unwrap();
    for (namespace, pod, expected) in [
        ("one", "app=web", "both"),
        ("one", "app=api", "namespaces"),
        ("two", "app=web", "namespaces"),
        ("three", "app=web tier=x", "labels"),
        ("three", "app=web", "all"),
        ("three", "", "all"),
    ] {
        let labels = labels(pod);
        let scope = port.scope(&Client { namespace, labels: &labels });
        assert_eq!(&*scope.http[0].name, expected, "{namespace} {pod}");
    }
}

#[test]
fn requests_to_a_name_under_a_wildcard_have_scopes_of_their_own() {
    let named = |name: &str| proto::NamedHost { host: name.into(), scopes: vec![scope(vec![rule(name, &[])])] };
    let mut sent = service(vec![scope(vec![rule("whole", &[])])]);
    sent.ports[0].hosts = vec![named("api.example"), named("*.b.example")];
    let routes = ServiceRoutes::compile(&sent).unwrap();
    let (port, labels) = (routes.port(9080).unwrap(), labels(""));
    let client = client(&labels);
    for (host, expected) in
        [("API.example", "api.example"), ("x.b.example", "*.b.example"), ("b.example", "whole"), ("", "whole")]
    {
        assert_eq!(&*port.scope_of(&client, host).http[0].name, expected, "{host}");
    }
    assert_eq!(&*port.scope(&client).http[0].name, "whole");
    assert_eq!(port.scopes_for(&client).count(), 3);
    let told = &routes.json()["ports"][0]["scopes"];
    assert_eq!([0, 1, 2].map(|place| &told[place]["host"]), ["*.b.example", "api.example", ""]);
}

#[test]
fn routes_are_named_by_rule_and_match() {
    let scope = compiled(vec![rule("canary", &["exact:/a name:beta", "exact:/b"]), rule("rest", &[])]);
    for (path, expected) in [("/a", "canary.beta"), ("/b", "canary"), ("/c", "rest")] {
        let sample = Sample::new(&format!("GET http://h{path}"));
        let decision = scope.decide(&client(&labels("")), &sample.request(), |_| 0);
        assert_eq!(&**decision.matched().unwrap().route(), expected);
    }
}

#[test]
fn faults_and_mirrors_fall_by_their_parts() {
    let fault = |delay_parts, abort_parts, abort| proto::Fault { delay_ms: 7000, delay_parts, abort_parts, abort };
    let with = |fault| {
        let mirrors = vec![proto::Mirror { destination: 1, parts: 250_000 }];
        compiled(vec![proto::HttpRule { fault: Some(fault), mirrors, ..rule("r", &[]) }]).http[0].clone()
    };
    let rule = with(fault(100_000, 1_000_000, Some(proto::Abort::HttpStatus(555))));
    let sent = rule.fault.as_ref().unwrap();
    assert_eq!(sent.delay(|_| 99_999).unwrap().as_secs(), 7);
    assert_eq!(sent.delay(|_| 100_000), None);
    assert_eq!(sent.abort(|_| panic!("drawn")), Some(Abort::Http(http::StatusCode::from_u16(555).unwrap())));
    assert!(rule.mirrors[0].falls(|_| 249_999) && !rule.mirrors[0].falls(|_| 250_000));
    let never = with(fault(0, 0, Some(proto::Abort::GrpcStatus(14))));
    let never = never.fault.as_ref().unwrap();
    assert_eq!((never.delay(|_| 0), never.abort(|_| 0)), (None, None));
    let grpc = with(fault(0, 1, Some(proto::Abort::GrpcStatus(14))));
    assert_eq!(grpc.fault.as_ref().unwrap().abort(|_| 0), Some(Abort::Grpc(14)));
}

fn connected(scope: &proto::Scope, pod: &str, connection: &Connection<'_>) -> String {
    let port = port(vec![scope.clone()]).unwrap();
    let labels = labels(pod);
    match port.scopes[0].connect(&client(&labels), connection, |_| 0) {
        Some((rule, crate::routes::Target::Destination(destination))) => {
            format!("{} {}", rule.name, destination.subset)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn connections_are_routed_by_sni_subnet_port_and_client() {
    let tls = |name: &str, place, hosts: &[&str]| proto::TlsRule {
        name: name.into(),
        matches: vec![proto::TlsMatch {
            sni_hosts: hosts.iter().map(|host| (*host).into()).collect(),
            ..Default::default()
        }],
        destinations: vec![share(Target::Destination(place), 1)],
        ..Default::default()
    };
    let tcp = |name: &str, place, one: proto::ConnectionMatch| proto::TcpRule {
        name: name.into(),
        matches: vec![one],
        destinations: vec![share(Target::Destination(place), 1)],
        ..Default::default()
    };
    let subnet = proto::Subnet { address: vec![10, 1, 0, 0], length: 16 };
    let sent = proto::Scope {
        tls: vec![tls("exact", 0, &["a.example.com"]), tls("wild", 1, &["*.example.com", "Other.com"])],
        tcp: vec![
            tcp(
                "labels",
                2,
                proto::ConnectionMatch { source_labels: [("app".into(), "web".into())].into(), ..Default::default() },
            ),
            tcp("subnet", 0, proto::ConnectionMatch { destination_subnets: vec![subnet], ..Default::default() }),
            tcp("port", 1, proto::ConnectionMatch { port: 9081, ..Default::default() }),
            tcp("namespace", 2, proto::ConnectionMatch { source_namespace: "shop".into(), ..Default::default() }),
        ],
        ..scope(vec![])
    };
    let to = |ip: [u8; 4], port, sni| Connection { destination: ip.into(), port, sni };
    for (pod, connection, expected) in [
        ("", to([1, 1, 1, 1], 9080, Some("a.example.com")), "exact v1"),
        ("", to([1, 1, 1, 1], 9080, Some("A.Example.COM")), "exact v1"),
        ("", to([1, 1, 1, 1], 9080, Some("b.example.com")), "wild v2"),
        ("", to([1, 1, 1, 1], 9080, Some("c.b.example.com")), "wild v2"),
        ("", to([1, 1, 1, 1], 9080, Some("other.com")), "wild v2"),
        ("", to([1, 1, 1, 1], 9080, Some("example.com")), "namespace v3"),
        ("app=web", to([10, 1, 2, 3], 9080, None), "labels v3"),
        ("", to([10, 1, 2, 3], 9080, None), "subnet v1"),
        ("", to([10, 2, 2, 3], 9081, None), "port v2"),
        ("", to([10, 2, 2, 3], 9080, None), "namespace v3"),
    ] {
        assert_eq!(connected(&sent, pod, &connection), expected);
    }
    let unmatched = proto::Scope { tcp: vec![], ..sent };
    assert_eq!(connected(&unmatched, "", &to([1, 1, 1, 1], 9080, None)), "None");
}

/// A change that makes a good resource a bad one.
type Spoil = fn(&mut proto::ServiceRoutes);

#[test]
fn what_cannot_be_held_whole_is_refused_by_its_place() {
    fn scope_of(sent: &mut proto::ServiceRoutes) -> &mut proto::Scope {
        &mut sent.ports[0].scopes[0]
    }
    fn rule_of(sent: &mut proto::ServiceRoutes) -> &mut proto::HttpRule {
        &mut scope_of(sent).http[0]
    }
    fn policy_of(sent: &mut proto::ServiceRoutes) -> &mut proto::Policy {
        scope_of(sent).destinations[1].policy.get_or_insert_default()
    }
    let rows: &[(&str, Spoil)] = &[
        ("ports[0]: port 9080: no scope is for all clients", |sent| sent.ports[0].scopes.clear()),
        ("ports[0]: port 9080: no scope is for all clients", |sent| scope_of(sent).namespaces.push("x".into())),
        ("ports[0]: host A.b is there twice", |sent| {
            let (scopes, names) = (vec![scope(vec![])], ["a.b", "A.b"]);
            sent.ports[0].hosts =
                names.map(|host| proto::NamedHost { host: host.into(), scopes: scopes.clone() }).into();
        }),
        ("ports[0]: a.b: port 9080: no scope is for all clients", |sent| {
            sent.ports[0].hosts.push(proto::NamedHost { host: "a.b".into(), scopes: vec![] });
        }),
        ("ports[0]: no port", |sent| sent.ports[0].port = 0),
        ("ports[0]: port 65536 is out of range", |sent| sent.ports[0].port = 65536),
        ("ports[0]: protocol 99 is unknown", |sent| sent.ports[0].protocol = 99),
        ("port 9080 is there twice", |sent| sent.ports.push(sent.ports[0].clone())),
        ("http[0]: VirtualService a/b r: no action", |sent| rule_of(sent).action = None),
        ("forward: no destinations", |sent| rule_of(sent).action = Some(to(&[]))),
        ("forward: all weights are 0", |sent| rule_of(sent).action = Some(to(&[(0, 0), (1, 0)]))),
        ("destinations[0]: there is no destinations[7]", |sent| rule_of(sent).action = Some(to(&[(7, 1)]))),
        ("mirrors[0]: there is no destinations[7]", |sent| {
            rule_of(sent).mirrors.push(proto::Mirror { destination: 7, parts: 1 });
        }),
        ("matches[0]: path: regular expression '(' is not one of RE2", |sent| {
            rule_of(sent).matches = vec![crate::routes::testing::matching("regex:(")];
        }),
        ("matches[0]: headers: x: regular expression '['", |sent| {
            rule_of(sent).matches = vec![crate::routes::testing::matching("h:x~=[")];
        }),
        ("matches[0]: headers: '@request.auth.claims.a' is no name of a header", |sent| {
            rule_of(sent).matches = vec![crate::routes::testing::matching("h:@request.auth.claims.a=1")];
        }),
        ("respond: status 99 is out of range", |sent| {
            rule_of(sent).action = Some(proto::Action::Respond(proto::DirectResponse { status: 99, body: vec![] }));
        }),
        ("fault: status 700 is out of range", |sent| {
            rule_of(sent).fault =
                Some(proto::Fault { abort: Some(proto::Abort::HttpStatus(700)), ..Default::default() });
        }),
        ("fault: 1000001 parts are more than a million", |sent| {
            rule_of(sent).fault = Some(proto::Fault { delay_parts: 1_000_001, ..Default::default() });
        }),
        ("destinations[1]: no namespace or no hostname", |sent| scope_of(sent).destinations[1].hostname.clear()),
        ("destinations[1]: policy: load_balancer: consistent_hash: no key", |sent| {
            policy_of(sent).load_balancer =
                Some(proto::LoadBalancer { consistent_hash: Some(Default::default()), ..Default::default() });
        }),
        ("load_balancer: algorithm 9 is unknown", |sent| {
            policy_of(sent).load_balancer = Some(proto::LoadBalancer { algorithm: 9, ..Default::default() });
        }),
        ("sizes 0 (ring) and 65536 (maglev) are out of range", |sent| {
            let key = Some(proto::HashKey::SourceIp(true));
            let hash = proto::ConsistentHash { key, maglev_table_size: 65536, ..Default::default() };
            policy_of(sent).load_balancer =
                Some(proto::LoadBalancer { consistent_hash: Some(hash), ..Default::default() });
        }),
        ("locality: distribute[0]: shares sum to 90, not 100", |sent| {
            let distribute = vec![proto::Distribute { from: "*".into(), to: [("a/*".into(), 90)].into() }];
            let locality = Some(proto::Locality { distribute, ..Default::default() });
            policy_of(sent).load_balancer = Some(proto::LoadBalancer { locality, ..Default::default() });
        }),
        ("outlier_detection: no interval", |sent| policy_of(sent).outlier_detection = Some(Default::default())),
        ("tls: mode MUTUAL without a certificate", |sent| {
            policy_of(sent).tls = Some(proto::Tls { mode: proto::TlsMode::Mutual.into(), ..Default::default() });
        }),
        ("tcp[0]: no destinations", |sent| scope_of(sent).tcp.push(Default::default())),
        ("tcp[0]: matches[0]: destination_subnets[0]", |sent| {
            let destination_subnets = vec![proto::Subnet { address: vec![1, 2], length: 3 }];
            let one = proto::ConnectionMatch { destination_subnets, ..Default::default() };
            scope_of(sent).tcp.push(proto::TcpRule { matches: vec![one], ..Default::default() });
        }),
    ];
    for (reason, spoil) in rows {
        let mut sent =
            service(vec![scope(vec![proto::HttpRule { origin: "VirtualService a/b".into(), ..rule("r", &[]) }])]);
        assert!(ServiceRoutes::compile(&sent).is_ok());
        spoil(&mut sent);
        let error = ServiceRoutes::compile(&sent).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn ports_without_routes_have_none() {
    let routes = ServiceRoutes::compile(&service(vec![scope(vec![])])).unwrap();
    assert!(routes.port(80).is_none() && routes.port(9080).is_some());
    assert_eq!(&*routes.service, "shop/reviews.shop.svc.cluster.local");
    assert_eq!(destination("v1").subset, "v1");
}
