use super::*;
use crate::http::testing::{read_until, run, run_paused};
use crate::http::{Flags, Normalization};
use crate::routes::proto::StringKind;
use http::uri::PathAndQuery;
use tokio::time::Instant;

const GRPC: &str = "POST /s/m HTTP/1.1\r\nhost: reviews\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";

#[test]
fn a_request_reaches_the_server_with_this_hops_fields_only() {
    run(async {
        let stage = Stage::new(vec![rule()]).serve("v1", &[echo("one").await]);
        let request = "POST /a?b HTTP/1.1\r\nhost: reviews:9080\r\nx: y\r\nkeep-alive: 5\r\nte: trailers\r\ncontent-length: 2\r\n\r\nhi";
        let answer = stage.ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("one> POST reviews:9080/a?b\n"), "{answer}");
        for field in ["x: y\n", "te: trailers\n", "x-forwarded-proto: http\n", "x-envoy-attempt-count: 1\n", "\n\nhi<"]
        {
            assert!(answer.contains(field), "{field}: {answer}");
        }
        let id = answer.split("x-request-id: ").nth(1).unwrap().split('\n').next().unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
        let got = answer.split("one> ").nth(1).unwrap();
        assert!(!got.contains("keep-alive") && !got.contains("\nconnection"), "{answer}");
        assert!(answer.contains("x-envoy-upstream-service-time: "), "{answer}");
        let record = stage.record();
        assert_eq!((record.attempts, record.flags.to_string(), &*record.route), (1, "-".into(), "main"));
        assert_eq!(record.status.unwrap(), 200);
    });
}

#[test]
fn what_no_rule_matches_is_not_found() {
    run(async {
        let stage = Stage::new(vec![testing::rule("a", &["prefix:/a"])]);
        let answer = stage.get("/b").await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("content-length: 0"), "{answer}");
        assert_eq!(stage.record().flags.to_string(), "NR");
        let answer = stage.ask(GRPC).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("grpc-status: 12\r\n"), "{answer}");
    });
}

#[test]
fn answers_of_routes_are_given_here() {
    run(async {
        let mut redirect = testing::rule("r", &["prefix:/r"]);
        redirect.action = Some(proto::Action::Redirect(proto::Redirect {
            path: Some(proto::RedirectPath::Full("/new".into())),
            authority: "other".into(),
            status: 302,
            ..Default::default()
        }));
        let mut respond = rule();
        respond.action = Some(proto::Action::Respond(proto::DirectResponse { status: 418, body: "tea".into() }));
        let change = proto::HeaderChange { name: "x".into(), value: "%REQ(host)%".into(), append: false };
        respond.response = Some(proto::HeaderChanges { remove: vec![], changes: vec![change] });
        let stage = Stage::new(vec![redirect, respond]);
        let answer = stage.get("/r?q").await;
        assert!(answer.starts_with("HTTP/1.1 302 Found\r\nlocation: http://other/new?q\r\n"), "{answer}");
        let answer = stage.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 418 I'm a teapot\r\n") && answer.ends_with("\r\n\r\ntea"), "{answer}");
    });
}

#[test]
fn paths_authorities_and_fields_are_rewritten() {
    run(async {
        let mut rule = forwarding(testing::rule("a", &["prefix:/a"]), |forward| {
            forward.rewrite = Some(proto::Rewrite {
                path: Some(proto::RewritePath::Prefix("/b".into())),
                authority: "other:80".into(),
            });
        });
        let change =
            |name: &str| proto::HeaderChange { name: name.into(), value: "%REQ(:authority)%".into(), append: false };
        rule.request = Some(proto::HeaderChanges { remove: vec!["gone".into()], changes: vec![change("set")] });
        rule.response = Some(proto::HeaderChanges { remove: vec![], changes: vec![change("told")] });
        let stage = Stage::new(vec![rule]).serve("v1", &[echo("one").await]);
        let answer = stage.ask("GET /a/x?q HTTP/1.1\r\nhost: reviews\r\ngone: 1\r\nset: old\r\n\r\n").await;
        assert!(answer.contains("one> GET other:80/b/x?q\n"), "{answer}");
        assert!(answer.contains("x-envoy-original-path: /a/x?q\n") && answer.contains("set: reviews\n"), "{answer}");
        assert!(!answer.contains("gone") && answer.contains("\r\ntold: "), "{answer}");
    });
}

#[test]
fn paths_are_normalised() {
    let rows = [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/../../a", "/a"),
        ("/..", "/"),
        ("/%2e%2E/a", "/a"),
        ("/a/%2e/b", "/a/b"),
        ("/%61%7E%2d", "/a~-"),
        ("/a%2fb", "/a%2fb"),
        ("/a%2Fb/..", "/"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/a/...", "/a/..."),
        ("/.a", "/.a"),
        ("/a?b=/../%2e\\", "/a?b=/../%2e\\"),
        ("/a/../b?c", "/b?c"),
        ("/%", "/%"),
        ("/%zz%4", "/%zz%4"),
        ("*", "*"),
    ];
    for (path, normal) in rows {
        let path = PathAndQuery::try_from(path).unwrap();
        assert_eq!(Normalization::Base.of(&path).unwrap().as_str(), normal, "{path}");
    }
    assert_eq!(Normalization::Base.of(&PathAndQuery::from_static("/a%00b")), None, "some servers end a path there");
    use Normalization::{Base, DecodeAndMergeSlashes, MergeSlashes};
    let modes = [
        (Normalization::None, "/a/../b//c\\d", "/a/../b//c\\d"),
        (Base, "/a//b%2f%5cc", "/a//b%2f%5cc"),
        (MergeSlashes, "///a//b%2f%2fc?d=//", "/a/b%2f%2fc?d=//"),
        (MergeSlashes, "/a//../b", "/a/b"),
        (MergeSlashes, "/a\\\\b", "/a/b"),
        (DecodeAndMergeSlashes, "/a%2F..%5Cb", "/b"),
        (DecodeAndMergeSlashes, "/a%2f%2F%5c/b%2e", "/a/b."),
        (DecodeAndMergeSlashes, "/a%252fb", "/a%252fb"),
    ];
    for (mode, path, normal) in modes {
        assert_eq!(mode.of(&PathAndQuery::try_from(path).unwrap()).unwrap().as_str(), normal, "{mode:?} {path}");
    }
    run(async {
        let settings = Settings { normalization: MergeSlashes, ..Settings::default() };
        let scope = testing::scope(vec![testing::rule("a", &["prefix:/a/b"])]);
        let stage = Stage::of(scope, settings).serve("v1", &[echo("one").await]);
        assert!(stage.get("//a//b").await.contains("reviews:9080/a/b\n"), "as it was set");
    });
    run(async {
        let stage = Stage::new(vec![testing::rule("a", &["prefix:/a"])]).serve("v1", &[echo("one").await]);
        assert!(stage.get("/a/../b").await.starts_with("HTTP/1.1 404"), "a rule for /a is not passed by");
        assert!(stage.get("/b/../a/c").await.contains("one> GET reviews:9080/a/c\n"));
    });
}

#[test]
fn faults_delay_and_abort() {
    run_paused(async {
        let faulty = |abort| {
            let mut rule = rule();
            rule.fault = Some(proto::Fault { delay_parts: 1_000_000, delay_ms: 7000, abort_parts: 1_000_000, abort });
            rule
        };
        let stage = Stage::new(vec![faulty(Some(proto::Abort::HttpStatus(555)))]);
        let began = Instant::now();
        let answer = stage.get("/").await;
        assert_eq!(began.elapsed().as_secs(), 7);
        assert!(answer.starts_with("HTTP/1.1 555 \r\n") && answer.ends_with("\r\n\r\nfault filter abort"), "{answer}");
        assert_eq!(stage.record().flags.to_string(), "DI,FI");
        let answer = Stage::new(vec![faulty(Some(proto::Abort::GrpcStatus(14)))]).ask(GRPC).await;
        assert!(answer.contains("grpc-status: 14\r\ngrpc-message: fault filter abort\r\n"), "{answer}");
    });
}

#[test]
fn origins_are_allowed() {
    run(async {
        let mut rule = rule();
        rule.cors = Some(proto::Cors {
            allow_origins: vec![proto::StringMatch {
                kind: Some(StringKind::Exact("http://ok".into())),
                ignore_case: false,
            }],
            allow_methods: vec!["GET".into(), "PUT".into()],
            allow_headers: vec!["x".into()],
            expose_headers: vec!["y".into()],
            max_age: Some(86400),
            allow_credentials: true,
            answer_unmatched_preflights: false,
        });
        let stage = Stage::new(vec![rule]).serve("v1", &[echo("one").await]);
        let preflight = |origin: &str| {
            format!(
                "OPTIONS / HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\naccess-control-request-method: DELETE\r\n\r\n"
            )
        };
        let answer = stage.ask(&preflight("http://ok")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("one>"), "{answer}");
        for field in ["origin: http://ok", "methods: GET,PUT", "headers: x", "max-age: 86400"] {
            assert!(answer.contains(field), "{field}: {answer}");
        }
        assert!(stage.ask(&preflight("http://no")).await.contains("one> OPTIONS"), "it goes on");
        let simple = |origin: &str| format!("GET / HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\n\r\n");
        let answer = stage.ask(&simple("http://ok")).await;
        assert!(answer.contains("access-control-expose-headers: y\r\n") && answer.contains("one> GET"), "{answer}");
        assert!(!stage.ask(&simple("http://no")).await.contains("access-control"));
    });
}

#[test]
fn mirrors_get_a_copy_and_hold_nobody() {
    run(async {
        let (give, mut got) = tokio::sync::mpsc::unbounded_channel();
        let mirror = backend(async move |mut request: Request| {
            let body = crate::http::testing::collect(&mut request.body).await.unwrap();
            give.send((request.authority.to_string(), String::from_utf8(body).unwrap())).unwrap();
            std::future::pending().await
        });
        let mut rule = rule();
        rule.mirrors = vec![proto::Mirror { destination: 1, parts: 1_000_000 }];
        let stage = Stage::new(vec![rule]).serve("v1", &[echo("one").await]).serve("v2", &[mirror.await]);
        let answer = stage.ask("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nhi").await;
        assert!(answer.contains("one> POST reviews:9080/\n"), "{answer}");
        assert_eq!(got.recv().await.unwrap(), ("reviews-shadow:9080".to_owned(), "hi".to_owned()));
        let chunked =
            "POST / HTTP/1.1\r\nhost: reviews\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert!(stage.ask(chunked).await.contains("\n\nabc<"));
        assert_eq!(got.recv().await.unwrap(), ("reviews-shadow".to_owned(), "abc".to_owned()));
    });
}

#[test]
fn shares_are_by_weight_for_each_request() {
    run(async {
        let mut rule = rule();
        rule.action = Some(testing::to(&[(0, 90), (1, 10)]));
        let stage = Stage::new(vec![rule]).serve("v1", &[echo("one").await]).serve("v2", &[echo("two").await]);
        let mut client = stage.connect().await;
        let mut second = 0;
        for _ in 0..1000 {
            send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            second += usize::from(read_until(&mut client, "<").await.contains("two>"));
        }
        // 3.3 standard deviations.
        assert!((70..=131).contains(&second), "{second}");
        assert_eq!(stage.router.node.connects.get(), 2, "connections are kept");
    });
}

#[test]
fn routes_change_for_open_connections_and_their_end_costs_no_request() {
    run(async {
        let stage = Stage::new(vec![rule()]).serve("v1", &[echo("one").await]).serve("v2", &[echo("two").await]);
        let mut client = stage.connect().await;
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        send(&mut client, get).await;
        assert!(read_until(&mut client, "<").await.contains("one>"));
        let mut other = rule();
        other.action = Some(testing::to(&[(1, 1)]));
        stage.route(Some(testing::scope(vec![other])));
        send(&mut client, get).await;
        assert!(read_until(&mut client, "<").await.contains("two>"));
        stage.route(None);
        send(&mut client, get).await;
        let answer = read_until(&mut client, "<").await;
        assert!(answer.contains("two>") && answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(read_to_end(&mut client).await, (Vec::new(), true));
    });
}

#[test]
fn destinations_that_do_not_exist_are_answered_as_the_route_says() {
    run(async {
        let unroutable = proto::Unroutable { status: 500, flag: "NR".into(), reason: "invalid backend".into() };
        let mut rule = rule();
        rule.action = Some(proto::Action::Forward(proto::Forward {
            destinations: vec![testing::share(proto::Target::Unroutable(unroutable), 1)],
            ..Default::default()
        }));
        let stage = Stage::new(vec![rule]);
        assert!(stage.get("/").await.starts_with("HTTP/1.1 500 "));
        assert_eq!(stage.record().flags, Flags::NO_ROUTE);
        let stage = Stage::new(vec![super::rule()]);
        assert!(stage.get("/").await.starts_with("HTTP/1.1 503 "));
        assert_eq!(stage.record().flags, Flags::NO_CLUSTER);
        let answer = Stage::new(vec![super::rule()]).serve("v1", &[]).get("/").await;
        assert!(answer.ends_with("\r\n\r\nno healthy upstream"), "{answer}");
    });
}

#[test]
fn websockets_pass() {
    run(async {
        let server = raw(async |mut io: TcpStream| {
            let head = read_until(&mut io, "\r\n\r\n").await;
            assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
            send(&mut io, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
                .await;
            assert_eq!(read_until(&mut io, "ping").await, "ping");
            send(&mut io, "pong").await;
        });
        let stage = Stage::new(vec![rule()]).serve("v1", &[server.await]);
        let mut client = stage.connect().await;
        send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").await;
        let answer = read_until(&mut client, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.contains("connection: upgrade\r\n") && answer.contains("upgrade: websocket\r\n"), "{answer}");
        send(&mut client, "ping").await;
        read_until(&mut client, "pong").await;
        assert_eq!(read_to_end(&mut client).await, (Vec::new(), true), "the server's end is passed on");
    });
}
