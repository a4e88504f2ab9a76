//! A connection that the connector has made, for whoever reads and writes it.
use super::here::Here;
use super::tls::TlsDuplex;
use crate::base::sink::{Relayed, Sink};
use crate::hbone::stream::{Stream, StreamDuplex};
use crate::http;
use crate::node::{Listed, Pod};
use crate::relay::{Duplex, TcpDuplex};
use crate::routes::Keepalive;
use crate::tls::originate;
use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

/// On the list of the pod that it belongs to, which may end it, for as long as it lives.
pub struct Upstream {
    bytes: Bytes,
    /// None: its other end is on one, or what it is a layer of.
    _listed: Option<Listed>,
    _held: Option<Box<dyn Any>>,
}

/// What carries its bytes.
enum Bytes {
    Stream(StreamDuplex),
    Socket(TcpDuplex),
    Here(Here),
    Tls(Box<TlsDuplex<Upstream>>),
}

impl Upstream {
    pub fn stream(stream: Rc<Stream>, pod: &Rc<Pod>) -> Upstream {
        let _listed = Some(pod.list(stream.clone()));
        Upstream { bytes: Bytes::Stream(StreamDuplex::new(stream)), _listed, _held: None }
    }

    pub fn socket(sock: TcpDuplex, listed: Listed) -> Upstream {
        Upstream { bytes: Bytes::Socket(sock), _listed: Some(listed), _held: None }
    }

    pub fn tls(stream: TlsStream<Upstream>) -> Upstream {
        Upstream { bytes: Bytes::Tls(Box::new(TlsDuplex::new(stream))), _listed: None, _held: None }
    }

    /// Its other end is on a list.
    pub fn here(here: Here) -> Upstream {
        Upstream { bytes: Bytes::Here(here), _listed: None, _held: None }
    }

    /// Holds something for as long as it lives.
    pub fn holding(self, held: impl Sized + 'static) -> Upstream {
        Upstream { _held: Some(Box::new(held)), ..self }
    }

    /// As a policy asks for; a stream's tunnel has its own.
    pub fn keep_alive(&self, keepalive: &Keepalive) {
        if let Bytes::Socket(sock) = &self.bytes {
            sock.keep_alive(keepalive.time, keepalive.interval, keepalive.probes);
        }
    }

    fn bytes(&mut self) -> Pin<&mut dyn Duplex> {
        match &mut self.bytes {
            Bytes::Stream(stream) => Pin::new(stream),
            Bytes::Socket(sock) => Pin::new(sock),
            Bytes::Here(here) => Pin::new(here),
            Bytes::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

/// As Envoy, an end without close_notify is an end like others: many servers say none, and what has a length tells by itself
/// that it is not whole.
fn tls_error(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Ok(()),
        kind => Err(io::Error::new(kind, originate::failure(&error))),
    }
}

impl AsyncRead for Upstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_tls = matches!(self.bytes, Bytes::Tls(_));
        match self.bytes().poll_read(cx, buf) {
            Poll::Ready(Err(error)) if is_tls => Poll::Ready(tls_error(error)),
            read => read,
        }
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

/// What else L7 asks of what it reads and writes.
pub trait Leads {
    /// To a router of this thread; None: to somebody else.
    fn peer(&self) -> Option<http::Peer> {
        None
    }
}

impl Leads for TcpDuplex {}

impl Leads for StreamDuplex {}

impl<T> Leads for TlsDuplex<T> {}

impl Leads for Here {
    fn peer(&self) -> Option<http::Peer> {
        self.peer.clone()
    }
}

impl Leads for Upstream {
    fn peer(&self) -> Option<http::Peer> {
        match &self.bytes {
            Bytes::Here(here) => here.peer(),
            _ => None,
        }
    }
}

impl<T: Duplex + Leads + 'static> http::Io for T {
    fn peer(&self) -> Option<http::Peer> {
        Leads::peer(self)
    }

    fn reset(&mut self) {
        Duplex::reset(self);
    }

    fn is_gone(&self) -> bool {
        Duplex::is_gone(self)
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &Rc<dyn Sink>, left: &mut u64) -> Poll<Relayed> {
        Duplex::poll_relay(self, cx, to, left)
    }
}

impl Duplex for Upstream {
    fn reset(&mut self) {
        Duplex::reset(&mut *self.bytes());
    }

    fn is_gone(&self) -> bool {
        match &self.bytes {
            Bytes::Stream(stream) => stream.is_gone(),
            Bytes::Socket(sock) => Duplex::is_gone(sock),
            Bytes::Here(here) => here.is_gone(),
            Bytes::Tls(stream) => stream.is_gone(),
        }
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &Rc<dyn Sink>, left: &mut u64) -> Poll<Relayed> {
        self.bytes().poll_relay(cx, to, left)
    }
}
