//! The plain text in a TLS connection, as bytes both ways.
use crate::relay::Duplex;
use rustls::ServerConfig;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsStream};

pub struct TlsDuplex<S>(TlsStream<S>);

impl<S: Duplex> TlsDuplex<S> {
    /// Of a handshake that is done.
    pub fn new(stream: impl Into<TlsStream<S>>) -> Self {
        TlsDuplex(stream.into())
    }

    /// A server's handshake. Of one that fails the client has the alert.
    pub async fn accept(config: Arc<ServerConfig>, io: S) -> io::Result<Self> {
        match TlsAcceptor::from(config).accept(io).into_fallible().await {
            Ok(stream) => Ok(TlsDuplex(stream.into())),
            Err((error, mut io)) => {
                let _ = io.shutdown().await; // in order, or the alert would be lost with it
                Err(error)
            }
        }
    }
}

impl<S: Duplex> AsyncRead for TlsDuplex<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: Duplex> AsyncWrite for TlsDuplex<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S: Duplex> Duplex for TlsDuplex<S> {
    fn reset(&mut self) {
        match &mut self.0 {
            TlsStream::Client(stream) => stream.get_mut().0.reset(),
            TlsStream::Server(stream) => stream.get_mut().0.reset(),
        }
    }

    fn is_gone(&self) -> bool {
        self.0.get_ref().0.is_gone()
    }
}
