//! A client's connection: its requests are served side by side.
use super::stream::{self, Raw, SendBodyError};
use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::http::h1;
use crate::http::io::Io;
use crate::http::server::Server;
use crate::http::{Body, Interim, Request, Response};
use ::h2::ext::Protocol;
use ::h2::server::{Builder, SendResponse};
use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, CONTENT_LENGTH, COOKIE, HOST, UPGRADE};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, StatusCode, Version};
use std::cell::{Cell, RefCell};
use std::future::{poll_fn, Future};
use std::hash::{BuildHasher, RandomState};
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{sleep, Instant};

/// Requests at a time; Istio's and Envoy's default is far above what one client needs, this is what RFC 9113 recommends at least.
const STREAMS: u32 = 1000;
/// Streams that a client has reset while they are being served: beyond, it is cut off (CVE-2023-44487).
const RESETS: usize = 100;
/// Requests after which a client is cut off that has reset more than half of them at once; as Envoy's
/// `premature_reset_total_stream_count`.
const JUDGED: u32 = 500;
/// Envoy's `premature_reset_min_stream_lifetime_seconds`.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Whoever needs no limit waits as long.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What a client has asked for, and has reset at once: each is work, and no answer is taken (CVE-2023-44487).
#[derive(Default)]
struct Asked {
    requests: Cell<u32>,
    resets: Cell<u32>,
}

impl Asked {
    fn is_abuse(&self) -> bool {
        self.requests.get() >= JUDGED && self.resets.get() > self.requests.get() / 2
    }
}

fn builder(server: &Server) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(server.settings.limits.bytes as u32)
        .max_concurrent_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(RESETS))
        .enable_connect_protocol();
    builder
}

/// Until its end. `handle` answers a request; a request that the client resets is dropped.
pub async fn serve<S: Io, F: AsyncFn(Request) -> Response + 'static>(io: S, server: Rc<Server>, handle: F) {
    let Ok(mut connection) = builder(&server).handshake::<_, Bytes>(io).await else { return };
    let handle = Rc::new(handle);
    let limit = server.settings.idle.unwrap_or(NEVER);
    let mut idle = pin!(sleep(limit));
    let drain = server.drain.clone();
    let mut announced = pin!(drain.announced());
    // A request alone is served right here, where `h1` has its room, too: a task for it would be as much work as its routing.
    let mut alone = pin!(None);
    let asked = Rc::new(Asked::default());
    let mut used = Instant::now();
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = poll_fn(|cx| poll_some(alone.as_mut(), cx)) => alone.set(None),
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                used = Instant::now();
                asked.requests.set(asked.requests.get().saturating_add(1));
                if asked.is_abuse() {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    continue;
                }
                let one = exchange(request, respond, server.clone(), handle.clone(), asked.clone());
                match alone.is_some() {
                    true => drop(spawn_local(one)),
                    false => alone.set(Some(one)),
                }
            }
            () = announced.as_mut(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
            () = idle.as_mut() => {
                // Set for each connection once, not for each request.
                if used.elapsed() >= limit {
                    used = Instant::now();
                    if !connection.has_streams() {
                        connection.graceful_shutdown();
                    }
                }
                idle.as_mut().reset(used + limit);
            }
        }
    }
}

/// Pending where there is none.
fn poll_some(future: Pin<&mut Option<impl Future<Output = ()>>>, cx: &mut Context<'_>) -> Poll<()> {
    future.as_pin_mut().map_or(Poll::Pending, |future| future.poll(cx))
}

struct Informational(RefCell<SendResponse<Bytes>>);

impl Interim for Informational {
    fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut head = http::Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers.clone();
        let _ = self.0.borrow_mut().send_informational(head); // a client that is gone shows elsewhere
    }
}

async fn exchange<F: AsyncFn(Request) -> Response>(
    head: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    server: Rc<Server>,
    handle: Rc<F>,
    asked: Rc<Asked>,
) {
    let began = Instant::now();
    let respond = Rc::new(Informational(RefCell::new(respond)));
    let method = head.method().clone();
    let (mut request, recv) = match request(head, &server) {
        Ok(taken) => taken,
        Err(status) => return answer(&respond, Response::new(status, ""), None).await,
    };
    request.interim = Some(respond.clone());
    let tunnel = match request.wants_tunnel() {
        true => Some(recv),
        false => {
            let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            request.body = stream::request_body(recv, length);
            None
        }
    };
    let mut handling = pin!(handle(request));
    let response = tokio::select! {
        biased; // a reset breaks the body, too, which is to be told of nobody else
        _ = poll_fn(|cx| respond.0.borrow_mut().poll_reset(cx)) => {
            let at_once = u32::from(began.elapsed() < AT_ONCE);
            return asked.resets.set(asked.resets.get() + at_once);
        }
        response = &mut handling => response,
    };
    let bodiless = method == Method::HEAD;
    let response = if bodiless { Response { body: Body::Empty, ..response } } else { response };
    answer(&respond, response, tunnel).await;
}

/// `stream` is the request's, where it becomes a tunnel.
async fn answer(respond: &Informational, mut response: Response, stream: Option<RecvStream>) {
    let mut head = http::Response::new(());
    *head.status_mut() = response.status;
    *head.headers_mut() = std::mem::take(&mut response.headers);
    if response.tunnel.is_some() {
        // RFC 8441 section 5: 200, without what HTTP/1.1 needs to switch.
        head.headers_mut().remove(UPGRADE);
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            *head.status_mut() = StatusCode::OK;
        }
    } else if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return respond.0.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
    }
    let length = response.body.length();
    if let Some(length @ 1..) = length {
        head.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    let bodiless = length == Some(0) && response.tunnel.is_none();
    let Ok(mut send) = respond.0.borrow_mut().send_response(head, bodiless) else { return };
    let sent = match (response.tunnel, stream) {
        (Some(mut tunnel), Some(recv)) => {
            let mut client = Raw::new(recv, send);
            let copied = tokio::io::copy_bidirectional(&mut client, &mut tunnel).await;
            if copied.is_err() {
                client.send.send_reset(Reason::CONNECT_ERROR);
            }
            Ok(())
        }
        _ if bodiless => Ok(()),
        _ => stream::send(&mut send, &mut response.body).await,
    };
    match (response.ticket, sent) {
        (Some(ticket), Ok(())) => ticket.sent(),
        (Some(ticket), Err(SendBodyError::Body(_))) => ticket.broken(),
        _ => {}
    }
}

/// What HTTP/2 lets through and the rest of this room must not meet is refused here.
fn request(head: http::Request<RecvStream>, server: &Server) -> Result<(Request, RecvStream), StatusCode> {
    let (mut parts, recv) = head.into_parts();
    let bad = StatusCode::BAD_REQUEST;
    if parts.headers.len() > server.settings.limits.fields {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    if parts.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
        || parts.headers.get_all(HOST).iter().nth(1).is_some()
    {
        return Err(bad);
    }
    let uri = parts.uri.into_parts();
    let named = uri.authority.map(h1::named).transpose().map_err(|_| bad)?;
    let host = parts.headers.remove(HOST);
    let host = host.map(|host| h1::authority(host.to_str().map_err(|_| bad)?).map_err(|_| bad)).transpose()?;
    let authority = match (named, host) {
        (Some(named), Some(host)) if named != host => return Err(bad),
        (Some(authority), _) | (None, Some(authority)) => authority,
        (None, None) => return Err(bad),
    };
    let path = uri.path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    if !h1::is_path(path.as_str().as_bytes()) {
        return Err(bad);
    }
    if !path.as_str().starts_with('/') && (path != "*" || parts.method != Method::OPTIONS) {
        return Err(bad);
    }
    join_cookies(&mut parts.headers);
    let protocol = parts.extensions.get::<Protocol>();
    let upgrade = protocol.map(|protocol| HeaderValue::from_str(protocol.as_str())).transpose().map_err(|_| bad)?;
    if upgrade.is_some() {
        // As HTTP/1.1 asks for the same.
        parts.method = Method::GET;
        parts.headers.entry(HeaderName::from_static("sec-websocket-key")).or_insert_with(websocket_key);
    }
    let request = Request {
        method: parts.method,
        scheme: uri.scheme.unwrap_or(Scheme::HTTP),
        authority,
        path,
        version: Version::HTTP_2,
        headers: parts.headers,
        body: Body::Empty,
        upgrade,
        interim: None,
    };
    Ok((request, recv))
}

/// RFC 9113 section 8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("parts of values make a value");
        headers.insert(COOKIE, joined);
    }
}

/// 16 bytes by chance, in base 64 (RFC 6455 section 4.1).
fn websocket_key() -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let state = RandomState::new();
    let digit = |at: u64| DIGITS[(state.hash_one(at) % 64) as usize];
    let mut key = (0..21).map(digit).collect::<Vec<_>>();
    key.push(DIGITS[(state.hash_one(21) % 4 * 16) as usize]);
    key.extend_from_slice(b"==");
    HeaderValue::from_bytes(&key).expect("base 64 is visible")
}
