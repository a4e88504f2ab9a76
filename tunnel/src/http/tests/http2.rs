//! HTTP/2 at either side, and at both.
use super::*;
use crate::http::body::Frame;
use crate::http::testing::{read_until, run};
use ::h2::client::SendRequest;
use ::h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method};
use std::future::poll_fn;
use tokio::sync::Notify;

/// A client that has prior knowledge.
async fn client(stage: &Stage) -> SendRequest<Bytes> {
    let (sender, connection) = ::h2::client::handshake(stage.connect().await).await.unwrap();
    spawn_local(async move { drop(connection.await) });
    sender
}

fn get(path: &str) -> http::Request<()> {
    http::Request::get(format!("http://reviews:9080{path}")).body(()).unwrap()
}

async fn read(mut stream: RecvStream) -> (String, Option<HeaderMap>) {
    let mut text = Vec::new();
    while let Some(bytes) = stream.data().await {
        let bytes = bytes.unwrap();
        stream.flow_control().release_capacity(bytes.len()).unwrap();
        text.extend_from_slice(&bytes);
    }
    (String::from_utf8(text).unwrap(), stream.trailers().await.unwrap())
}

async fn ask(
    client: &mut SendRequest<Bytes>,
    request: http::Request<()>,
    body: &'static str,
) -> http::Response<String> {
    let mut ready = client.clone().ready().await.unwrap();
    let (response, mut stream) = ready.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
    }
    let (parts, stream) = response.await.unwrap().into_parts();
    let (text, _) = read(stream).await;
    http::Response::from_parts(parts, text)
}

#[test]
fn each_version_reaches_each() {
    for http2 in [false, true] {
        run(async {
            let stage = Stage::new(vec![rule()]);
            stage.place("v1", endpoints(&[echo("one").await], http2));
            let mut client = client(&stage).await;
            for _ in 0..3 {
                let mut post = get("/a?b");
                *post.method_mut() = Method::POST;
                post.headers_mut().append("cookie", HeaderValue::from_static("a=b"));
                post.headers_mut().append("cookie", HeaderValue::from_static("c=d"));
                let answer = ask(&mut client, post, "hi").await.into_body();
                assert!(answer.starts_with("one> POST reviews:9080/a?b\n") && answer.ends_with("\n\nhi<"), "{answer}");
                assert!(answer.contains("cookie: a=b; c=d\n"), "{answer}");
            }
            assert!(stage.get("/x").await.contains("one> GET reviews:9080/x\n"));
            assert_eq!(stage.router.node.connects.get(), 1);
        });
    }
}

/// A body that comes in these frames.
struct Parts(Vec<Frame>);

impl crate::http::Source for Parts {
    fn poll_frame(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<crate::http::body::Next> {
        std::task::Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
    }
}

#[test]
fn grpc_has_its_trailers() {
    for http2 in [false, true] {
        run(async {
            let server = backend(async |mut request: Request| {
                let body = crate::http::testing::collect(&mut request.body).await.unwrap();
                assert_eq!(request.headers["te"], "trailers");
                let status = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )]);
                let parts = Parts(vec![Frame::Data(Bytes::from(body)), Frame::Trailers(status)]);
                Response::new(StatusCode::OK, Body::stream(None, parts))
            });
            let stage = Stage::new(vec![rule()]);
            stage.place("v1", endpoints(&[server.await], http2));
            let mut ready = client(&stage).await.ready().await.unwrap();
            let mut request = get("/s/m");
            *request.method_mut() = Method::POST;
            request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
            let (response, mut stream) = ready.send_request(request, false).unwrap();
            stream.send_data("mess".into(), false).unwrap();
            stream.send_data("age".into(), true).unwrap();
            let (text, trailers) = read(response.await.unwrap().into_body()).await;
            assert_eq!((&*text, &trailers.unwrap()["grpc-status"]), ("message", &HeaderValue::from_static("0")));
        });
    }
}

/// As clients of gRPC end a stream of messages, and many servers a body.
#[test]
fn an_end_that_comes_in_an_empty_frame_goes_on() {
    for http2 in [false, true] {
        run(async {
            let server = backend(async |mut request: Request| {
                let body = crate::http::testing::collect(&mut request.body).await.unwrap();
                let parts = vec![Frame::Data(Bytes::from(body)), Frame::Data(Bytes::new())];
                Response::new(StatusCode::OK, Body::stream(None, Parts(parts)))
            });
            let stage = Stage::new(vec![rule()]);
            stage.place("v1", endpoints(&[server.await], http2));
            let mut ready = client(&stage).await.ready().await.unwrap();
            let mut request = get("/s/m");
            *request.method_mut() = Method::POST;
            let (response, mut stream) = ready.send_request(request, false).unwrap();
            stream.send_data("message".into(), false).unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
            let (text, trailers) = read(response.await.unwrap().into_body()).await;
            assert_eq!((&*text, trailers), ("message", None), "{http2}");
        });
    }
}

/// A unary call: its body comes with its head.
#[test]
fn a_body_that_is_here_goes_on_as_its_client_has_framed_it_and_can_be_sent_again() {
    for (http2, length) in [(false, None), (false, Some(2)), (true, None), (true, Some(2))] {
        run(async {
            let seen: Rc<RefCell<Vec<_>>> = Rc::default();
            let noted = seen.clone();
            let server = backend(async move |mut request: Request| {
                let length = request.body.length();
                let body = crate::http::testing::collect(&mut request.body).await.unwrap();
                noted.borrow_mut().push((length, request.headers.contains_key("content-length"), body));
                Response::new(StatusCode::SERVICE_UNAVAILABLE, "")
            });
            let retry = forwarding(rule(), |forward| {
                let conditions = vec![proto::RetryOn::ServerError as i32];
                forward.retry = Some(proto::Retry { attempts: 1, conditions, ..Default::default() });
            });
            let stage = Stage::of(testing::scope(vec![retry]), Settings { replay: 0, ..Settings::default() });
            stage.place("v1", endpoints(&[server.await], http2));
            let mut post = get("/s/m");
            *post.method_mut() = Method::POST;
            if let Some(length) = length {
                post.headers_mut().insert("content-length", HeaderValue::from(length));
            }
            assert_eq!(ask(&mut client(&stage).await, post, "hi").await.status(), StatusCode::SERVICE_UNAVAILABLE);
            let once = (length, length.is_some(), b"hi".to_vec());
            assert_eq!(*seen.borrow(), [once.clone(), once], "{http2}");
        });
    }
}

#[test]
fn requests_of_one_connection_do_not_wait_for_each_other() {
    run(async {
        let stage = Stage::new(vec![rule()]);
        let server = backend(async |request: Request| match request.path.path() {
            "/slow" => std::future::pending().await,
            _ => Response::new(StatusCode::OK, "quick"),
        });
        stage.place("v1", endpoints(&[server.await], true));
        let mut client = client(&stage).await;
        let (slow, _) = client.clone().ready().await.unwrap().send_request(get("/slow"), true).unwrap();
        assert_eq!(ask(&mut client, get("/"), "").await.into_body(), "quick");
        drop(slow);
    });
}

#[test]
fn a_websocket_over_http2_reaches_a_server_of_http1() {
    run(async {
        let server = raw(async |mut io: TcpStream| {
            let head = read_until(&mut io, "\r\n\r\n").await;
            assert!(head.starts_with("GET /chat HTTP/1.1\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
            assert_eq!(head.split("sec-websocket-key: ").nth(1).unwrap().find("\r\n"), Some(24), "{head}");
            send(&mut io, "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello").await;
            read_until(&mut io, "bye").await;
        });
        let stage = Stage::new(vec![rule()]).serve("v1", &[server.await]);
        let client = client(&stage).await;
        let mut ready = client.ready().await.unwrap();
        let mut request = get("/chat");
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(::h2::ext::Protocol::from_static("websocket"));
        while !ready.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let (response, mut stream) = ready.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "hello");
        stream.send_data("bye".into(), true).unwrap();
        let end = body.data().await.transpose().unwrap();
        assert!(end.is_none_or(|bytes| bytes.is_empty()) && body.is_end_stream(), "the server's end is the stream's");
    });
}

#[test]
fn interim_responses_pass() {
    for http2 in [false, true] {
        run(async {
            let server = backend(async |request: Request| {
                let hint = HeaderMap::from_iter([(http::header::LINK, HeaderValue::from_static("x"))]);
                request.interim.unwrap().send(StatusCode::EARLY_HINTS, &hint);
                Response::new(StatusCode::OK, "done")
            });
            let stage = Stage::new(vec![rule()]);
            stage.place("v1", endpoints(&[server.await], http2));
            let mut ready = client(&stage).await.ready().await.unwrap();
            let (mut response, _) = ready.send_request(get("/"), true).unwrap();
            let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!(
                (interim.status(), &interim.headers()["link"]),
                (StatusCode::EARLY_HINTS, &HeaderValue::from_static("x"))
            );
            assert_eq!(read(response.await.unwrap().into_body()).await.0, "done");
        });
    }
}

#[test]
fn a_reset_ends_the_request_upstream() {
    for http2 in [false, true] {
        run(async {
            struct Ended(tokio::sync::mpsc::UnboundedSender<()>);
            impl Drop for Ended {
                fn drop(&mut self) {
                    let _ = self.0.send(());
                }
            }
            let (end, mut ended) = tokio::sync::mpsc::unbounded_channel();
            let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
            let server = backend(async move |_| {
                let _end = Ended(end.clone());
                begin.send(()).unwrap();
                std::future::pending().await
            });
            let stage = Stage::new(vec![rule()]);
            stage.place("v1", endpoints(&[server.await], http2));
            let mut ready = client(&stage).await.ready().await.unwrap();
            let (response, mut stream) = ready.send_request(get("/"), false).unwrap();
            begun.recv().await.unwrap();
            stream.send_reset(Reason::CANCEL);
            drop(response);
            if http2 {
                ended.recv().await.unwrap();
            }
            while stage.router.node.records.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
            assert_eq!(stage.record().flags.to_string(), "DC");
        });
    }
}

#[test]
fn a_client_that_resets_all_it_asks_for_is_cut_off() {
    run(async {
        let server = backend(async |_| std::future::pending().await).await;
        let stage = Stage::new(vec![rule()]).serve("v1", &[server]);
        let (sender, connection) = ::h2::client::handshake(stage.connect().await).await.unwrap();
        let connection = spawn_local(connection);
        let mut sent = 0;
        let attack = async {
            loop {
                let Ok(mut ready) = sender.clone().ready().await else { break };
                let Ok((_, mut stream)) = ready.send_request(get("/"), false) else { break };
                stream.send_reset(Reason::CANCEL);
                sent += 1;
                // So few that the server takes each of them up.
                if sent % 10 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        };
        attack.await;
        let error = connection.await.unwrap().unwrap_err();
        // What it goes on sending may cost it the reason.
        assert!(error.reason() == Some(Reason::ENHANCE_YOUR_CALM) || error.is_io(), "{error:?} after {sent}");
    });
}

/// Each is being served when it is reset, so that nothing piles up of which `h2` itself takes only so much.
#[test]
fn a_client_that_resets_what_is_being_served_is_cut_off() {
    run(async {
        let taken = Rc::<Notify>::default();
        let seen = taken.clone();
        let server = backend(async move |_| {
            seen.notify_one();
            std::future::pending().await
        })
        .await;
        let stage = Stage::new(vec![rule()]).serve("v1", &[server]);
        let (sender, connection) = ::h2::client::handshake(stage.connect().await).await.unwrap();
        let attack = async {
            for _ in 0..1000 {
                let Ok(mut ready) = sender.clone().ready().await else { return std::future::pending().await };
                let (_, mut stream) = ready.send_request(get("/"), true).unwrap();
                taken.notified().await;
                stream.send_reset(Reason::CANCEL);
            }
        };
        let error = tokio::select! {
            ended = connection => ended.unwrap_err(),
            () = attack => panic!("a thousand were served and reset"),
        };
        assert!(error.reason() == Some(Reason::ENHANCE_YOUR_CALM) || error.is_io(), "{error:?}");
    });
}

#[test]
fn malformed_requests_go_nowhere() {
    run(async {
        let stage = Stage::new(vec![rule()]).serve("v1", &[echo("one").await]);
        let mut client = client(&stage).await;
        let mut lengths = get("/");
        lengths.headers_mut().append("content-length", HeaderValue::from_static("0"));
        lengths.headers_mut().append("content-length", HeaderValue::from_static("0"));
        let mut host = get("/");
        host.headers_mut().insert("host", HeaderValue::from_static("other"));
        for request in [lengths, host, http::Request::get("http://u@reviews/").body(()).unwrap()] {
            assert_eq!(ask(&mut client, request, "").await.status(), StatusCode::BAD_REQUEST);
        }
        let mut many = get("/");
        for _ in 0..101 {
            many.headers_mut().append("a", HeaderValue::from_static("b"));
        }
        assert_eq!(ask(&mut client, many, "").await.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(stage.router.node.connects.get(), 0);
    });
}

#[test]
fn drained_connections_end_when_their_requests_have() {
    run(async {
        let stage = Stage::new(vec![rule()]).serve("v1", &[echo("one").await]);
        let (sender, connection) = ::h2::client::handshake(stage.connect().await).await.unwrap();
        let connection = spawn_local(connection);
        let mut sender = sender;
        assert_eq!(ask(&mut sender, get("/"), "").await.status(), StatusCode::OK);
        stage.drain.order();
        drop(sender);
        connection.await.unwrap().unwrap();
    });
}
