//! A byte stream in both directions, as this room needs one.
use super::Peer;
use crate::base::sink::{Relayed, Sink};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub trait Io: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Has its end tell the peer of an error (TCP's RST) instead of an orderly close.
    fn reset(&mut self);

    /// Whether the peer has broken off, also where nobody reads or writes.
    fn is_gone(&self) -> bool;

    /// The router to which it leads, where that is one of this thread.
    fn peer(&self) -> Option<Peer> {
        None
    }

    /// Has the next `left` bytes that it would read written to `to` as they come, and counts them down. Ready when that is
    /// over; until then it is not read.
    fn poll_relay(&mut self, _: &mut Context<'_>, _: &Rc<dyn Sink>, _left: &mut u64) -> Poll<Relayed> {
        Poll::Ready(Relayed::Unable)
    }
}

impl Io for TcpStream {
    fn reset(&mut self) {
        // A socket that takes no option has failed already, which its peer knows.
        let _ = socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }

    fn is_gone(&self) -> bool {
        self.take_error().is_ok_and(|error| error.is_some())
    }
}
