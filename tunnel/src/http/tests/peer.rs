//! What is handed to a router comes to the same there, and comes back the same, as what is written to it and read.
use super::*;
use crate::http::body::Frame;
use crate::http::peer::{Peer, Unanswered};
use crate::http::testing::{collect, run};
use crate::http::{BodyError, Source};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// A body that comes in these frames.
struct Parts(Vec<Result<Frame, BodyError>>);

impl Source for Parts {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<crate::http::body::Next> {
        Poll::Ready((!self.0.is_empty()).then(|| self.0.remove(0)))
    }
}

fn streamed(length: Option<u64>, pieces: &[&'static str], trailers: bool) -> Body {
    let mut frames: Vec<_> = pieces.iter().map(|piece| Ok(Frame::Data(Bytes::from_static(piece.as_bytes())))).collect();
    if trailers {
        let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        frames.push(Ok(Frame::Trailers(HeaderMap::from_iter([status]))));
    }
    Body::stream(length, Parts(frames))
}

fn body(name: &str) -> Body {
    match name {
        "full" => Body::from("hello"),
        "arrived" => Body::Arrived(Bytes::from_static(b"hello")),
        "long" => streamed(Some(5), &["hel", "lo"], false),
        "chunked" => streamed(None, &["hel", "lo"], false),
        "trailers" => streamed(None, &["hello"], true),
        _ => Body::Empty,
    }
}

fn request(method: &Method, path: &str, sent: &str, version: Version) -> Request {
    let body = body(sent);
    let fields = [("a", "b"), ("x-request-id", "1")];
    let fields = fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let mut headers = HeaderMap::from_iter(fields);
    if let Some(length @ 1..) = body.length() {
        headers.insert("content-length", length.into());
    }
    Request {
        method: method.clone(),
        scheme: http::uri::Scheme::HTTP,
        authority: "reviews:9080".parse().unwrap(),
        path: path.parse().unwrap(),
        version,
        headers,
        body,
        upgrade: None,
        interim: None,
    }
}

/// The path says with what body, and whether with a length that is not the body's.
async fn answering(seen: Rc<RefCell<Vec<String>>>) -> SocketAddr {
    backend(async move |mut request: Request| {
        let path = request.path.path().to_owned();
        let length = request.body.length();
        let body_seen = collect(&mut request.body).await;
        let Request { method, scheme, authority, version, headers, .. } = &request;
        seen.borrow_mut()
            .push(format!("{method} {scheme} {authority} {version:?} {:?} {length:?} {body_seen:?}", sorted(headers)));
        let (status, name) = path[1..].split_once('/').unwrap();
        let mut response = Response::new(StatusCode::from_bytes(status.as_bytes()).unwrap(), body(name));
        response.headers.insert("c", HeaderValue::from_static("d"));
        if name == "would" {
            response.headers.insert("content-length", HeaderValue::from_static("5"));
        }
        response
    })
    .await
}

/// Status, fields, body and trailers.
async fn text(mut response: Response) -> String {
    let mut text = format!("{} {:?} {:?}\n", response.status, sorted(&response.headers), response.body.length());
    while let Some(frame) = response.body.frame().await {
        match frame {
            Ok(Frame::Data(bytes)) => text += &String::from_utf8_lossy(&bytes),
            Ok(Frame::Trailers(trailers)) => text += &format!("\n{trailers:?}"),
            Err(error) => text += &format!("\n{error:?}"),
        }
    }
    text
}

fn sorted(headers: &HeaderMap) -> Vec<String> {
    let mut all: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    all.retain(|field| !field.starts_with("x-envoy-upstream-service-time"));
    all.sort();
    all
}

fn peer(stage: &Stage) -> Peer {
    let session = Session::new(downstream(), stage.first.clone(), stage.drain.clone());
    Peer::new(&stage.router, &Rc::new(session))
}

/// What comes of a request that is written, or handed over.
async fn comes_of(stage: &Stage, mut request: Request, hand: bool) -> String {
    let (version, limits) = (request.version, Settings::default().limits);
    let response = match (hand, version) {
        (true, _) => peer(stage).send(&mut request, version, || {}).await.ok(),
        (false, Version::HTTP_2) => {
            let upstream = h2::Upstream::connect(stage.connect().await, limits, ()).await.unwrap();
            upstream.send(&mut request).await.ok()
        }
        (false, _) => h1::Upstream::new(stage.connect().await).send(&mut request, limits, drop).await.ok(),
    };
    text(response.expect("it is answered")).await
}

#[test]
fn what_is_handed_over_is_what_would_be_written_and_read() {
    let answers =
        ["200/full", "200/long", "200/chunked", "200/trailers", "200/none", "204/none", "304/would", "500/full"];
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            for sent in ["none", "full", "arrived", "long", "chunked", "trailers"] {
                for answer in answers {
                    run(async {
                        let seen = Rc::<RefCell<Vec<_>>>::default();
                        let server = answering(seen.clone()).await;
                        let stage = Stage::new(vec![rule()]);
                        stage.place("v1", endpoints(&[server], false));
                        let mut found = Vec::new();
                        for hand in [false, true] {
                            let request = request(&method, &format!("/{answer}"), sent, version);
                            let came = comes_of(&stage, request, hand).await;
                            let record = stage.record();
                            let record = (record.status, record.flags.to_string(), record.sent);
                            found.push((came, format!("{record:?}"), seen.borrow_mut().pop()));
                        }
                        assert_eq!(found[0], found[1], "{version:?} {method} {sent} {answer}");
                    });
                }
            }
        }
    }
}

#[test]
fn an_answer_is_over_where_it_ends_or_is_dropped() {
    run(async {
        let stage = Stage::new(vec![rule()]);
        stage.place("v1", endpoints(&[answering(Rc::default()).await], false));
        let peer = peer(&stage);
        // Nobody needs to look behind the last byte of a body with a length.
        for (answer, bytes, flags) in
            [("200/full", 0, "-"), ("200/long", 5, "-"), ("200/chunked", 6, "-"), ("200/chunked", 0, "DC")]
        {
            let ended = Rc::new(Cell::new(false));
            let end = ended.clone();
            let mut request = request(&Method::GET, &format!("/{answer}"), "none", Version::HTTP_11);
            let response = peer.send(&mut request, Version::HTTP_11, move || end.set(true)).await;
            let (mut body, mut read) = (response.ok().unwrap().body, 0);
            while read < bytes {
                match body.frame().await {
                    Some(Ok(Frame::Data(piece))) => read += piece.len(),
                    _ => break,
                }
            }
            drop(body);
            assert_eq!((ended.get(), &*stage.record().flags.to_string()), (flags == "-", flags), "{answer}");
            peer.settled().await;
        }
    });
}

#[test]
fn a_body_that_breaks_off_is_its_clients_fault() {
    run(async {
        let stage = Stage::new(vec![rule()]);
        stage.place("v1", endpoints(&[answering(Rc::default()).await], false));
        let mut request = request(&Method::POST, "/200/full", "none", Version::HTTP_11);
        request.body = Body::stream(None, Parts(vec![Ok(Frame::Data("x".into())), Err(BodyError::Reset)]));
        let sent = peer(&stage).send(&mut request, Version::HTTP_11, || {}).await;
        assert!(matches!(sent, Err(Unanswered::Body(BodyError::Reset))));
    });
}

#[test]
fn what_is_open_can_be_broken_off() {
    run(async {
        let (begun, waits) = oneshot::channel::<()>();
        let begun = Cell::new(Some(begun));
        let server = backend(async move |request: Request| {
            if request.path == "/silent" {
                drop(begun.take());
                std::future::pending::<()>().await;
            }
            Response::new(StatusCode::OK, Body::stream(None, endless("hello")))
        });
        let stage = Stage::new(vec![rule()]);
        stage.place("v1", endpoints(&[server.await], false));
        let peer = peer(&stage);
        let mut streaming = request(&Method::GET, "/", "none", Version::HTTP_11);
        let mut response = peer.send(&mut streaming, Version::HTTP_11, || {}).await.ok().unwrap();
        assert!(matches!(response.body.frame().await, Some(Ok(Frame::Data(_)))));
        let mut silent = request(&Method::GET, "/silent", "none", Version::HTTP_11);
        let asked = peer.send(&mut silent, Version::HTTP_11, || {});
        let breaking = async {
            let _ = waits.await;
            peer.break_off();
        };
        let (answer, ()) = tokio::join!(asked, breaking);
        assert!(matches!(answer, Err(Unanswered::Closed)));
        assert_eq!(collect(&mut response.body).await, Err(BodyError::Reset));
        drop(response);
        peer.settled().await;
        assert_eq!(stage.record().flags.to_string(), "DC");
    });
}

/// One piece, and no end.
fn endless(piece: &'static str) -> impl Source {
    struct Endless(Option<Bytes>);
    impl Source for Endless {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<crate::http::body::Next> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::Data(bytes)))))
        }
    }
    Endless(Some(Bytes::from_static(piece.as_bytes())))
}
