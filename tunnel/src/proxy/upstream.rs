//! A connection that the connector has made, for whoever reads and writes it.
use super::here::Here;
use crate::base::sink::{Relayed, Sink};
use crate::hbone::stream::{Stream, StreamDuplex};
use crate::http;
use crate::node::{Listed, Pod};
use crate::relay::{Duplex, TcpDuplex};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// On the list of the pod that it belongs to, which may end it, for as long as it lives.
pub struct Upstream {
    bytes: Bytes,
    _listed: Option<Listed>,
}

/// What carries its bytes.
enum Bytes {
    Stream(StreamDuplex),
    Socket(TcpDuplex),
    Here(Here),
}

impl Upstream {
    pub fn stream(stream: Rc<Stream>, pod: &Rc<Pod>) -> Upstream {
        let _listed = Some(pod.list(stream.clone()));
        Upstream { bytes: Bytes::Stream(StreamDuplex::new(stream)), _listed }
    }

    pub fn socket(sock: TcpDuplex, listed: Listed) -> Upstream {
        Upstream { bytes: Bytes::Socket(sock), _listed: Some(listed) }
    }

    /// Its other end is on a list.
    pub fn here(here: Here) -> Upstream {
        Upstream { bytes: Bytes::Here(here), _listed: None }
    }

    fn bytes(&mut self) -> Pin<&mut dyn Duplex> {
        match &mut self.bytes {
            Bytes::Stream(stream) => Pin::new(stream),
            Bytes::Socket(sock) => Pin::new(sock),
            Bytes::Here(here) => Pin::new(here),
        }
    }
}

impl AsyncRead for Upstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.bytes().poll_read(cx, buf)
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bytes().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bytes().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.bytes, Bytes::Socket(_))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes().poll_shutdown(cx)
    }
}

/// What L7 reads and writes.
impl<T: Duplex + 'static> http::Io for T {
    fn reset(&mut self) {
        Duplex::reset(self);
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &Rc<dyn Sink>, left: &mut u64) -> Poll<Relayed> {
        Duplex::poll_relay(self, cx, to, left)
    }
}

impl Duplex for Upstream {
    fn reset(&mut self) {
        Duplex::reset(&mut *self.bytes());
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &Rc<dyn Sink>, left: &mut u64) -> Poll<Relayed> {
        self.bytes().poll_relay(cx, to, left)
    }
}
