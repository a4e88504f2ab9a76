//! Servers that are slow, break off, say what nobody understands, or never read. What reaches them is counted.
use super::frames::{block, frame};
use super::*;
use crate::http::h2::PREFACE;
use crate::http::testing::{abort, read_until, run, run_paused};
use std::io::ErrorKind::WouldBlock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::Instant;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const WHOLE: u8 = END_STREAM | END_HEADERS;

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &block(fields))
}

/// Answers of HTTP/2, and what the client and the record say.
fn answers() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let ok = (":status", "200");
    let begun = |length: &'static str| frame(HEADERS, END_HEADERS, 1, &block(&[ok, ("content-length", length)]));
    let data = |body: &[u8]| frame(DATA, END_STREAM, 1, body);
    let code = |kind: u8, id: u32, code: u32| match kind {
        GOAWAY => frame(GOAWAY, 0, 0, &[[0; 4], code.to_be_bytes()].concat()),
        kind => frame(kind, 0, id, &code.to_be_bytes()),
    };
    vec![
        ("right", [begun("2"), data(b"hi")].concat(), "200", "-"),
        ("no :status", head(&[("a", "b")]), "502", "UPE"),
        (":status that is no number", head(&[(":status", "abc")]), "502", "UPE"),
        ("two :status", head(&[ok, ok]), "502", "UPE"),
        // The h2 crate leaves it out.
        (":path of a response", head(&[ok, (":path", "/")]), "200", "-"),
        ("an upper case name", head(&[ok, ("Abc", "x")]), "502", "UPE"),
        ("connection", head(&[ok, ("connection", "close")]), "502", "UPE"),
        ("transfer-encoding", head(&[ok, ("transfer-encoding", "chunked")]), "502", "UPE"),
        ("101", head(&[(":status", "101")]), "502", "UPE"),
        ("DATA before HEADERS", data(b"x"), "502", "UPE"),
        ("HEADERS of an even stream", frame(HEADERS, WHOLE, 2, &block(&[ok])), "502", "UPE"),
        ("HEADERS of nobody's stream", frame(HEADERS, WHOLE, 7, &block(&[ok])), "502", "UPE"),
        ("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), "502", "UPE"),
        ("a body longer than its length", [begun("1"), data(b"hi")].concat(), "200", "UC"),
        ("a body shorter than its length", [begun("3"), data(b"hi")].concat(), "200", "UC"),
        ("refused", code(RST_STREAM, 1, 7), "503", "UR"),
        ("cancelled", code(RST_STREAM, 1, 8), "503", "UR"),
        ("GOAWAY before it is served", code(GOAWAY, 0, 0), "503", "UR"),
        ("GOAWAY for what we did", code(GOAWAY, 0, 11), "503", "UR"),
        ("another protocol", b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n".to_vec(), "502", "UPE"),
        ("a frame above the largest", frame(DATA, 0, 1, &[0; 16_385]), "502", "UPE"),
        ("a wrong setting", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]), "502", "UPE"),
        ("a window grown by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), "502", "UPE"),
        ("a block that cannot be read", frame(HEADERS, WHOLE, 1, &[0x80]), "502", "UPE"),
        (
            "a block without an end",
            [frame(HEADERS, 0, 1, &block(&[ok])), frame(CONTINUATION, 0, 1, &[]).repeat(100_000)].concat(),
            "502",
            "UPE",
        ),
    ]
}

/// A server of HTTP/2 that answers its first request with these frames; how many requests came.
async fn answering(frames: Vec<u8>) -> (SocketAddr, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let address = raw(async move |mut io: TcpStream| {
        io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let mut preface = [0; PREFACE.len()];
        io.read_exact(&mut preface).await.unwrap();
        loop {
            let mut start = [0; 9];
            if io.read_exact(&mut start).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, start[0], start[1], start[2]]) as usize;
            let _ = io.read_exact(&mut vec![0; length]).await;
            if start[3] == HEADERS {
                counted.set(counted.get() + 1);
                let _ = io.write_all(&frames).await; // it may be cut off before all is written
            }
        }
    });
    (address.await, count)
}

#[test]
fn each_wrong_answer_of_http2_has_its_end() {
    let mut wrong = Vec::new();
    for (name, frames, status, flags) in answers() {
        run(async {
            let (server, count) = answering(frames).await;
            let stage = Stage::new(vec![rule()]);
            stage.place("v1", endpoints(&[server], true));
            let answer = stage.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
            let found = (answer.get(9..12).unwrap_or_default(), stage.record().flags.to_string(), count.get());
            if found != (status, flags.to_owned(), 1) {
                wrong.push(format!("{name}: {found:?} in place of {status} {flags} 1"));
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a server of HTTP/1.1 does with each request.
#[derive(Clone, Copy, Debug)]
enum Does {
    Nothing,
    BreaksOff,
    Closes,
    Says(&'static str),
    SaysAndCloses(&'static str),
}

async fn doing(does: Does) -> (SocketAddr, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let address = raw(async move |mut io: TcpStream| {
        while let Ok(1..) = io.read(&mut [0; 4096]).await {
            counted.set(counted.get() + 1);
            match does {
                Does::Nothing => std::future::pending().await,
                Does::BreaksOff => return abort(io).await,
                Does::Closes => return,
                Does::Says(text) => send(&mut io, text).await,
                Does::SaysAndCloses(text) => return send(&mut io, text).await,
            }
        }
    });
    (address.await, count)
}

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";

/// With two more tries on these conditions, each of a second.
fn trying(conditions: &[proto::RetryOn]) -> proto::HttpRule {
    let retry = proto::Retry {
        attempts: 2,
        conditions: conditions.iter().map(|condition| *condition as i32).collect(),
        per_try_timeout_ms: 1000,
        backoff_base_ms: 25,
        backoff_max_ms: 250,
        ..Default::default()
    };
    forwarding(rule(), |forward| forward.retry = Some(retry))
}

#[test]
fn nothing_is_sent_twice_that_may_have_been_done() {
    use proto::RetryOn::*;
    // Istio's own, where a VirtualService has none.
    let usual = [ConnectFailure, RefusedStream, GrpcUnavailable, GrpcCancelled];
    let all = [ServerError, Reset];
    let rows = [
        (Does::Nothing, &usual[..], 1, "504", "UT"),
        (Does::Nothing, &all, 3, "504", "UT,URX"),
        (Does::BreaksOff, &usual, 1, "503", "UC"),
        (Does::BreaksOff, &all, 3, "503", "UC,URX"),
        (Does::Closes, &usual, 1, "503", "UC"),
        (Does::Closes, &all, 3, "503", "UC,URX"),
        (Does::Says("HTTP/1.1 200 OK\r\nconte"), &usual, 1, "504", "UT"),
        (Does::SaysAndCloses("HTTP/1.1 200 OK\r\nconte"), &usual, 1, "503", "UC"),
        (Does::Says("220 smtp ready\r\n\r\n"), &usual, 1, "502", "UPE"),
        (Does::Says("220 smtp ready\r\n\r\n"), &all, 3, "502", "UPE,URX"),
        (Does::Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi"), &usual, 1, "502", "UPE"),
        (Does::SaysAndCloses("HTTP/1.1 200 OK\r\n\r\nwithout a length"), &all, 1, "200", "-"),
        (Does::SaysAndCloses("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), &all, 1, "200", "UC"),
        (Does::SaysAndCloses("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf"), &all, 1, "200", "UC"),
        (Does::Says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), &all, 1, "200", "UC"),
        (Does::Says("HTTP/1.1 503 S\r\ncontent-length: 0\r\n\r\n"), &usual, 1, "503", "-"),
        (Does::Says("HTTP/1.1 503 S\r\ncontent-length: 0\r\n\r\n"), &all, 3, "503", "URX"),
    ];
    for (does, conditions, requests, status, flags) in rows {
        run_paused(async {
            let (server, count) = doing(does).await;
            let stage = Stage::new(vec![trying(conditions)]).serve("v1", &[server]);
            let answer = stage.ask(POST).await;
            let found = (answer.get(9..12).unwrap_or_default(), stage.record().flags.to_string(), count.get());
            assert_eq!(found, (status, flags.to_owned(), requests), "{does:?} {conditions:?}");
        });
    }
}

#[test]
fn an_answer_without_a_length_ends_where_its_server_closes() {
    run(async {
        let (server, _) = doing(Does::SaysAndCloses("HTTP/1.1 200 OK\r\n\r\nwithout a length")).await;
        let stage = Stage::new(vec![rule()]).serve("v1", &[server]);
        let mut client = stage.connect().await;
        send(&mut client, POST).await;
        let answer = read_until(&mut client, "\r\n0\r\n\r\n").await;
        assert!(answer.contains("transfer-encoding: chunked") && answer.contains("without a length"), "{answer}");
    });
}

fn ejecting() -> proto::Policy {
    let outliers = proto::OutlierDetection {
        consecutive_5xx: 2,
        interval_ms: 10_000,
        base_ejection_ms: 30_000,
        max_ejection_percent: 100,
        ..Default::default()
    };
    let balancer = proto::LoadBalancer { algorithm: proto::Algorithm::RoundRobin as i32, ..Default::default() };
    proto::Policy { outlier_detection: Some(outliers), load_balancer: Some(balancer), ..Default::default() }
}

#[test]
fn servers_that_do_not_answer_are_left_out() {
    for does in [Does::Nothing, Does::BreaksOff, Does::Closes, Does::Says("SSH-2.0-x\r\n\r\n")] {
        run_paused(async {
            let (bad, count) = doing(does).await;
            let (good, _) = statuses("good", &[200]).await;
            let stage = Stage::with_policy(trying(&[]), ejecting()).serve("v1", &[bad, good]);
            for _ in 0..12 {
                stage.get("/").await;
            }
            assert_eq!(count.get(), 2, "{does:?}: out after two in a row");
            tokio::time::sleep(Duration::from_secs(41)).await;
            for _ in 0..6 {
                stage.get("/").await;
            }
            assert!((3..=4).contains(&count.get()), "{does:?}: back, and out again: {}", count.get());
        });
    }
}

#[test]
fn a_slow_server_is_asked_by_as_many_as_may_wait() {
    run_paused(async {
        let pool = proto::ConnectionPool { max_connections: 2, http1_max_pending_requests: 3, ..Default::default() };
        let policy = proto::Policy { connection_pool: Some(pool), ..Default::default() };
        let (server, count) = doing(Does::Nothing).await;
        let timed = forwarding(rule(), |forward| forward.timeout_ms = 5000);
        let stage = Rc::new(Stage::with_policy(timed, policy).serve("v1", &[server]));
        let asking = (0..8).map(|_| {
            let stage = stage.clone();
            spawn_local(async move { (stage.get("/").await, Instant::now()) })
        });
        let began = Instant::now();
        let mut answers = Vec::new();
        for asked in asking.collect::<Vec<_>>() {
            answers.push(asked.await.unwrap());
        }
        let of = |status: &str| {
            answers.iter().filter(|(answer, _)| answer.starts_with(&format!("HTTP/1.1 {status} "))).count()
        };
        assert_eq!((of("503"), of("504"), count.get()), (5, 3, 2), "who waits for a connection is one of the three");
        assert!(answers.iter().all(|(_, at)| *at - began < Duration::from_secs(6)));
    });
}

/// Writes until no more is taken; how many bytes.
async fn fill(client: &TcpStream) -> usize {
    let (more, mut sent, mut idle) = (vec![7; 64 << 10], 0, 0);
    while idle < 200 {
        match client.try_write(&more) {
            Ok(n) => (sent, idle) = (sent + n, 0),
            Err(error) if error.kind() == WouldBlock => idle += 1,
            Err(error) => panic!("{error}"),
        }
        yield_now().await;
    }
    sent
}

#[test]
fn a_server_that_does_not_read_holds_up_its_client() {
    for http2 in [false, true] {
        run(async {
            let silent = raw(async move |mut io: TcpStream| {
                if http2 {
                    io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
                }
                let _io = io;
                std::future::pending::<()>().await;
            });
            let stage = Stage::new(vec![rule()]);
            stage.place("v1", endpoints(&[silent.await], http2));
            let mut client = stage.connect().await;
            send(&mut client, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").await;
            let sent = fill(&client).await;
            assert!(sent < 32 << 20, "{sent} bytes were taken");
        });
    }
}

/// A server that begins an answer, or reads a head and no more until `go`; what it meets in the end. Where a node's stream is
/// reset, a socket of this stage closes.
async fn waiting(http2: bool, says: &'static str, go: Rc<Notify>) -> (SocketAddr, Rc<RefCell<Option<String>>>) {
    let end = Rc::new(RefCell::new(None));
    let met = end.clone();
    let address = raw(async move |mut io: TcpStream| {
        let found = if http2 {
            io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            let mut preface = [0; PREFACE.len()];
            io.read_exact(&mut preface).await.unwrap();
            reset_of(&mut io).await
        } else {
            read_until(&mut io, "\r\n\r\n").await;
            send(&mut io, says).await;
            go.notified().await;
            io.read_exact(&mut vec![0; 1 << 30]).await.unwrap_err().kind().to_string()
        };
        *met.borrow_mut() = Some(found);
    });
    (address.await, end)
}

/// Reads frames, of which none is acknowledged, until a stream is reset.
async fn reset_of(io: &mut TcpStream) -> String {
    loop {
        let mut start = [0; 9];
        io.read_exact(&mut start).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, start[0], start[1], start[2]]) as usize];
        io.read_exact(&mut payload).await.unwrap();
        if start[3] == RST_STREAM {
            return format!("reset with {}", payload[3]);
        }
    }
}

#[test]
fn a_client_that_breaks_off_is_noticed_although_nobody_reads_it() {
    let event = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
    for (http2, says, expected) in
        [(false, "", "unexpected end of file"), (true, "", "reset with 8"), (false, event, "unexpected end of file")]
    {
        run(async {
            let go = Rc::new(Notify::new());
            let (server, end) = waiting(http2, says, go.clone()).await;
            let stage = Stage::new(vec![rule()]);
            stage.place("v1", endpoints(&[server], http2));
            let mut client = stage.connect().await;
            if says.is_empty() {
                send(&mut client, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").await;
                fill(&client).await;
            } else {
                send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                read_until(&mut client, "data: 1").await;
            }
            let records = stage.router.node.records.clone();
            assert_eq!(records.borrow().len(), 0);
            abort(client).await;
            while records.borrow().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!((records.borrow().len(), records.borrow()[0].flags.to_string()), (1, "DC".to_owned()));
            go.notify_one();
            while end.borrow().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(end.take().unwrap(), expected);
        });
    }
}
