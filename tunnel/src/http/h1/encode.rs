//! Writing messages: each with one framing, which this hop chooses.
use super::connection::Connection;
use super::framing;
use crate::base::sink::{Relayed, Sink};
use crate::http::io::Io;
use crate::http::{Body, BodyError, Frame, Request, Response};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{HeaderMap, CONTENT_LENGTH, TRAILER};
use http::{Method, StatusCode, Version};
use std::future::poll_fn;
use std::io::{self, Write};
use std::rc::Rc;
use std::task::Poll;

/// How a body's end is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// There is no body, whatever the fields say.
    Nothing,
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug)]
pub enum WriteError {
    /// The connection's.
    Io,
    /// The body's own.
    Body(BodyError),
}

impl From<io::Error> for WriteError {
    fn from(_: io::Error) -> Self {
        WriteError::Io
    }
}

impl Outgoing {
    pub fn of_request(request: &Request) -> Outgoing {
        match request.body.length() {
            Some(0) if !request.headers.contains_key(CONTENT_LENGTH) => Outgoing::Nothing,
            Some(length) => Outgoing::Length(length),
            None => Outgoing::Chunked,
        }
    }

    /// `method` and `version` are the request's.
    pub fn of_response(response: &Response, method: &Method, version: Version) -> Outgoing {
        if response.tunnel.is_some() || !framing::has_body(response.status, method) {
            return Outgoing::Nothing;
        }
        match response.body.length() {
            Some(length) => Outgoing::Length(length),
            None if version == Version::HTTP_11 => Outgoing::Chunked,
            None => Outgoing::UntilClose,
        }
    }

    fn field(self, out: &mut BytesMut) {
        match self {
            Outgoing::Nothing | Outgoing::UntilClose => {}
            Outgoing::Length(length) => write(out, format_args!("content-length: {length}\r\n")),
            Outgoing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        }
    }
}

fn write(out: &mut BytesMut, text: std::fmt::Arguments) {
    out.writer().write_fmt(text).expect("memory takes what is written");
}

/// `Content-Length` only of a body that is not there: one that is has the framing's own.
fn fields(out: &mut BytesMut, headers: &HeaderMap, outgoing: Outgoing) {
    for (name, value) in headers {
        let framed = name == CONTENT_LENGTH && outgoing != Outgoing::Nothing;
        if framed || (name == TRAILER && outgoing != Outgoing::Chunked) {
            continue;
        }
        out.reserve(name.as_str().len() + value.len() + 4);
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
}

pub fn request(out: &mut BytesMut, request: &Request, outgoing: Outgoing) {
    let target = if request.method == Method::CONNECT { request.authority.as_str() } else { request.path.as_str() };
    out.reserve(512);
    for part in [request.method.as_str(), " ", target, " HTTP/1.1\r\nhost: ", request.authority.as_str(), "\r\n"] {
        out.put_slice(part.as_bytes());
    }
    fields(out, &request.headers, outgoing);
    if request.headers.contains_key(http::header::TE) {
        out.put_slice(b"connection: te\r\n");
    }
    if let Some(protocol) = &request.upgrade {
        for part in [b"connection: upgrade\r\nupgrade: ", protocol.as_bytes(), b"\r\n"] {
            out.put_slice(part);
        }
    }
    outgoing.field(out);
    out.put_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: StatusCode) {
    out.reserve(512);
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or(""), "\r\n"] {
        out.put_slice(part.as_bytes());
    }
}

pub fn interim(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    status_line(out, status);
    fields(out, headers, Outgoing::Nothing);
    out.put_slice(b"\r\n");
}

/// What the client is told of the connection's future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// As its version has it by itself.
    Implied,
    KeepAlive,
    Close,
    Upgrade,
}

pub fn response(out: &mut BytesMut, response: &Response, outgoing: Outgoing, persistence: Persistence) {
    status_line(out, response.status);
    let bodiless = response.status == StatusCode::NO_CONTENT || response.status.is_informational();
    // RFC 9110 section 8.6: never in a response that has none by its status.
    let as_framed = if bodiless { Outgoing::Length(0) } else { outgoing };
    fields(out, &response.headers, as_framed);
    out.put_slice(match persistence {
        Persistence::Implied => b"",
        Persistence::KeepAlive => b"connection: keep-alive\r\n",
        Persistence::Close => b"connection: close\r\n",
        Persistence::Upgrade => b"connection: upgrade\r\n",
    });
    outgoing.field(out);
    out.put_slice(b"\r\n");
}

/// Bytes of a body that is worth to be relayed without frames.
const LONG: u64 = 128 << 10;

/// A message that is being written.
struct Writer<'a, S> {
    connection: &'a Rc<Connection<S>>,
    outgoing: Outgoing,
    /// What goes before the next data: a head.
    scratch: BytesMut,
    written: u64,
}

/// A head and its body, in as few writes as the body's arrival allows.
pub async fn message<S: Io>(
    connection: &Rc<Connection<S>>,
    head: BytesMut,
    body: &mut Body,
    outgoing: Outgoing,
) -> Result<(), WriteError> {
    let mut writer = Writer { connection, outgoing, scratch: head, written: 0 };
    if outgoing == Outgoing::Nothing {
        return writer.write(Bytes::new()).await;
    }
    let mut held = Bytes::new();
    loop {
        if writer.is_long() {
            if let Some(relayed) = writer.relay(body).await {
                return relayed;
            }
        }
        let next = match poll_fn(|cx| Poll::Ready(body.poll_frame(cx))).await {
            Poll::Ready(next) => next,
            Poll::Pending => {
                writer.write(std::mem::take(&mut held)).await?;
                body.frame().await
            }
        };
        match next {
            // Only the end of chunks goes with the last of them; the memory of others is used again for the next.
            Some(Ok(Frame::Data(bytes))) if outgoing != Outgoing::Chunked => writer.write(bytes).await?,
            Some(Ok(Frame::Data(bytes))) if held.is_empty() => held = bytes,
            Some(Ok(Frame::Data(bytes))) => writer.write(std::mem::replace(&mut held, bytes)).await?,
            Some(Ok(Frame::Trailers(trailers))) => return writer.end(held, Some(&trailers)).await,
            Some(Err(error)) => {
                // What has come goes on: a client sees that it was begun.
                writer.write(held).await?;
                return Err(WriteError::Body(error));
            }
            None => return writer.end(held, None).await,
        }
    }
}

impl<S: Io> Writer<'_, S> {
    /// Whether much is left, and nothing has to go before it.
    fn is_long(&self) -> bool {
        self.scratch.is_empty() && matches!(self.outgoing, Outgoing::Length(length) if length - self.written >= LONG)
    }

    /// The rest of a body without frames; None: it cannot be, for now.
    async fn relay(&self, body: &mut Body) -> Option<Result<(), WriteError>> {
        let sink = self.connection.clone() as Rc<dyn Sink>;
        match body.relay(&sink).await {
            Relayed::Unable => None,
            Relayed::Whole => Some(Ok(())),
            Relayed::Refused => Some(Err(WriteError::Io)),
            Relayed::Ended => Some(Err(WriteError::Body(BodyError::Incomplete))),
            Relayed::Broken => Some(Err(WriteError::Body(BodyError::Reset))),
        }
    }

    async fn write(&mut self, data: Bytes) -> Result<(), WriteError> {
        let tail: &[u8] = if self.chunk(&data) { b"\r\n" } else { b"" };
        self.put(data, tail).await
    }

    async fn end(&mut self, data: Bytes, trailers: Option<&HeaderMap>) -> Result<(), WriteError> {
        if self.outgoing != Outgoing::Chunked {
            self.put(data, b"").await?;
            let short = matches!(self.outgoing, Outgoing::Length(length) if length != self.written);
            return if short { Err(WriteError::Body(BodyError::Incomplete)) } else { Ok(()) };
        }
        let mut tail = BytesMut::new();
        tail.put_slice(if self.chunk(&data) { b"\r\n0\r\n" } else { b"0\r\n" });
        fields(&mut tail, trailers.unwrap_or(&HeaderMap::new()), Outgoing::Nothing);
        tail.put_slice(b"\r\n");
        self.put(data, &tail).await
    }

    /// Begins a chunk, where data has one.
    fn chunk(&mut self, data: &Bytes) -> bool {
        let chunk = self.outgoing == Outgoing::Chunked && !data.is_empty();
        if chunk {
            write(&mut self.scratch, format_args!("{:x}\r\n", data.len()));
        }
        chunk
    }

    async fn put(&mut self, data: Bytes, tail: &[u8]) -> Result<(), WriteError> {
        self.written += data.len() as u64;
        if matches!(self.outgoing, Outgoing::Length(length) if self.written > length) {
            return Err(WriteError::Body(BodyError::Malformed));
        }
        let written = self.connection.write((&self.scratch[..]).chain(data).chain(tail)).await;
        self.scratch.clear();
        Ok(written?)
    }
}
