//! A client's connection, over real sockets.
use super::super::serve;
use crate::http::testing::{abort, collect, pair, read_to_end, read_until, run, run_paused, send};
use crate::http::{Body, BodyError, Drain, Frame, Request, Response, Server, Settings};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{spawn_local, JoinHandle};

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

async fn connect(
    settings: Settings,
    handle: impl AsyncFn(Request) -> Response + 'static,
) -> (TcpStream, JoinHandle<()>) {
    let (client, io) = pair().await;
    let default_host = Some("default".parse().unwrap());
    let server = Server { settings, default_host, drain: Drain::default() };
    (client, spawn_local(async move { serve(io, Bytes::new(), &server, handle).await }))
}

/// Answers with what was asked.
async fn echo(mut request: Request) -> Response {
    let body = collect(&mut request.body).await.unwrap_or_default();
    let text = format!("{} {} {}", request.method, request.path, String::from_utf8_lossy(&body));
    Response::new(StatusCode::OK, Bytes::from(text))
}

#[test]
fn requests_at_once_are_answered_in_order() {
    run(async {
        let (mut client, _) = connect(Settings::default(), echo).await;
        let post = "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nxyz";
        let chunked = "PUT /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nuvw\r\n0\r\n\r\n";
        send(&mut client, format!("{GET}{post}{chunked}{GET}")).await;
        client.shutdown().await.unwrap();
        let (read, proper) = read_to_end(&mut client).await;
        let read = String::from_utf8(read).unwrap();
        let bodies = read.split("HTTP/1.1 200 OK\r\n").skip(1).map(|one| one.split("\r\n\r\n").nth(1).unwrap());
        assert_eq!(bodies.collect::<Vec<_>>(), ["GET /a ", "POST /b xyz", "PUT /c uvw", "GET /a "]);
        assert!(proper);
    });
}

#[test]
fn a_body_that_is_not_read_ends_the_connection() {
    run(async {
        let ignore = async |_: Request| Response::new(StatusCode::OK, "done");
        let (mut client, serving) = connect(Settings::default(), ignore).await;
        send(&mut client, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nGET /").await;
        assert!(read_until(&mut client, "done").await.contains("connection: close"));
        send(&mut client, " HTTP").await;
        drop(client);
        serving.await.unwrap();
    });
}

#[test]
fn versions_say_whether_connections_stay() {
    let rows = [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", true, ""),
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", false, "connection: close"),
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: x, Close\r\n\r\n", false, "connection: close"),
        ("GET / HTTP/1.0\r\n\r\n", false, "connection: close"),
        ("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", true, "connection: keep-alive"),
    ];
    for (request, stays, told) in rows {
        run(async {
            let (mut client, _) = connect(Settings::default(), echo).await;
            send(&mut client, request).await;
            let answer = read_until(&mut client, "GET / ").await;
            assert_eq!(answer.contains("connection:"), !told.is_empty(), "{request} {answer}");
            assert!(answer.contains(told), "{request} {answer}");
            if stays {
                send(&mut client, request).await;
                read_until(&mut client, "GET / ").await;
            } else {
                assert_eq!(read_to_end(&mut client).await, (Vec::new(), true), "{request}");
            }
        });
    }
}

#[test]
fn bodies_are_framed_as_the_client_can_read_them() {
    struct Parts(Vec<Frame>);
    impl crate::http::Source for Parts {
        fn poll_frame(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<crate::http::body::Next> {
            std::task::Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
        }
    }
    let stream = async |_: Request| {
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("t"), HeaderValue::from_static("u"))]);
        let parts = vec![Frame::Data("ab".into()), Frame::Data("c".into()), Frame::Trailers(trailers)];
        Response::new(StatusCode::OK, Body::stream(None, Parts(parts)))
    };
    run(async {
        let (mut client, _) = connect(Settings::default(), stream).await;
        send(&mut client, GET).await;
        let answer = read_until(&mut client, "t: u\r\n\r\n").await;
        assert!(
            answer.ends_with("transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nt: u\r\n\r\n"),
            "{answer}"
        );
        let (mut client, _) = connect(Settings::default(), stream).await;
        send(&mut client, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
        let answer = String::from_utf8(read_to_end(&mut client).await.0).unwrap();
        assert!(answer.ends_with("connection: close\r\n\r\nabc"), "{answer}");
    });
}

#[test]
fn some_responses_have_no_body() {
    let rows = [(Method::HEAD, 200, true), (Method::GET, 204, false), (Method::GET, 304, true)];
    for (method, status, keeps_length) in rows {
        run(async {
            let answer = async move |_: Request| {
                let mut response = Response::new(StatusCode::from_u16(status).unwrap(), "");
                response.headers.insert("content-length", HeaderValue::from_static("7"));
                response
            };
            let (mut client, _) = connect(Settings::default(), answer).await;
            send(&mut client, format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n{method} / HTTP/1.1\r\nhost: a\r\n\r\n"))
                .await;
            client.shutdown().await.unwrap();
            let read = String::from_utf8(read_to_end(&mut client).await.0).unwrap();
            assert_eq!(read.matches("content-length: 7").count(), if keeps_length { 2 } else { 0 }, "{read}");
            assert_eq!(read.matches("HTTP/1.1 ").count(), 2, "{read}");
            assert!(read.ends_with("\r\n\r\n"), "{read}");
        });
    }
}

#[test]
fn interim_responses_pass_before_the_final_one() {
    run(async {
        let handle = async |mut request: Request| {
            let interim = request.interim.clone().unwrap();
            let link = HeaderMap::from_iter([(http::header::LINK, HeaderValue::from_static("</s.css>"))]);
            interim.send(StatusCode::EARLY_HINTS, &link);
            interim.send(StatusCode::CONTINUE, &HeaderMap::new());
            let body = collect(&mut request.body).await.unwrap();
            Response::new(StatusCode::OK, Bytes::from(body))
        };
        let (mut client, _) = connect(Settings::default(), handle).await;
        send(&mut client, "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
        let interim = read_until(&mut client, "100 Continue\r\n\r\n").await;
        assert!(interim.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </s.css>\r\n\r\n"), "{interim}");
        send(&mut client, "body").await;
        assert!(read_until(&mut client, "body").await.starts_with("HTTP/1.1 200 OK\r\n"));
    });
}

#[test]
fn a_client_that_breaks_off_ends_what_is_done_for_it() {
    run(async {
        let ended = Rc::new(Cell::new(false));
        struct Ended(Rc<Cell<bool>>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let flag = ended.clone();
        let begun = Rc::new(tokio::sync::Notify::new());
        let begin = begun.clone();
        let handle = async move |_: Request| {
            let _ended = Ended(flag.clone());
            begin.notify_one();
            std::future::pending::<Response>().await
        };
        let (mut client, serving) = connect(Settings::default(), handle).await;
        send(&mut client, GET).await;
        begun.notified().await;
        abort(client).await;
        serving.await.unwrap();
        assert!(ended.get());
    });
}

#[test]
fn a_broken_response_does_not_look_whole() {
    struct Broken(bool);
    impl crate::http::Source for Broken {
        fn poll_frame(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<crate::http::body::Next> {
            let first = !std::mem::replace(&mut self.0, true);
            std::task::Poll::Ready(Some(if first { Ok(Frame::Data("abc".into())) } else { Err(BodyError::Reset) }))
        }
    }
    run(async {
        let answer = async |_: Request| Response::new(StatusCode::OK, Body::stream(None, Broken(false)));
        let (mut client, _) = connect(Settings::default(), answer).await;
        send(&mut client, GET).await;
        let (read, _) = read_to_end(&mut client).await;
        assert!(!read.ends_with(b"0\r\n\r\n"));
        let (mut client, _) = connect(Settings::default(), answer).await;
        send(&mut client, "GET / HTTP/1.0\r\n\r\n").await;
        assert!(!read_to_end(&mut client).await.1, "closed in order");
    });
}

#[test]
fn times_and_drains_end_connections() {
    run_paused(async {
        let settings = Settings { head: Some(Duration::from_secs(5)), ..Settings::default() };
        let (mut client, _) = connect(settings, echo).await;
        let began = tokio::time::Instant::now();
        send(&mut client, "GET / HT").await;
        assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
        assert_eq!(began.elapsed().as_secs(), 5);

        let (mut client, _) = connect(Settings::default(), echo).await;
        let began = tokio::time::Instant::now();
        assert_eq!(read_to_end(&mut client).await, (Vec::new(), true));
        assert_eq!(began.elapsed().as_secs(), 3600);
    });
    run(async {
        let (mut client, io) = pair().await;
        let drain = Drain::default();
        let server = Server { settings: Settings::default(), default_host: None, drain: drain.clone() };
        let serving = spawn_local(async move { serve(io, Bytes::new(), &server, echo).await });
        send(&mut client, GET).await;
        read_until(&mut client, "GET /a").await;
        drain.order();
        serving.await.unwrap();
        assert_eq!(read_to_end(&mut client).await, (Vec::new(), true));
    });
}

#[test]
fn a_drained_connection_says_so_with_its_last_answer() {
    run(async {
        let (mut client, io) = pair().await;
        let drain = Drain::default();
        let server = Server { settings: Settings::default(), default_host: None, drain: drain.clone() };
        let seen = RefCell::new(0);
        let handle = async |request: Request| {
            *seen.borrow_mut() += 1;
            drain.order();
            echo(request).await
        };
        send(&mut client, format!("{GET}{GET}")).await;
        let (answer, ()) = tokio::join!(
            async {
                let answer = read_until(&mut client, "GET /a").await;
                client.shutdown().await.unwrap();
                answer
            },
            serve(io, Bytes::new(), &server, handle)
        );
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(*seen.borrow(), 1);
    });
}
