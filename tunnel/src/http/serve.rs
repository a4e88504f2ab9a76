//! A client's connection, whichever version of HTTP it speaks.
use super::io::Io;
use super::node::Node;
use super::router::{Router, Session};
use super::{h1, h2, Server};
use bytes::{Buf, Bytes, BytesMut};
use http::uri::Authority;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Serves a connection until its end. HTTP/2 is known by its preface, from the first byte that tells.
pub async fn serve<N: Node>(
    mut io: impl Io,
    router: Rc<Router<N>>,
    session: impl Into<Rc<Session>>,
    default_host: Option<Authority>,
) {
    let session = session.into();
    let settings = router.settings;
    let server = Rc::new(Server { settings, default_host, drain: session.drain.clone() });
    let begun = tokio::select! {
        begun = h1::limited(settings.idle, beginning(&mut io)) => begun,
        () = server.drain.ordered() => None,
    };
    let Some(Ok(read)) = begun else {
        let _ = io.shutdown().await; // nobody waits for an answer
        return;
    };
    let handle = async move |request| router.handle(&session, request).await;
    if read == h2::PREFACE {
        h2::serve(Begun { read, io }, server, handle).await;
    } else {
        h1::serve(io, read, &server, handle).await;
    }
}

/// The preface, or what came instead.
async fn beginning(io: &mut impl Io) -> io::Result<Bytes> {
    let mut read = BytesMut::with_capacity(h2::PREFACE.len());
    while h2::PREFACE.starts_with(&read) && read.len() < h2::PREFACE.len() {
        if io.take((h2::PREFACE.len() - read.len()) as u64).read_buf(&mut read).await? == 0 {
            break;
        }
    }
    Ok(read.freeze())
}

/// A stream of which a part was read already.
struct Begun<S> {
    read: Bytes,
    io: S,
}

impl<S: Io> Io for Begun<S> {
    fn reset(&mut self) {
        self.io.reset();
    }

    fn is_gone(&self) -> bool {
        self.io.is_gone()
    }
}

impl<S: Io> AsyncRead for Begun<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.has_remaining() {
            let take = self.read.len().min(to.remaining());
            to.put_slice(&self.read.split_to(take));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl<S: Io> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
