//! Bytes both ways, whatever carries them: what L7 reads its requests from, and sends them to.
use super::{CloseReason, Live};
use crate::base::sink::{Relayed, Sink};
use crate::base::{Failure, Refusal};
use crate::sys::sockets::{self, reset_on_close};
use crate::telemetry::{ConnectionRecord, Direction};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{ready, Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// An error of reading or writing has the [`Failure`] in it that says why the connection ended, where that is known.
///
/// Dropped before `poll_shutdown` was called, it is reset: no reader ever takes half of a message for all of it. After that
/// the other side may go on until it ends, but nobody reads it: then it is reset as well.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {
    /// Ends it: the other side sees a reset, at the latest when this is dropped.
    fn reset(&mut self);

    /// Whether the other side has broken off, or somebody else has ended it, also where nobody reads or writes.
    fn is_gone(&self) -> bool;

    /// Has the next `left` bytes that it would read written to `to` as they come, and counts them down. Ready when that is
    /// over; until then it is not read.
    fn poll_relay(&mut self, _: &mut Context<'_>, _: &Rc<dyn Sink>, _left: &mut u64) -> Poll<Relayed> {
        Poll::Ready(Relayed::Unable)
    }
}

/// Why a connection ended, as an error of reading or writing it.
pub fn broken(reason: &CloseReason) -> io::Error {
    let kind = match reason {
        CloseReason::App(error) | CloseReason::Peer(error) => error.kind(),
        _ => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, Failure { refusal: reason.refusal(), detail: reason.to_string() })
}

/// Ends a socket that is read and written, from elsewhere: a policy has changed, a pod is gone.
#[derive(Default)]
pub struct Cancel {
    why: RefCell<Option<CloseReason>>,
    wakers: RefCell<[Option<Waker>; 2]>,
    record: Option<ConnectionRecord>,
}

impl Live for Cancel {
    fn cancel(&self, why: Refusal, detail: &str) {
        self.why.borrow_mut().get_or_insert_with(|| CloseReason::Cancelled(why, detail.into()));
        self.wakers.take().into_iter().flatten().for_each(Waker::wake);
    }

    fn record(&self) -> Option<&ConnectionRecord> {
        self.record.as_ref()
    }
}

/// A socket as a [`Duplex`].
pub struct TcpDuplex {
    sock: TcpStream,
    cancel: Rc<Cancel>,
    /// Whether a client has opened it.
    accepted: bool,
    /// Whether the application of this node is at the other end.
    of_app: bool,
    /// We have said all.
    shut: bool,
    /// The other side has.
    ended: bool,
}

impl TcpDuplex {
    /// Of one that we have opened to the application. With a record, what is written counts as the client's, and what is read
    /// as the server's.
    pub fn new(sock: TcpStream, record: Option<ConnectionRecord>) -> Self {
        TcpDuplex::of(sock, record, false, true)
    }

    fn of(sock: TcpStream, record: Option<ConnectionRecord>, accepted: bool, of_app: bool) -> Self {
        let cancel = Rc::new(Cancel { record, ..Cancel::default() });
        TcpDuplex { sock, cancel, accepted, of_app, shut: false, ended: false }
    }

    /// Of one that we have opened to a server elsewhere, which is in no tunnel.
    pub fn to_peer(sock: TcpStream) -> Self {
        TcpDuplex::of(sock, None, false, false)
    }

    /// Of one that a client has opened: what is read counts as the client's.
    pub fn accepted(sock: TcpStream, record: ConnectionRecord) -> Self {
        let of_app = record.direction() == Direction::Outbound;
        TcpDuplex::of(sock, Some(record), true, of_app)
    }

    /// Has the kernel look whether the other side is there. None: as it is.
    pub fn keep_alive(&self, time: Option<Duration>, interval: Option<Duration>, probes: Option<u32>) {
        sockets::keep_alive_as(&self.sock, time, interval, probes);
    }

    /// By which others end it.
    pub fn live(&self) -> Rc<dyn Live> {
        self.cancel.clone()
    }

    /// Whether it has ended; else whoever ends it wakes this side, the reader (0) or the writer (1).
    fn check(&self, side: usize, cx: &Context<'_>) -> io::Result<()> {
        if let Some(why) = &*self.cancel.why.borrow() {
            return Err(broken(why));
        }
        let waker = &mut self.cancel.wakers.borrow_mut()[side];
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Ok(())
    }

    fn wrote(&self, written: io::Result<usize>) -> io::Result<usize> {
        let n = self.noted(written)?;
        self.count(n, self.accepted);
        Ok(n)
    }

    fn count(&self, bytes: usize, of_server: bool) {
        match &self.cancel.record {
            Some(record) if of_server => record.server_sent(bytes as u64),
            Some(record) => record.client_sent(bytes as u64),
            None => {}
        }
    }

    /// The socket tells of its error once: it is kept for the record.
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let copy = io::Error::new(error.kind(), error.to_string());
            self.cancel.why.borrow_mut().get_or_insert_with(|| CloseReason::of_socket(self.of_app, copy));
        })
    }
}

impl AsyncRead for TcpDuplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(0, cx)?;
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.sock).poll_read(cx, buf));
        self.noted(read)?;
        match buf.filled().len() - before {
            0 if buf.remaining() > 0 => self.ended = true,
            n => self.count(n, !self.accepted),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpDuplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(1, cx)?;
        let written = ready!(Pin::new(&mut self.sock).poll_write(cx, bytes));
        Poll::Ready(self.wrote(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(1, cx)?;
        let written = ready!(Pin::new(&mut self.sock).poll_write_vectored(cx, parts));
        Poll::Ready(self.wrote(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(1, cx)?;
        if !std::mem::replace(&mut self.shut, true) {
            socket2::SockRef::from(&self.sock).shutdown(Shutdown::Write)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Duplex for TcpDuplex {
    fn reset(&mut self) {
        reset_on_close(&self.sock);
        self.cancel.cancel(Refusal::Abandoned, "");
    }

    fn is_gone(&self) -> bool {
        let error = self.sock.take_error().and_then(|error| error.map_or(Ok(()), Err));
        let _ = self.noted(error);
        self.cancel.why.borrow().is_some()
    }
}

impl Drop for TcpDuplex {
    fn drop(&mut self) {
        let why = self.cancel.why.take();
        if why.is_some() || !self.shut {
            reset_on_close(&self.sock);
        }
        match (&self.cancel.record, why) {
            (Some(record), Some(why)) => why.record(record, self.shut || self.ended),
            (Some(record), None) if self.shut => record.finish(),
            _ => {} // a record that is dropped says that it was abandoned
        }
    }
}
