//! Our use of a server's connection: one request at a time.
use super::connection::{Connection, HeadError, Raw};
use super::encode::{self, Outgoing, WriteError};
use super::head::{self, Refused, ResponseHead};
use super::incoming;
use crate::http::io::Io;
use crate::http::peer::Unanswered;
use crate::http::settings::Limits;
use crate::http::{Body, BodyError, Request, Response};
use bytes::BytesMut;
use http::{Method, StatusCode, Version};
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::oneshot;
use tokio::task::{spawn_local, AbortHandle};

/// Bytes of a body that go with their head in one write, without a task of their own.
const INLINE: usize = 64 << 10;

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The server closed or broke off before its response was whole.
    Closed,
    /// What it sent is not HTTP.
    Malformed(Refused),
    /// The request's own body broke off.
    Body(BodyError),
}

impl From<HeadError> for ClientError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Refused(refused) => ClientError::Malformed(refused),
            HeadError::Incomplete | HeadError::Reset => ClientError::Closed,
        }
    }
}

impl From<Refused> for ClientError {
    fn from(refused: Refused) -> Self {
        ClientError::Malformed(refused)
    }
}

impl From<Unanswered> for ClientError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Closed => ClientError::Closed,
            Unanswered::Body(error) => ClientError::Body(error),
        }
    }
}

pub struct Upstream<S>(Rc<Connection<S>>);

/// The task that writes a body; it ends with whoever is interested in the response.
struct Pump {
    task: AbortHandle,
    done: Rc<Cell<bool>>,
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S: Io> Upstream<S> {
    pub fn new(io: S) -> Self {
        Upstream(Connection::new(io))
    }

    /// Whether it can take another request, as far as one can know.
    pub fn is_idle(&self) -> bool {
        self.0.is_quiet()
    }

    /// Closes it in order.
    pub fn end(self) {
        self.0.end();
    }

    /// Requests that it has taken.
    pub fn used(&self) -> u32 {
        self.0.used.get()
    }

    /// Sends a request and gives the response's head as soon as it is here; interim ones go to the request's `interim`.
    /// `release` gets the connection when the response was read to its end and another request may follow.
    pub async fn send(
        self,
        request: &mut Request,
        limits: Limits,
        release: impl FnOnce(Upstream<S>) + 'static,
    ) -> Result<Response, ClientError> {
        let connection = self.0;
        connection.used.set(connection.used.get().saturating_add(1));
        if let Some(peer) = connection.peer().filter(|_| !request.wants_tunnel()) {
            let leaving = peer.clone();
            let end = move || match leaving.is_leaving() {
                true => connection.end(),
                false => release(Upstream(connection)),
            };
            return Ok(peer.send(request, Version::HTTP_11, end).await?);
        }
        let outgoing = Outgoing::of_request(request);
        let mut head = BytesMut::new();
        encode::request(&mut head, request, outgoing);
        let body = std::mem::take(&mut request.body);
        let inline = body.is_here() && body.length().is_some_and(|length| length <= INLINE as u64);
        let (pump, head) = if inline {
            let mut body = body;
            // A server may have answered and closed without reading: its response counts.
            let _ = encode::message(&connection, head, &mut body, outgoing).await;
            (None, response(&connection, request, limits).await?)
        } else {
            let (pump, failed) = pump(connection.clone(), head, body, outgoing);
            let head = tokio::select! {
                head = response(&connection, request, limits) => head?,
                Ok(error) = failed => return Err(ClientError::Body(error)),
            };
            (Some(pump), head)
        };
        Ok(received(connection, head, request, pump, limits, release))
    }
}

fn pump<S: Io>(
    connection: Rc<Connection<S>>,
    head: BytesMut,
    mut body: Body,
    outgoing: Outgoing,
) -> (Pump, oneshot::Receiver<BodyError>) {
    let (failed, receiver) = oneshot::channel();
    let done = Rc::new(Cell::new(false));
    let flag = done.clone();
    let task = spawn_local(async move {
        match encode::message(&connection, head, &mut body, outgoing).await {
            Ok(()) => flag.set(true),
            // The server's end shows where its response is read.
            Err(WriteError::Io) => {}
            Err(WriteError::Body(error)) => drop(failed.send(error)),
        }
    });
    (Pump { task: task.abort_handle(), done }, receiver)
}

/// The final response's head.
async fn response<S: Io>(
    connection: &Connection<S>,
    request: &Request,
    limits: Limits,
) -> Result<ResponseHead, ClientError> {
    loop {
        let bytes = connection.head(limits).await?.ok_or(ClientError::Closed)?;
        let head = head::response(&bytes, limits, &request.method)?;
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS if request.upgrade.is_none() => {
                return Err(Refused::bad("101 without a request for it").into());
            }
            status if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS => {
                if let Some(interim) = &request.interim {
                    interim.send(status, &head.headers);
                }
            }
            _ => return Ok(head),
        }
    }
}

fn received<S: Io>(
    connection: Rc<Connection<S>>,
    head: ResponseHead,
    request: &Request,
    pump: Option<Pump>,
    limits: Limits,
    release: impl FnOnce(Upstream<S>) + 'static,
) -> Response {
    let connect = request.method == Method::CONNECT && request.upgrade.is_none() && head.status.is_success();
    let mut response = Response { headers: head.headers, ..Response::new(head.status, Body::Empty) };
    if connect || head.status == StatusCode::SWITCHING_PROTOCOLS {
        response.tunnel = Some(Box::new(Raw(connection)));
        return response;
    }
    let kept = connection.clone();
    let end = move || {
        let sent = pump.as_ref().is_none_or(|pump| pump.done.get());
        match head.keep_alive {
            true if sent => release(Upstream(kept)),
            false if sent => kept.end(),
            _ => {} // the request is not whole, and its end must not look as if it were
        }
    };
    response.body = incoming::body(&connection, head.framing, limits, end);
    response
}
