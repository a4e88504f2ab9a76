//! Circuit breakers and outlier detection, as requests see them.
use super::*;
use crate::http::testing::{read_until, run, run_paused};
use tokio::sync::Notify;

/// Answers when it is told to.
async fn waiting() -> (SocketAddr, Rc<Notify>, Rc<Cell<usize>>) {
    let (go, count) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)));
    let (gone, counted) = (go.clone(), count.clone());
    let address = backend(async move |_| {
        counted.set(counted.get() + 1);
        gone.notified().await;
        Response::new(StatusCode::OK, "done")
    });
    (address.await, go, count)
}

#[test]
fn what_is_over_the_limits_is_refused_at_once() {
    run(async {
        let pool = proto::ConnectionPool { max_connections: 1, http1_max_pending_requests: 1, ..Default::default() };
        let policy = proto::Policy { connection_pool: Some(pool), ..Default::default() };
        let (server, go, count) = waiting().await;
        let stage = Stage::with_policy(rule(), policy).serve("v1", &[server]);
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let (mut first, mut second) = (stage.connect().await, stage.connect().await);
        send(&mut first, get).await;
        while count.get() == 0 {
            tokio::task::yield_now().await;
        }
        send(&mut second, get).await;
        let destination = stage.first.destinations[0].clone();
        while stage.router.cluster(&destination, &downstream(), "").unwrap().breaker.pending.get() == 0 {
            tokio::task::yield_now().await;
        }
        let answer = stage.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("x-envoy-overloaded: true\r\n"), "{answer}");
        assert_eq!(stage.record().flags.to_string(), "UO");
        go.notify_one();
        read_until(&mut first, "done").await;
        while count.get() == 1 {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        read_until(&mut second, "done").await;
        let node = &stage.router.node;
        assert_eq!((count.get(), node.connects.get(), node.queued.get()), (2, 1, 1), "only the second one has waited");
    });
}

#[test]
fn requests_are_limited() {
    run(async {
        let pool = proto::ConnectionPool { http2_max_requests: 1, ..Default::default() };
        let policy = proto::Policy { connection_pool: Some(pool), ..Default::default() };
        let (server, go, count) = waiting().await;
        let stage = Stage::with_policy(rule(), policy).serve("v1", &[server]);
        let mut first = stage.connect().await;
        send(&mut first, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        while count.get() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(stage.get("/").await.contains("reset reason: overflow"));
        go.notify_one();
        read_until(&mut first, "done").await;
        go.notify_one();
        assert!(stage.get("/").await.ends_with("done"), "the first one counts no more");
    });
}

#[test]
fn connections_take_as_many_requests_as_they_may() {
    run(async {
        let pool = proto::ConnectionPool { max_requests_per_connection: 2, ..Default::default() };
        let policy = proto::Policy { connection_pool: Some(pool), ..Default::default() };
        let stage = Stage::with_policy(rule(), policy).serve("v1", &[echo("one").await]);
        for _ in 0..6 {
            assert!(stage.get("/").await.contains("one>"));
        }
        assert_eq!(stage.router.node.connects.get(), 3);
    });
}

fn outliers(percent: u32) -> proto::Policy {
    let outlier_detection = Some(proto::OutlierDetection {
        consecutive_5xx: 3,
        interval_ms: 10_000,
        base_ejection_ms: 30_000,
        max_ejection_percent: percent,
        ..Default::default()
    });
    let algorithm = proto::Algorithm::RoundRobin as i32;
    let load_balancer = Some(proto::LoadBalancer { algorithm, ..Default::default() });
    proto::Policy { outlier_detection, load_balancer, ..Default::default() }
}

#[test]
fn a_failing_host_is_left_out_for_a_while() {
    run_paused(async {
        let (bad, failures) = statuses("bad", &[503, 503, 503, 200]).await;
        let (good, _) = statuses("good", &[200]).await;
        let stage = Stage::with_policy(rule(), outliers(50)).serve("v1", &[bad, good]);
        for _ in 0..20 {
            stage.get("/").await;
        }
        assert_eq!(failures.get(), 3, "out after three in a row");
        tokio::time::sleep(Duration::from_secs(29)).await;
        stage.get("/").await;
        stage.get("/").await;
        assert_eq!(failures.get(), 3);
        tokio::time::sleep(Duration::from_secs(12)).await;
        stage.get("/").await;
        stage.get("/").await;
        assert_eq!(failures.get(), 4, "back at the first look after 30 s");
    });
}

#[test]
fn hosts_that_refuse_are_left_out_as_well() {
    run_paused(async {
        let stage = Stage::with_policy(rule(), outliers(100)).serve("v1", &[nowhere().await]);
        for _ in 0..3 {
            assert!(stage.get("/").await.contains("connection failure"));
        }
        assert!(stage.get("/").await.ends_with("no healthy upstream"));
        assert_eq!((stage.record().flags.to_string(), stage.router.node.connects.get()), ("UH".into(), 3));
    });
}

#[test]
fn cookies_keep_clients_at_their_host() {
    run(async {
        let cookie = proto::Cookie { name: "who".into(), path: "/".into(), ttl_ms: Some(60_000), attributes: vec![] };
        let consistent_hash =
            Some(proto::ConsistentHash { key: Some(proto::HashKey::Cookie(cookie)), ..Default::default() });
        let load_balancer = Some(proto::LoadBalancer { consistent_hash, ..Default::default() });
        let stage = Stage::with_policy(rule(), proto::Policy { load_balancer, ..Default::default() });
        let stage = stage.serve("v1", &[echo("one").await, echo("two").await, echo("three").await]);
        let mut servers = std::collections::HashSet::new();
        for _ in 0..20 {
            let answer = stage.get("/").await;
            let cookie =
                answer.split("set-cookie: ").nth(1).unwrap().split("; Max-Age=60; Path=/; HttpOnly").next().unwrap();
            let server = answer.split("\r\n\r\n").nth(1).unwrap().split('>').next().unwrap().to_owned();
            for _ in 0..5 {
                let again = stage.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: x=y; {cookie}\r\n\r\n")).await;
                assert!(again.contains(&format!("{server}> ")) && !again.contains("set-cookie"), "{again}");
            }
            servers.insert(server);
        }
        assert_eq!(servers.len(), 3);
    });
}
