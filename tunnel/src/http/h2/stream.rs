//! Bodies and tunnels over streams.
use crate::http::body::Next;
use crate::http::{h1, Body, BodyError, Frame, Source};
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

struct Incoming<G> {
    stream: RecvStream,
    /// Data that have been taken from it already.
    first: Option<Bytes>,
    /// Data are over: trailers may follow.
    ended: bool,
    /// What lasts as long as the body does.
    _guard: G,
}

pub fn body<G: 'static>(stream: RecvStream, length: Option<u64>, guard: G) -> Body {
    if stream.is_end_stream() {
        return Body::Empty;
    }
    Body::stream(length, Incoming { stream, first: None, ended: false, _guard: guard })
}

/// The same of a request, whose body has often come with its head, as that of a unary call of gRPC has: then there is nothing
/// to wait for, and nothing to be kept for another try but its bytes.
pub fn request_body(mut stream: RecvStream, length: Option<u64>) -> Body {
    if stream.is_end_stream() {
        return Body::Empty;
    }
    let first = match stream.poll_data(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(bytes))) if stream.is_end_stream() => {
            let _ = stream.flow_control().release_capacity(bytes.len()); // fails only beyond what was received
            return if length.is_some() { Body::Full(bytes) } else { Body::Arrived(bytes) };
        }
        Poll::Ready(Some(Ok(bytes))) => Some(bytes),
        // Errors and ends are told again when it is read.
        _ => None,
    };
    Body::stream(length, Incoming { stream, first, ended: false, _guard: () })
}

fn broken(error: ::h2::Error) -> BodyError {
    match error.reason() {
        Some(Reason::PROTOCOL_ERROR) if !error.is_remote() => BodyError::Malformed,
        _ => BodyError::Reset,
    }
}

impl<G> Source for Incoming<G> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if !self.ended {
            let next = match self.first.take() {
                Some(bytes) => Some(Ok(bytes)),
                None => ready!(self.stream.poll_data(cx)),
            };
            match next {
                Some(Ok(bytes)) => {
                    // The next piece is asked for when this one has gone on.
                    let released = self.stream.flow_control().release_capacity(bytes.len());
                    return Poll::Ready(Some(released.map(|()| Frame::Data(bytes)).map_err(broken)));
                }
                // A peer that needs no more of a request says so (RFC 9113 section 8.1).
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => self.ended = true,
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(error)))),
                None => self.ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).map_err(broken);
        Poll::Ready(trailers.transpose().map(|trailers| match trailers? {
            trailers if h1::are_trailers(&trailers) => Ok(Frame::Trailers(trailers)),
            _ => Err(BodyError::Malformed),
        }))
    }
}

#[derive(Debug)]
pub enum SendBodyError {
    /// The stream's.
    Stream,
    /// The body's own; the stream is reset.
    Body(BodyError),
}

impl From<::h2::Error> for SendBodyError {
    fn from(_: ::h2::Error) -> Self {
        SendBodyError::Stream
    }
}

/// All of a body, as fast as the peer takes it. Its end goes with the last of its data, where that is known by then.
pub async fn send(stream: &mut SendStream<Bytes>, body: &mut Body) -> Result<(), SendBodyError> {
    let mut left = body.length();
    let mut next = frame(stream, body).await?;
    loop {
        match next {
            Some(Ok(Frame::Data(bytes))) => {
                left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                let soon = match left {
                    Some(0) => Poll::Ready(None),
                    _ => poll_fn(|cx| Poll::Ready(body.poll_frame(cx))).await,
                };
                let end = matches!(soon, Poll::Ready(None));
                send_data(stream, bytes, end).await?;
                next = match soon {
                    _ if end => return Ok(()),
                    Poll::Ready(next) => next,
                    Poll::Pending => frame(stream, body).await?,
                };
            }
            Some(Ok(Frame::Trailers(trailers))) => return Ok(stream.send_trailers(trailers)?),
            Some(Err(error)) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Err(SendBodyError::Body(error));
            }
            None => return Ok(stream.send_data(Bytes::new(), true)?),
        }
    }
}

/// The body's next one, unless the peer resets the stream before.
async fn frame(stream: &mut SendStream<Bytes>, body: &mut Body) -> Result<Next, SendBodyError> {
    let next = poll_fn(|cx| match body.poll_frame(cx) {
        Poll::Ready(next) => Poll::Ready(Ok(next)),
        Poll::Pending => stream.poll_reset(cx).map(|_| Err(SendBodyError::Stream)),
    });
    next.await
}

async fn send_data(stream: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) -> Result<(), SendBodyError> {
    if bytes.is_empty() && end {
        return Ok(stream.send_data(bytes, true)?); // it needs no room
    }
    while bytes.has_remaining() {
        stream.reserve_capacity(bytes.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or(SendBodyError::Stream)??;
        let part = bytes.split_to(room.min(bytes.len()));
        stream.send_data(part, end && bytes.is_empty())?;
    }
    Ok(())
}

/// A stream that carries bytes of a tunnel (RFC 8441, CONNECT).
pub struct Raw {
    pub recv: RecvStream,
    pub send: SendStream<Bytes>,
    read: Bytes,
}

impl Raw {
    pub fn new(recv: RecvStream, send: SendStream<Bytes>) -> Raw {
        Raw { recv, send, read: Bytes::new() }
    }
}

impl AsyncRead for Raw {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(bytes) => self.read = bytes.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
            let size = self.read.len();
            self.recv.flow_control().release_capacity(size).map_err(io::Error::other)?;
        }
        let take = self.read.len().min(to.remaining());
        to.put_slice(&self.read.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(bytes.len());
        let room = match ready!(self.send.poll_capacity(cx)) {
            Some(room) => room.map_err(io::Error::other)?.min(bytes.len()),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        let sent = self.send.send_data(Bytes::copy_from_slice(&bytes[..room]), false);
        Poll::Ready(sent.map(|()| room).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
