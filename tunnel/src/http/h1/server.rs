//! A client's connection: its requests one after the other, however many of them it sends at once.
use super::connection::{Connection, HeadError, Raw, Reading, BODY_ROOM};
use super::encode::{self, Outgoing, Persistence, WriteError};
use super::head::{self, Refused, RequestHead};
use super::incoming;
use crate::http::io::Io;
use crate::http::server::Server;
use crate::http::{Request, Response, Ticket};
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version};
use std::cell::Cell;
use std::future::{pending, poll_fn, Future};
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{sleep_until, timeout, Instant};

/// How long, and for how many bytes, a client may go on sending after an answer that ends its connection: closing at once
/// would take the answer from it (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// What answers need to know of their requests.
struct Asked {
    method: Method,
    version: Version,
    keep_alive: bool,
}

/// Until its end. `handle` answers a request; a request whose client is gone is dropped.
pub async fn serve<S: Io>(io: S, read: Bytes, server: &Server, handle: impl AsyncFn(Request) -> Response) {
    let connection = Connection::new(io);
    connection.input.borrow_mut().extend_from_slice(&read);
    let since = Cell::new(Instant::now());
    let mut rest = pin!(rest(server, &since));
    loop {
        since.set(Instant::now());
        let head = match next(&connection, server, rest.as_mut()).await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(refused) => return refuse(&connection, refused).await,
        };
        let mut request = head.request;
        let asked = Asked { method: request.method.clone(), version: request.version, keep_alive: head.keep_alive };
        request.body = incoming::body(&connection, head.framing, server.settings.limits, || {});
        request.interim = (asked.version == Version::HTTP_11).then(|| connection.clone() as _);
        let handling = pin!(handle(request));
        let open = connection.body.get() != Reading::Done;
        let response = tokio::select! {
            biased;
            response = attended(&connection, handling) => response,
            () = connection.gone(), if open => None,
        };
        let Some(response) = response else { return connection.reset() };
        match answer(&connection, server, &asked, response).await {
            After::Next => {}
            After::Close => return linger(&connection).await,
            After::Gone => return,
        }
    }
    let _ = connection.shutdown().await;
}

/// The next request's head; `None`: there is none, and none will come.
async fn next<S: Io>(
    connection: &Rc<Connection<S>>,
    server: &Server,
    rest: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<RequestHead>, Refused> {
    let settings = &server.settings;
    if connection.input.borrow().is_empty() {
        let begun = tokio::select! {
            filled = connection.fill(super::connection::HEAD_ROOM) => matches!(filled, Ok(1..)),
            () = rest => false,
        };
        if !begun {
            return Ok(None);
        }
    }
    match limited(settings.head, connection.head(settings.limits)).await {
        Some(Ok(Some(bytes))) => head::request(&bytes, settings.limits, server.default_host.as_ref()).map(Some),
        Some(Err(HeadError::Refused(refused))) => Err(refused),
        Some(Err(HeadError::Incomplete)) => Err(Refused::bad("an incomplete head")),
        Some(Ok(None) | Err(HeadError::Reset)) => Ok(None),
        None => Err(Refused { status: StatusCode::REQUEST_TIMEOUT, reason: "request headers timeout" }),
    }
}

/// Ready when a client that has said nothing `since` then is to go. One timer serves all rests of a connection: whether
/// it is due is looked at when it fires.
async fn rest(server: &Server, since: &Cell<Instant>) {
    let idle = async {
        let Some(limit) = server.settings.idle else { return pending().await };
        while since.get().elapsed() < limit {
            sleep_until(since.get() + limit).await;
        }
    };
    tokio::select! {
        () = idle => {}
        () = server.drain.ordered() => {}
    }
}

/// None: it took longer.
pub async fn limited<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

/// What `handling` gives, unless the client breaks off before. Interim responses are written meanwhile, and the client's
/// next requests are read, up to a bound. A client that has only closed its own direction is answered.
async fn attended<S: Io>(
    connection: &Connection<S>,
    mut handling: Pin<&mut impl Future<Output = Response>>,
) -> Option<Response> {
    let mut half_closed = false;
    poll_fn(|cx| {
        let handled = handling.as_mut().poll(cx);
        if let Poll::Ready(Err(_)) = connection.poll_interim(cx) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(response) = handled {
            return Poll::Ready(Some(response));
        }
        while !half_closed && connection.body.get() == Reading::Done && connection.input.borrow().len() < BODY_ROOM {
            match connection.poll_fill(cx, 1) {
                Poll::Ready(Ok(read)) => half_closed = read == 0,
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await
}

enum After {
    Next,
    /// In order.
    Close,
    Gone,
}

async fn answer<S: Io>(
    connection: &Rc<Connection<S>>,
    server: &Server,
    asked: &Asked,
    mut response: Response,
) -> After {
    let _ = poll_fn(|cx| connection.poll_interim(cx)).await; // a failure shows below
    let outgoing = Outgoing::of_response(&response, &asked.method, asked.version);
    // A request that is not read to its end ends the connection: what follows it would be taken for the next one.
    let read = connection.body.get() == Reading::Done;
    let keep = asked.keep_alive && read && outgoing != Outgoing::UntilClose && !server.drain.is_announced();
    let mut head = BytesMut::new();
    encode::response(&mut head, &response, outgoing, persistence(asked, &response, keep));
    let streamed = !response.body.is_here();
    let written = tokio::select! {
        biased;
        written = encode::message(connection, head, &mut response.body, outgoing) => written,
        () = connection.gone(), if streamed => Err(WriteError::Io),
    };
    match written {
        Ok(()) => {}
        Err(WriteError::Io) => return After::Gone,
        Err(WriteError::Body(_)) => {
            if let Some(ticket) = response.ticket {
                ticket.broken();
            }
            // Where only the connection's end shows the body's, it must not look like one.
            if outgoing == Outgoing::UntilClose {
                connection.reset();
            }
            return After::Gone;
        }
    }
    if let Some(mut tunnel) = response.tunnel {
        // Their ends are both peers' own.
        let mut client = Raw(connection.clone());
        let copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut tunnel, BODY_ROOM, BODY_ROOM).await;
        if copied.is_err() {
            connection.reset();
        }
        told(response.ticket);
        return After::Gone;
    }
    told(response.ticket);
    if keep {
        After::Next
    } else {
        After::Close
    }
}

fn told(ticket: Option<Box<dyn Ticket>>) {
    if let Some(ticket) = ticket {
        ticket.sent();
    }
}

fn persistence(asked: &Asked, response: &Response, keep: bool) -> Persistence {
    match (asked.version, keep) {
        _ if response.status == StatusCode::SWITCHING_PROTOCOLS => Persistence::Upgrade,
        _ if response.tunnel.is_some() => Persistence::Implied,
        (Version::HTTP_11, true) => Persistence::Implied,
        (_, true) => Persistence::KeepAlive,
        (_, false) => Persistence::Close,
    }
}

/// Nothing of what the client has sent is looked at again.
async fn refuse<S: Io>(connection: &Connection<S>, refused: Refused) {
    let mut head = BytesMut::new();
    let response = Response::new(refused.status, "");
    encode::response(&mut head, &response, Outgoing::Length(0), Persistence::Close);
    if connection.write(head).await.is_ok() {
        linger(connection).await;
    }
}

/// Closes after an answer, so that the client gets it.
async fn linger<S: Io>(connection: &Connection<S>) {
    let drained = async {
        connection.shutdown().await.ok()?;
        let mut bytes = 0;
        while bytes < LINGER_BYTES {
            connection.input.borrow_mut().clear();
            match connection.fill(BODY_ROOM).await {
                Ok(read) if read > 0 => bytes += read,
                _ => break,
            }
        }
        Some(())
    };
    let _ = timeout(LINGER, drained).await;
}
