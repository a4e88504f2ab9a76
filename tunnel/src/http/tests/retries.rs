use super::*;
use crate::http::testing::{abort, read_until, run, run_paused};
use tokio::sync::Notify;
use tokio::time::Instant;

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";

fn retrying(attempts: u32, conditions: &[proto::RetryOn], change: impl FnOnce(&mut proto::Retry)) -> proto::HttpRule {
    let mut retry = proto::Retry {
        attempts,
        conditions: conditions.iter().map(|condition| *condition as i32).collect(),
        avoid_previous_hosts: true,
        backoff_base_ms: 25,
        backoff_max_ms: 250,
        ..Default::default()
    };
    change(&mut retry);
    forwarding(rule(), |forward| forward.retry = Some(retry))
}

/// A server that reads a request, says `answer`, and breaks off; with the number of its requests, and what lets it break off
/// after an answer. Until that was read a reset may overtake it: the kernel brings them by way of two processors, if the
/// server has been moved between them, and then there was no answer.
async fn breaker(answer: &'static str) -> (SocketAddr, Rc<Cell<usize>>, Rc<Notify>) {
    let (count, read) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
    let (counted, waited) = (count.clone(), read.clone());
    let address = raw(async move |mut io| {
        read_until(&mut io, "\r\n\r\n").await;
        counted.set(counted.get() + 1);
        if !answer.is_empty() {
            send(&mut io, answer).await;
            waited.notified().await;
        }
        abort(io).await;
    });
    (address.await, count, read)
}

#[test]
fn a_failed_try_is_followed_by_another_with_the_same_body() {
    run(async {
        let (server, count) = statuses("one", &[503, 503, 200]).await;
        let stage = Stage::new(vec![retrying(2, &[proto::RetryOn::ServerError], |_| ())]).serve("v1", &[server]);
        let answer = stage.ask(POST).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("one body"), "{answer}");
        assert_eq!((count.get(), stage.record().attempts), (3, 3));
        let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        let (server, count) = statuses("two", &[503, 200]).await;
        stage.place("v1", endpoints(&[server], false));
        assert!(stage.ask(chunked).await.ends_with("two abc"));
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn tries_end_at_their_limit() {
    run(async {
        let (server, count) = statuses("one", &[503]).await;
        let stage = Stage::new(vec![retrying(2, &[proto::RetryOn::GatewayError], |_| ())]).serve("v1", &[server]);
        assert!(stage.get("/").await.starts_with("HTTP/1.1 503 "));
        assert_eq!((count.get(), stage.record().flags.to_string()), (3, "URX".into()));
    });
}

#[test]
fn statuses_are_retried_by_their_conditions() {
    use proto::RetryOn::*;
    let rows: &[(&'static [u16], proto::RetryOn, usize)] = &[
        (&[500, 200], ServerError, 2),
        (&[500, 200], GatewayError, 1),
        (&[502, 200], GatewayError, 2),
        (&[409, 200], Retriable4xx, 2),
        (&[404, 200], Retriable4xx, 1),
        (&[503, 200], ConnectFailure, 1),
        (&[503, 200], Reset, 1),
        (&[200], ServerError, 1),
    ];
    for (answers, condition, requests) in rows {
        run(async {
            let (server, count) = statuses("one", answers).await;
            let stage = Stage::new(vec![retrying(1, &[*condition], |_| ())]).serve("v1", &[server]);
            stage.get("/").await;
            assert_eq!(count.get(), *requests, "{answers:?} {condition:?}");
        });
    }
    run(async {
        let (server, count) = statuses("one", &[418, 200]).await;
        let stage = Stage::new(vec![retrying(1, &[], |retry| retry.statuses = vec![418])]).serve("v1", &[server]);
        assert!(stage.get("/").await.starts_with("HTTP/1.1 200 "));
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn a_refused_host_is_left_for_another() {
    run(async {
        let (server, count) = statuses("one", &[200]).await;
        let stage = Stage::new(vec![retrying(1, &[proto::RetryOn::ConnectFailure], |_| ())]);
        let stage = stage.serve("v1", &[nowhere().await, server, nowhere().await]);
        let mut answered = 0;
        for _ in 0..30 {
            answered += usize::from(stage.get("/").await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(answered, count.get());
        assert!(answered >= 15, "{answered}: of three hosts one is right, and another try helps half of the rest");
        let stage = stage.serve("v1", &[nowhere().await]);
        let answer = stage.get("/").await;
        assert!(answer.contains("reset reason: connection failure"), "{answer}");
        assert_eq!(stage.record().flags.to_string(), "UF,URX");
    });
}

#[test]
fn what_may_have_been_done_is_not_sent_again() {
    run(async {
        let default = || retrying(2, &[proto::RetryOn::ConnectFailure, proto::RetryOn::RefusedStream], |_| ());
        let all = || retrying(2, &[proto::RetryOn::ServerError, proto::RetryOn::Reset], |_| ());
        let rows = [
            ("begun", all(), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun"),
            ("begun without a length", all(), "HTTP/1.1 200 OK\r\n\r\nbegun"),
        ];
        for (name, rule, answer) in rows {
            let (server, count, read) = breaker(answer).await;
            let stage = Stage::new(vec![rule]).serve("v1", &[server]);
            let mut client = stage.connect().await;
            send(&mut client, POST).await;
            read_until(&mut client, "begun").await;
            read.notify_one();
            read_to_end(&mut client).await;
            assert_eq!((count.get(), stage.record().flags.to_string()), (1, "UC".into()), "{name}");
        }
        let (server, count, _) = breaker("").await;
        let stage = Stage::new(vec![default()]).serve("v1", &[server]);
        let answer = stage.ask(POST).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connection termination"), "{answer}");
        assert_eq!((count.get(), stage.record().flags.to_string()), (1, "UC".into()));
        let (server, count, _) = breaker("").await;
        let stage = Stage::new(vec![all()]).serve("v1", &[server]);
        stage.ask(POST).await;
        assert_eq!(count.get(), 3, "whoever asks for it gets it");
    });
}

#[test]
fn a_body_too_large_to_keep_is_sent_once() {
    run(async {
        let (server, count) = statuses("one", &[503, 200]).await;
        let settings = Settings { replay: 1000, ..Settings::default() };
        let rule = || retrying(2, &[proto::RetryOn::ServerError], |_| ());
        let stage = Stage::of(testing::scope(vec![rule()]), settings).serve("v1", &[server]);
        let chunks = format!("190\r\n{}\r\n", "x".repeat(400));
        let request = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let large = format!("{request}{}0\r\n\r\n", chunks.repeat(3));
        assert!(stage.ask(&large).await.starts_with("HTTP/1.1 503 "));
        assert_eq!(count.get(), 1);
        let (server, count) = statuses("one", &[503, 200]).await;
        let stage = Stage::of(testing::scope(vec![rule()]), settings).serve("v1", &[server]);
        let small = format!("{request}{}0\r\n\r\n", chunks.repeat(2));
        assert!(stage.ask(&small).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn times_run_out() {
    let silent = || {
        raw(async |io| {
            let _io = io;
            std::future::pending::<()>().await
        })
    };
    run_paused(async {
        let whole = forwarding(rule(), |forward| forward.timeout_ms = 3000);
        let stage = Stage::new(vec![whole]).serve("v1", &[silent().await]);
        let began = Instant::now();
        let answer = stage.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("upstream request timeout"), "{answer}");
        assert_eq!((began.elapsed().as_secs(), stage.record().flags.to_string()), (3, "UT".into()));

        let (began, grpc) = (Instant::now(), "content-type: application/grpc\r\ngrpc-timeout: 2S");
        let answer = stage.ask(&format!("POST /s/m HTTP/1.1\r\nhost: a\r\n{grpc}\r\ncontent-length: 0\r\n\r\n")).await;
        assert!(answer.contains("grpc-status: 14\r\ngrpc-message: upstream request timeout\r\n"), "{answer}");
        assert_eq!(began.elapsed().as_secs(), 2, "the client's own is shorter");

        let each = retrying(2, &[proto::RetryOn::Reset], |retry| retry.per_try_timeout_ms = 1000);
        let stage = Stage::new(vec![each]).serve("v1", &[silent().await]);
        let began = Instant::now();
        assert!(stage.get("/").await.starts_with("HTTP/1.1 504 "));
        assert_eq!((began.elapsed().as_secs(), stage.record().attempts), (3, 3));
        assert_eq!(stage.record().flags.to_string(), "UT,URX");
    });
    run_paused(async {
        let slow = raw(async |mut io| {
            read_until(&mut io, "\r\n\r\n").await;
            send(&mut io, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun").await;
            std::future::pending::<()>().await;
        });
        let stage =
            Stage::new(vec![forwarding(rule(), |forward| forward.timeout_ms = 3000)]).serve("v1", &[slow.await]);
        let began = Instant::now();
        assert!(stage.get("/").await.ends_with("begun"), "what has come goes on");
        assert_eq!((began.elapsed().as_secs(), stage.record().flags.to_string()), (3, "UT".into()));
    });
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_costs_no_idempotent_request() {
    run(async {
        // Answers one request for each connection and closes, without saying so, when the next one comes.
        let server = raw(async |mut io| {
            read_until(&mut io, "\r\n\r\n").await;
            send(&mut io, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
            read_until(&mut io, "\r\n\r\n").await;
            abort(io).await;
        });
        let server = server.await;
        let retried = retrying(1, &[proto::RetryOn::ConnectFailure], |_| ());
        let stage = Stage::new(vec![retried]).serve("v1", &[server]);
        assert!(stage.get("/").await.ends_with("done"));
        assert!(stage.get("/").await.ends_with("done"), "over the next connection");
        assert!(stage.ask(POST).await.contains("connection termination"), "it may have been done");
        let stage = Stage::new(vec![rule()]).serve("v1", &[server]);
        assert!(stage.get("/").await.ends_with("done"));
        assert!(stage.get("/").await.contains("connection termination"), "its route has no retries");
    });
}

#[test]
fn garbage_is_a_protocol_error() {
    run(async {
        let (server, ..) = breaker("SSH-2.0-x\r\n\r\n").await;
        let stage = Stage::new(vec![rule()]).serve("v1", &[server]);
        let answer = stage.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && answer.ends_with("protocol error"), "{answer}");
        assert_eq!(stage.record().flags.to_string(), "UPE");
    });
}

#[test]
fn a_malformed_body_ends_both_sides() {
    run(async {
        let stage = Stage::new(vec![rule()]).serve("v1", &[echo("one").await]);
        let answer = stage.ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close"), "{answer}");
        assert_eq!(stage.record().flags.to_string(), "DPE");
    });
}
