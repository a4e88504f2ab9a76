//! One byte stream with what was read from it too early. Its reader and its writer may be different tasks of a thread.
use super::head::{Finder, Refused};
use crate::base::sink::{Relayed, Sink};
use crate::http::io::Io;
use crate::http::settings::Limits;
use crate::http::{BodyError, Interim, Peer};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{ready, Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;
use tokio_util::io::{poll_read_buf, poll_write_buf};

/// Bytes that are read at once of heads, and of bodies.
pub const HEAD_ROOM: usize = 4 << 10;
pub const BODY_ROOM: usize = 64 << 10;

/// Between two looks at whether a peer is there.
const LOOK: Duration = Duration::from_secs(1);

/// How far the reading of a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Done,
    Open,
    Failed(BodyError),
}

pub struct Connection<S> {
    io: RefCell<S>,
    pub input: RefCell<BytesMut>,
    /// Interim responses that are still to be written.
    output: RefCell<BytesMut>,
    /// The peer has closed its direction.
    ended: Cell<bool>,
    pub body: Cell<Reading>,
    /// Of the pool's, where it waits for requests.
    pub used: Cell<u32>,
}

impl<S: Io> Connection<S> {
    pub fn new(io: S) -> Rc<Self> {
        Rc::new(Connection {
            io: RefCell::new(io),
            input: RefCell::default(),
            output: RefCell::default(),
            ended: Cell::new(false),
            body: Cell::new(Reading::Done),
            used: Cell::new(0),
        })
    }

    /// Reads more, at least into `room` bytes; 0: the peer has closed its direction.
    pub fn poll_fill(&self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.ended.get() {
            return Poll::Ready(Ok(0));
        }
        let mut input = self.input.borrow_mut();
        input.reserve(room);
        let read = ready!(poll_read_buf(Pin::new(&mut *self.io.borrow_mut()), cx, &mut *input))?;
        self.ended.set(read == 0);
        Poll::Ready(Ok(read))
    }

    pub fn peer(&self) -> Option<Peer> {
        self.io.borrow().peer()
    }

    /// What is still to be read goes to another's sink.
    pub fn poll_relay(&self, cx: &mut Context<'_>, to: &Rc<dyn Sink>, left: &mut u64) -> Poll<Relayed> {
        self.io.borrow_mut().poll_relay(cx, to, left)
    }

    /// Keeps no more memory for a peer that rests than a head needs.
    pub fn tidy(&self) {
        let mut input = self.input.borrow_mut();
        if input.is_empty() {
            *input = BytesMut::new();
        }
    }

    pub async fn fill(&self, room: usize) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx, room)).await
    }

    /// The next head; `None`: the peer closed instead of beginning one.
    pub async fn head(&self, limits: Limits) -> Result<Option<Bytes>, HeadError> {
        let mut finder = Finder::default();
        loop {
            if let Some(head) = finder.take(&mut self.input.borrow_mut(), limits)? {
                return Ok(Some(head));
            }
            if self.fill(HEAD_ROOM).await.map_err(|_| HeadError::Reset)? == 0 {
                let begun = !self.input.borrow().is_empty();
                return if begun { Err(HeadError::Incomplete) } else { Ok(None) };
            }
        }
    }

    /// Until all of `bytes` is written.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &mut impl Buf) -> Poll<io::Result<()>> {
        let mut io = self.io.borrow_mut();
        while bytes.has_remaining() {
            if ready!(poll_write_buf(Pin::new(&mut *io), cx, bytes))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Pin::new(&mut *io).poll_flush(cx)
    }

    pub async fn write(&self, mut bytes: impl Buf) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx, &mut bytes)).await
    }

    pub fn poll_interim(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut output = self.output.borrow_mut();
        if output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.poll_write(cx, &mut *output)
    }

    /// Whether the peer has neither closed nor sent something that nobody asked for.
    pub fn is_quiet(&self) -> bool {
        let read = self.poll_fill(&mut Context::from_waker(Waker::noop()), 1);
        read.is_pending() && self.input.borrow().is_empty()
    }

    pub async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.io.borrow_mut()).poll_shutdown(cx)).await
    }

    /// As `shutdown`, by one who does not wait for it.
    pub fn end(&self) {
        let _ = Pin::new(&mut *self.io.borrow_mut()).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    pub fn reset(&self) {
        self.io.borrow_mut().reset();
    }

    /// Ready when the peer has broken off. A stream that nobody reads, or that has room to write, tells nobody of that: it is
    /// looked at from time to time.
    pub async fn gone(&self) {
        loop {
            sleep(LOOK).await;
            if self.io.borrow().is_gone() {
                return;
            }
        }
    }
}

impl<S: Io> Sink for Connection<S> {
    fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io.borrow_mut()).poll_write_vectored(cx, parts)
    }
}

impl<S: Io> Interim for Connection<S> {
    fn send(&self, status: StatusCode, headers: &HeaderMap) {
        super::encode::interim(&mut self.output.borrow_mut(), status, headers);
    }
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    Refused(Refused),
    Incomplete,
    Reset,
}

impl From<Refused> for HeadError {
    fn from(refused: Refused) -> Self {
        HeadError::Refused(refused)
    }
}

/// The byte stream itself, once it carries no more HTTP.
pub struct Raw<S>(pub Rc<Connection<S>>);

impl<S: Io> AsyncRead for Raw<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut input = self.0.input.borrow_mut();
        if input.is_empty() {
            return Pin::new(&mut *self.0.io.borrow_mut()).poll_read(cx, to);
        }
        let take = input.len().min(to.remaining());
        to.put_slice(&input.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> AsyncWrite for Raw<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.io.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.io.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(cx)
    }
}
