//! Our requests to servers, over real sockets.
use super::super::{ClientError, Upstream};
use crate::http::settings::Limits;
use crate::http::testing::{abort, collect, pair, read_until, run, send};
use crate::http::{Body, BodyError, Frame, Interim, Request, Response};
use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

fn request(method: Method, body: impl Into<Body>) -> Request {
    Request {
        method,
        scheme: Scheme::HTTP,
        authority: "a".parse().unwrap(),
        path: PathAndQuery::from_static("/p?q"),
        version: http::Version::HTTP_11,
        headers: HeaderMap::new(),
        body: body.into(),
        upgrade: None,
        interim: None,
    }
}

type Released = Rc<RefCell<Vec<Upstream<TcpStream>>>>;

async fn ask(upstream: Upstream<TcpStream>, request: &mut Request, pool: &Released) -> Result<Response, ClientError> {
    let pool = pool.clone();
    upstream.send(request, Limits::default(), move |upstream| pool.borrow_mut().push(upstream)).await
}

/// What a server that answers with `answer` (and closes then, or breaks off) makes of a request.
async fn answered(
    mut request: Request,
    answer: &[u8],
) -> (Result<(Response, Result<Vec<u8>, BodyError>), ClientError>, usize) {
    let (io, mut server) = pair().await;
    let pool = Released::default();
    let serving = async {
        read_until(&mut server, "\r\n\r\n").await;
        send(&mut server, answer).await;
        let _ = server.shutdown().await;
        server
    };
    let asking = async {
        let mut response = ask(Upstream::new(io), &mut request, &pool).await?;
        let body = collect(&mut response.body).await;
        Ok((response, body))
    };
    let (result, _server) = tokio::join!(asking, serving);
    let released = pool.borrow().len();
    (result, released)
}

#[test]
fn responses_end_where_they_say() {
    let rows: &[(&str, &str, bool)] = &[
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "abc", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", "abc", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc", true),
        ("HTTP/1.1 200 OK\r\n\r\nabc", "abc", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", "abc", false),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc", "abc", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n", "", true),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "", true),
    ];
    for (answer, body, kept) in rows {
        let (result, released) = run(answered(request(Method::GET, ""), answer.as_bytes()));
        let (_, read) = result.unwrap();
        assert_eq!((read.unwrap(), released), (body.as_bytes().to_vec(), usize::from(*kept)), "{answer}");
    }
    let (result, _) = run(answered(request(Method::HEAD, ""), b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"));
    let (response, read) = result.unwrap();
    assert_eq!((response.headers["content-length"].as_bytes(), read.unwrap()), (&b"3"[..], Vec::new()));
}

#[test]
fn responses_that_could_be_read_in_two_ways_are_refused() {
    let rows: &[&str] = &[
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nab",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\na: b\n\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ];
    for answer in rows {
        let (result, released) = run(answered(request(Method::GET, ""), answer.as_bytes()));
        assert!(matches!(result, Err(ClientError::Malformed(_))), "{answer}: {:?}", result.err());
        assert_eq!(released, 0);
    }
    for answer in ["", "HTTP/1.1 200 OK\r\nconte"] {
        let (result, _) = run(answered(request(Method::GET, ""), answer.as_bytes()));
        assert_eq!(result.err(), Some(ClientError::Closed), "{answer}");
    }
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab",
    ] {
        let (result, released) = run(answered(request(Method::GET, ""), answer.as_bytes()));
        assert_eq!(result.unwrap().1, Err(BodyError::Incomplete), "{answer}");
        assert_eq!(released, 0);
    }
}

#[test]
fn requests_are_written_with_one_framing() {
    async fn written(mut request: Request, end: &str) -> String {
        let (io, mut server) = pair().await;
        let pool = Released::default();
        let asking = tokio::task::spawn_local(async move { ask(Upstream::new(io), &mut request, &pool).await.err() });
        let text = read_until(&mut server, end).await;
        asking.abort();
        text
    }
    run(async {
        assert_eq!(written(request(Method::GET, ""), "\r\n\r\n").await, "GET /p?q HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut post = request(Method::POST, "abc");
        post.headers.insert("content-length", HeaderValue::from_static("99")); // not to be believed
        post.headers.insert("x", HeaderValue::from_static("y"));
        assert_eq!(written(post, "abc").await, "POST /p?q HTTP/1.1\r\nhost: a\r\nx: y\r\ncontent-length: 3\r\n\r\nabc");
        let mut connect = request(Method::CONNECT, "");
        connect.authority = "a:80".parse().unwrap();
        assert_eq!(written(connect, "\r\n\r\n").await, "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n");
        let mut upgrade = request(Method::GET, "");
        upgrade.upgrade = Some(HeaderValue::from_static("websocket"));
        let text = written(upgrade, "\r\n\r\n").await;
        assert!(text.ends_with("connection: upgrade\r\nupgrade: websocket\r\n\r\n"), "{text}");
    });
}

/// A body that a test gives piece by piece.
struct Given(mpsc::UnboundedReceiver<Result<Frame, BodyError>>);

impl crate::http::Source for Given {
    fn poll_frame(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<crate::http::body::Next> {
        self.0.poll_recv(cx)
    }
}

#[test]
fn a_body_goes_on_while_its_response_comes() {
    run(async {
        let (io, mut server) = pair().await;
        let (give, given) = mpsc::unbounded_channel();
        let pool = Released::default();
        let mut post = request(Method::POST, Body::stream(None, Given(given)));
        give.send(Ok(Frame::Data("one".into()))).unwrap();
        let (response, _) = tokio::join!(ask(Upstream::new(io), &mut post, &pool), async {
            read_until(&mut server, "3\r\none\r\n").await;
            send(&mut server, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc").await;
        });
        let mut response = response.unwrap();
        assert!(matches!(response.body.frame().await, Some(Ok(Frame::Data(bytes))) if bytes == "abc"));
        give.send(Ok(Frame::Data("two".into()))).unwrap();
        read_until(&mut server, "3\r\ntwo\r\n").await;
        drop(give);
        read_until(&mut server, "0\r\n\r\n").await;
        send(&mut server, "def").await;
        assert_eq!(collect(&mut response.body).await.unwrap(), b"def");
        assert_eq!(pool.borrow().len(), 1, "kept: both messages are whole");
    });
}

#[test]
fn a_request_that_breaks_off_breaks_off_at_the_server() {
    run(async {
        let (io, mut server) = pair().await;
        let (give, given) = mpsc::unbounded_channel();
        let pool = Released::default();
        let mut post = request(Method::POST, Body::stream(Some(9), Given(given)));
        give.send(Ok(Frame::Data("one".into()))).unwrap();
        give.send(Err(BodyError::Reset)).unwrap();
        let (response, ()) = tokio::join!(ask(Upstream::new(io), &mut post, &pool), async {
            let mut all = String::new();
            let _ = server.read_to_string(&mut all).await;
            assert!(!all.ends_with("0\r\n\r\n"), "{all}");
        });
        assert_eq!(response.err(), Some(ClientError::Body(BodyError::Reset)));
    });
}

#[test]
fn a_server_that_answers_early_and_closes_is_heard() {
    run(async {
        let (io, mut server) = pair().await;
        let pool = Released::default();
        let mut post = request(Method::POST, Bytes::from(vec![b'x'; 32 << 20]));
        let (response, ()) = tokio::join!(ask(Upstream::new(io), &mut post, &pool), async {
            read_until(&mut server, "\r\n\r\n").await;
            send(&mut server, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").await;
        });
        assert_eq!(response.unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(pool.borrow().is_empty(), "its request is not whole");
    });
}

#[test]
fn a_switched_connection_carries_bytes_both_ways() {
    run(async {
        let (io, mut server) = pair().await;
        let pool = Released::default();
        let mut upgrade = request(Method::GET, "");
        upgrade.upgrade = Some(HeaderValue::from_static("websocket"));
        let (response, _) = tokio::join!(ask(Upstream::new(io), &mut upgrade, &pool), async {
            read_until(&mut server, "upgrade: websocket\r\n\r\n").await;
            send(
                &mut server,
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nhi",
            )
            .await;
        });
        let response = response.unwrap();
        assert_eq!(response.headers["upgrade"], "websocket");
        let mut tunnel = response.tunnel.unwrap();
        let mut two = [0; 2];
        tunnel.read_exact(&mut two).await.unwrap();
        tunnel.write_all(b"ho").await.unwrap();
        server.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"ho");
    });
}

#[test]
fn interim_responses_reach_who_wants_them() {
    #[derive(Default)]
    struct Seen(RefCell<Vec<u16>>);
    impl Interim for Seen {
        fn send(&self, status: StatusCode, _: &HeaderMap) {
            self.0.borrow_mut().push(status.as_u16());
        }
    }
    let seen = Rc::new(Seen::default());
    let mut get = request(Method::GET, "");
    get.interim = Some(seen.clone());
    let answer = b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(run(answered(get, answer)).0.unwrap().0.status, StatusCode::OK);
    assert_eq!(*seen.0.borrow(), [103, 100]);
}

#[test]
fn a_connection_that_the_server_has_closed_is_not_idle() {
    run(async {
        let (io, server) = pair().await;
        let upstream = Upstream::new(io);
        assert!(upstream.is_idle());
        abort(server).await;
        while upstream.is_idle() {
            tokio::task::yield_now().await;
        }
    });
}
