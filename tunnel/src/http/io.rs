//! A byte stream in both directions, as this room needs one.
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub trait Io: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Has its end tell the peer of an error (TCP's RST) instead of an orderly close.
    fn reset(&mut self);
}

impl Io for TcpStream {
    fn reset(&mut self) {
        // A socket that takes no option has failed already, which its peer knows.
        let _ = socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}
