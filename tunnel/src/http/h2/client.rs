//! Our use of a server's connection: many requests at a time.
use super::stream::{self, Raw, SendBodyError};
use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::http::io::Io;
use crate::http::peer::Unanswered;
use crate::http::settings::Limits;
use crate::http::{Body, BodyError, Peer, Request, Response};
use ::h2::client::{Builder, ResponseFuture, SendRequest};
use ::h2::ext::Protocol;
use ::h2::{Reason, SendStream};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode, Uri, Version};
use std::any::Any;
use std::cell::Cell;
use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::sync::oneshot;
use tokio::task::{spawn_local, AbortHandle};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection takes no more requests; this one was not sent.
    Unsent,
    Closed,
    /// RST_STREAM; refused: the server has not begun with it.
    Reset {
        refused: bool,
    },
    Malformed,
    /// The request's own body broke off.
    Body(BodyError),
}

impl From<::h2::Error> for SendError {
    fn from(error: ::h2::Error) -> Self {
        match error.reason() {
            _ if error.is_io() => SendError::Closed,
            // Streams that GOAWAY names are served still; the others were not begun with.
            _ if error.is_go_away() && error.is_remote() => SendError::Reset { refused: true },
            Some(Reason::REFUSED_STREAM) => SendError::Reset { refused: true },
            Some(_) if !error.is_remote() => SendError::Malformed,
            Some(_) => SendError::Reset { refused: false },
            None => SendError::Malformed,
        }
    }
}

impl From<Unanswered> for SendError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Closed => SendError::Closed,
            Unanswered::Body(error) => SendError::Body(error),
        }
    }
}

/// A connection; clones are the same one. It ends when nobody has it any more, and its streams have ended.
#[derive(Clone)]
pub struct Upstream(Rc<Shared>);

struct Shared {
    sender: SendRequest<Bytes>,
    peer: Option<Peer>,
    closed: Cell<bool>,
    streams: Cell<u32>,
    used: Cell<u32>,
}

/// A stream, among those of its connection.
struct Open(Rc<Shared>);

impl Open {
    fn new(shared: &Rc<Shared>) -> Open {
        shared.streams.set(shared.streams.get() + 1);
        shared.used.set(shared.used.get().saturating_add(1));
        Open(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

/// The task that sends a body, and ends with whoever is interested in the response.
struct Pump(AbortHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upstream {
    /// `guard` is dropped when the connection has ended.
    pub async fn connect<S: Io>(io: S, limits: Limits, guard: impl Any) -> Result<Upstream, SendError> {
        let mut builder = Builder::new();
        builder.enable_push(false).max_header_list_size(limits.bytes as u32);
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let peer = io.peer();
        let (sender, connection) = builder.handshake::<_, Bytes>(io).await?;
        let shared = Shared { sender, peer, closed: Cell::default(), streams: Cell::default(), used: Cell::default() };
        let upstream = Upstream(Rc::new(shared));
        let ended = Rc::downgrade(&upstream.0);
        spawn_local(async move {
            let _guard = guard;
            let _ = connection.await; // streams tell of errors
            if let Some(shared) = ended.upgrade() {
                shared.closed.set(true);
            }
        });
        Ok(upstream)
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// Ends it when its streams have.
    pub fn retire(&self) {
        self.0.closed.set(true);
    }

    pub fn is_unused(&self) -> bool {
        self.0.streams.get() == 0
    }

    pub fn used(&self) -> u32 {
        self.0.used.get()
    }

    /// Whether another request can go now, with `most` streams allowed by ourselves.
    pub fn has_room(&self, most: Option<u32>) -> bool {
        let allowed = self.0.sender.current_max_send_streams().min(most.unwrap_or(u32::MAX) as usize);
        (self.0.streams.get() as usize) < allowed
    }

    /// As h1's `send`.
    pub async fn send(&self, request: &mut Request) -> Result<Response, SendError> {
        let open = Open::new(&self.0);
        if let Some(peer) = self.0.peer.as_ref().filter(|_| !request.wants_tunnel()) {
            return Ok(peer.send(request, Version::HTTP_2, move || drop(open)).await?);
        }
        let mut sender = self.0.sender.clone(); // a clone has no request that waits to be begun
        let tunnel = request.wants_tunnel();
        let head = head(request, &sender)?;
        let body = std::mem::take(&mut request.body);
        let bodiless = matches!(body, Body::Empty) && !tunnel;
        let (response, mut send) = match sender.send_request(head, bodiless) {
            Ok(opened) => opened,
            Err(error) => {
                request.body = body;
                return Err(self.unsent(error));
            }
        };
        if tunnel {
            let head = final_head(response, request).await?;
            return Ok(tunnelled(head, send, request, open));
        }
        let (pump, failed) = match body {
            Body::Empty => (None, None),
            // h2 keeps it until there is room; it is small.
            Body::Full(bytes) | Body::Arrived(bytes) if bytes.len() <= 64 << 10 => {
                send.send_data(bytes, true).map_err(|_| SendError::Closed)?;
                (None, None)
            }
            body => pump(send, body).await?.unzip(),
        };
        let head = match failed {
            None => final_head(response, request).await?,
            Some(failed) => tokio::select! {
                head = final_head(response, request) => head?,
                Ok(error) = failed => return Err(SendError::Body(error)),
            },
        };
        let (parts, recv) = head.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let body = stream::body(recv, length, (open, pump));
        Ok(Response { headers: parts.headers, ..Response::new(parts.status, body) })
    }

    fn unsent(&self, error: ::h2::Error) -> SendError {
        self.retire();
        match error.is_io() || error.is_go_away() {
            true => SendError::Unsent,
            false => SendError::Malformed,
        }
    }
}

fn head(request: &Request, sender: &SendRequest<Bytes>) -> Result<http::Request<()>, SendError> {
    let mut uri = http::uri::Parts::default();
    uri.authority = Some(request.authority.clone());
    let mut head = http::Request::new(());
    *head.version_mut() = Version::HTTP_2;
    *head.method_mut() = request.method.clone();
    if let Some(protocol) = &request.upgrade {
        let protocol = protocol.to_str().map_err(|_| SendError::Malformed)?;
        if !sender.is_extended_connect_protocol_enabled() {
            return Err(SendError::Malformed);
        }
        *head.method_mut() = Method::CONNECT;
        head.extensions_mut().insert(Protocol::from(protocol));
    }
    if request.method != Method::CONNECT {
        uri.scheme = Some(request.scheme.clone());
        uri.path_and_query = Some(request.path.clone());
    }
    *head.uri_mut() = Uri::from_parts(uri).map_err(|_| SendError::Malformed)?;
    *head.headers_mut() = request.headers.clone();
    match request.body.length() {
        Some(0) | None => {
            if !matches!(request.body, Body::Empty) || request.wants_tunnel() {
                head.headers_mut().remove(CONTENT_LENGTH);
            }
        }
        Some(length) => drop(head.headers_mut().insert(CONTENT_LENGTH, length.into())),
    }
    Ok(head)
}

async fn final_head(
    mut future: ResponseFuture,
    request: &Request,
) -> Result<http::Response<::h2::RecvStream>, SendError> {
    let head = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(interim))) = future.poll_informational(cx) {
            let to = request.interim.as_ref();
            // HTTP/2 has no 101 (RFC 9113 section 8.6).
            if let Some(to) = to.filter(|_| interim.status() != StatusCode::SWITCHING_PROTOCOLS) {
                to.send(interim.status(), interim.headers());
            }
        }
        Pin::new(&mut future).poll(cx)
    });
    Ok(head.await?)
}

/// Sends a body. What of it is here goes at once; a task goes on with what is still to come.
async fn pump(
    mut send: SendStream<Bytes>,
    mut body: Body,
) -> Result<Option<(Pump, oneshot::Receiver<BodyError>)>, SendError> {
    let mut sending = Box::pin(async move { stream::send(&mut send, &mut body).await });
    match poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await {
        Poll::Ready(Err(SendBodyError::Body(error))) => return Err(SendError::Body(error)),
        Poll::Ready(_) => return Ok(None), // that the stream has failed shows in the response
        Poll::Pending => {}
    }
    let (failed, receiver) = oneshot::channel();
    let task = spawn_local(async move {
        if let Err(SendBodyError::Body(error)) = sending.await {
            let _ = failed.send(error); // nobody waits where the response has come
        }
    });
    Ok(Some((Pump(task.abort_handle()), receiver)))
}

fn tunnelled(
    head: http::Response<::h2::RecvStream>,
    send: SendStream<Bytes>,
    request: &Request,
    open: Open,
) -> Response {
    let (parts, recv) = head.into_parts();
    let mut response = Response { headers: parts.headers, ..Response::new(parts.status, "") };
    if !response.status.is_success() {
        response.body = stream::body(recv, None, open);
        return response;
    }
    if request.upgrade.is_some() {
        response.status = StatusCode::SWITCHING_PROTOCOLS;
    }
    response.tunnel = Some(Box::new(Raw::new(recv, send)));
    response
}
