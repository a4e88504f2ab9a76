//! A connection between two ends of this process, for requests between pods of one node.
use crate::base::Refusal;
use crate::http::Peer;
use crate::relay::{Duplex, Live};
use crate::telemetry::ConnectionRecord;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{ready, Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::Notify;

/// Bytes that wait for the other end at most.
const ROOM: usize = 64 << 10;

/// One end. Dropped before it was shut down, it is reset.
pub struct Here {
    stream: DuplexStream,
    /// To whom requests may be handed.
    pub peer: Option<Peer>,
    shut: bool,
    /// That this end has broken off, and that the other has.
    broken: Rc<Cell<bool>>,
    other: Rc<Cell<bool>>,
}

/// Ends one from elsewhere: a policy has changed, a pod is gone.
#[derive(Default)]
pub struct Cut {
    why: RefCell<Option<(Refusal, String)>>,
    ordered: Notify,
}

impl Cut {
    pub async fn ordered(&self) -> (Refusal, String) {
        loop {
            if let Some(why) = &*self.why.borrow() {
                return why.clone();
            }
            self.ordered.notified().await;
        }
    }
}

impl Live for Cut {
    fn cancel(&self, why: Refusal, detail: &str) {
        self.why.borrow_mut().get_or_insert_with(|| (why, detail.to_owned()));
        self.ordered.notify_one();
    }

    fn record(&self) -> Option<&ConnectionRecord> {
        None
    }
}

/// Both ends.
pub fn pair() -> (Here, Here) {
    let (one, other) = tokio::io::duplex(ROOM);
    let (of_one, of_other) = <(Rc<Cell<bool>>, Rc<Cell<bool>>)>::default();
    let end = |stream, broken: &Rc<Cell<bool>>, other: &Rc<Cell<bool>>| Here {
        stream,
        peer: None,
        shut: false,
        broken: broken.clone(),
        other: other.clone(),
    };
    (end(one, &of_one, &of_other), end(other, &of_other, &of_one))
}

impl AsyncRead for Here {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        Poll::Ready(if ended && self.other.get() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

impl AsyncWrite for Here {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Duplex for Here {
    fn reset(&mut self) {
        self.broken.set(true);
    }

    fn is_gone(&self) -> bool {
        self.other.get()
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if !self.shut {
            self.broken.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn an_end_that_is_dropped_before_its_time_is_no_end() {
        for (shut, proper) in [(true, true), (false, false)] {
            let (mut one, mut other) = pair();
            one.write_all(b"half").await.unwrap();
            if shut {
                one.shutdown().await.unwrap();
            }
            drop(one);
            let mut read = vec![];
            assert_eq!(other.read_to_end(&mut read).await.is_ok(), proper);
            assert_eq!(read, b"half");
        }
    }
}
