//! A router of this thread at the other end of a connection: requests are handed to it as they are. What writing and reading a
//! message would change is changed here: how it is framed, and where its end is told. The connection's bytes are left alone;
//! they show whether it is open.
use super::body::Next;
use super::h1::has_body;
use super::node::Node;
use super::router::{Router, Session};
use super::{Body, BodyError, Drain, Frame, Request, Response, Source, Ticket};
use http::header::{HeaderMap, CONTENT_LENGTH};
use http::uri::Scheme;
use http::{StatusCode, Version};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::sync::Notify;

type Handling = Pin<Box<dyn Future<Output = Response>>>;

#[derive(Clone)]
pub struct Peer(Rc<Shared>);

struct Shared {
    handle: Box<dyn Fn(Request) -> Handling>,
    drain: Drain,
    /// Requests whose answers are not over.
    open: Cell<usize>,
    broken: Cell<bool>,
    /// None is open any more, or all have been broken off.
    over: Notify,
}

/// Why there is no response.
pub enum Unanswered {
    /// The other end has broken off.
    Closed,
    /// The request's own body has.
    Body(BodyError),
}

impl Peer {
    /// As if the requests had come over the session's connection.
    pub fn new<N: Node>(router: &Rc<Router<N>>, session: &Rc<Session>) -> Peer {
        let (router, session, drain) = (router.clone(), session.clone(), session.drain.clone());
        let handle = move |request| -> Handling {
            let (router, session) = (router.clone(), session.clone());
            Box::pin(async move { router.handle(&session, request).await })
        };
        let (open, broken, over) = Default::default();
        Peer(Rc::new(Shared { handle: Box::new(handle), drain, open, broken, over }))
    }

    /// Whether the connection is to be used no more: with an answer that is written, its client is told so.
    pub fn is_leaving(&self) -> bool {
        self.0.drain.is_announced()
    }

    /// Ends what is open.
    pub fn break_off(&self) {
        self.0.broken.set(true);
        self.0.over.notify_waiters();
    }

    /// Returns when nothing is open.
    pub async fn settled(&self) {
        while self.0.open.get() > 0 {
            self.0.over.notified().await;
        }
    }

    async fn broken(self) {
        while !self.0.broken.get() {
            self.0.over.notified().await;
        }
    }

    /// As h1's and h2's `send`. `version`: in which it would have been written; `end` is called when the response is over.
    pub async fn send<E: FnOnce() + 'static>(
        &self,
        request: &mut Request,
        version: Version,
        end: E,
    ) -> Result<Response, Unanswered> {
        let open = Open::new(self);
        let (handed, failed) = handed(request, version);
        let response = tokio::select! {
            biased;
            () = self.clone().broken() => return Err(Unanswered::Closed),
            response = (self.0.handle)(handed) => response,
        };
        match failed.get() {
            Some(error) => Err(Unanswered::Body(error)),
            None => Ok(received(response, request, version, open, end)),
        }
    }
}

/// Among those that are open.
struct Open(Peer);

impl Open {
    fn new(peer: &Peer) -> Open {
        peer.0.open.set(peer.0.open.get() + 1);
        Open(peer.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let left = self.0 .0.open.get() - 1;
        self.0 .0.open.set(left);
        if left == 0 {
            self.0 .0.over.notify_waiters();
        }
    }
}

/// What the other end gets, and where it is told that the body has broken off.
fn handed(request: &mut Request, version: Version) -> (Request, Rc<Cell<Option<BodyError>>>) {
    let failed = Rc::<Cell<_>>::default();
    let mut headers = request.headers.clone();
    match request.body.length() {
        Some(0) if matches!(request.body, Body::Empty) => {}
        length => frame(&mut headers, length),
    }
    let body = match std::mem::take(&mut request.body) {
        Body::Stream { length, source } => Body::stream(length, Watched { source, failed: failed.clone() }),
        here => here,
    };
    // HTTP/1.1 does not say it.
    let scheme = if version == Version::HTTP_2 { request.scheme.clone() } else { Scheme::HTTP };
    let handed = Request {
        method: request.method.clone(),
        scheme,
        authority: request.authority.clone(),
        path: request.path.clone(),
        version,
        headers,
        body,
        upgrade: None,
        interim: request.interim.clone(),
    };
    (handed, failed)
}

fn frame(headers: &mut HeaderMap, length: Option<u64>) {
    match length {
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

/// A request's body, of which it is seen how it ends.
struct Watched {
    source: Box<dyn Source>,
    failed: Rc<Cell<Option<BodyError>>>,
}

impl Source for Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = self.source.poll_frame(cx);
        if let Poll::Ready(Some(Err(error))) = next {
            self.failed.set(Some(error));
        }
        next
    }
}

fn received<E: FnOnce() + 'static>(
    response: Response,
    request: &Request,
    version: Version,
    open: Open,
    end: E,
) -> Response {
    let Response { status, mut headers, body, ticket, .. } = response;
    let body = if has_body(status, &request.method) { body } else { Body::Empty };
    match body.length() {
        // Of HEAD and 304 it is what there would have been.
        Some(0) if !has_body(status, &request.method) => {
            if status == StatusCode::NO_CONTENT {
                headers.remove(CONTENT_LENGTH);
            }
        }
        Some(0) if version == Version::HTTP_2 => {}
        length => frame(&mut headers, length),
    }
    let mut rest = Rest { left: body.length(), ticket, end: Some(end), open: Some(open), broken: None };
    let body = match body {
        Body::Stream { length, source } => Body::stream(length, Answering { source, rest }),
        here => {
            rest.over();
            here
        }
    };
    Response { headers, ..Response::new(status, body) }
}

/// What is to be done when a response is over.
struct Rest<E> {
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    ticket: Option<Box<dyn Ticket>>,
    end: Option<E>,
    open: Option<Open>,
    broken: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<E: FnOnce()> Rest<E> {
    fn over(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.sent();
        }
        if let Some(end) = self.end.take() {
            end();
        }
        self.open = None;
    }

    /// Ready when the other end has broken off.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(open) = &self.open else { return Poll::Pending };
        let broken = self.broken.get_or_insert_with(|| Box::pin(open.0.clone().broken()));
        broken.as_mut().poll(cx)
    }
}

struct Answering<E> {
    source: Box<dyn Source>,
    rest: Rest<E>,
}

impl<E: FnOnce()> Source for Answering<E> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Answering { source, rest } = self;
        if rest.poll_broken(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Reset)));
        }
        let next = std::task::ready!(source.poll_frame(cx));
        match &next {
            Some(Ok(Frame::Data(bytes))) => {
                rest.left = rest.left.map(|left| left.saturating_sub(bytes.len() as u64));
                if rest.left == Some(0) {
                    rest.over();
                }
            }
            Some(Ok(Frame::Trailers(_))) | None => rest.over(),
            Some(Err(_)) => {
                if let Some(ticket) = rest.ticket.take() {
                    ticket.broken();
                }
            }
        }
        Poll::Ready(next)
    }
}
