//! A stream that somebody reads and writes: what comes waits in memory until it is read, which the stream's window bounds.
use super::{Side, Stream};
use crate::base::sink::{Relayed, Sink};
use crate::base::Refusal;
use crate::h2::frame::Code;
use crate::relay::{broken, CloseReason, Duplex, Live};
use crate::telemetry::ConnectionRecord;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::spawn_local;

/// Seconds for a peer to end its side, once we have ended ours and do not read any more.
const LINGER: u64 = 10;

/// A stream as a [`Duplex`], at either end of its tunnel.
pub struct StreamDuplex {
    stream: Rc<Stream>,
    counted: Option<Rc<Counted>>,
}

/// A stream that a client has opened, with the record in which its bytes are counted.
pub struct Counted {
    stream: Rc<Stream>,
    record: ConnectionRecord,
}

impl StreamDuplex {
    /// Of one that the far end has accepted, or that we have.
    pub fn new(stream: Rc<Stream>) -> Self {
        StreamDuplex { stream, counted: None }
    }

    /// Of one that we have accepted: what is read counts as the client's.
    pub fn accepted(stream: Rc<Stream>, record: ConnectionRecord) -> (Self, Rc<Counted>) {
        let counted = Rc::new(Counted { stream: stream.clone(), record });
        (StreamDuplex { stream, counted: Some(counted.clone()) }, counted)
    }

    /// What `look` finds in the bytes that wait to be read, now or when more have come; they stay. None: no more will come.
    pub async fn peek<T>(&self, look: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let stream = &self.stream;
        poll_fn(|cx| {
            stream.remember(Side::Reader, cx);
            let found = look(stream.inbox.borrow().waiting());
            let is_over = stream.finished.get() || stream.broken.borrow().is_some();
            if found.is_some() || is_over {
                Poll::Ready(found)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    fn count(&self, add: impl FnOnce(&ConnectionRecord)) {
        if let Some(counted) = &self.counted {
            add(&counted.record);
        }
    }
}

impl Counted {
    /// Nobody reads or writes it any more.
    pub fn finish(&self) {
        match &*self.stream.broken.borrow() {
            Some(why) => why.record(&self.record, self.stream.finished.get() || self.stream.local.ended.get()),
            None => self.record.finish(),
        }
    }
}

impl Live for Counted {
    fn cancel(&self, why: Refusal, detail: &str) {
        self.stream.cancel(why, detail);
    }

    fn record(&self) -> Option<&ConnectionRecord> {
        Some(&self.record)
    }

    fn rtt(&self) -> Option<Duration> {
        self.stream.rtt()
    }
}

impl AsyncRead for StreamDuplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &self.stream;
        let n = stream.waiting().min(buf.remaining());
        if n > 0 {
            buf.put_slice(&stream.inbox.borrow().waiting()[..n]);
            stream.consume(n);
            self.count(|record| record.client_sent(n as u64));
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = &*stream.broken.borrow() {
            return Poll::Ready(Err(broken(why)));
        }
        if stream.finished.get() || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        stream.remember(Side::Reader, cx);
        Poll::Pending
    }
}

impl AsyncWrite for StreamDuplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &self.stream;
        if let Some(why) = &*stream.broken.borrow() {
            return Poll::Ready(Err(broken(why)));
        }
        if stream.local.ended.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = stream.tunnel.push(stream, bytes)?;
        if n == 0 && !bytes.is_empty() {
            stream.remember(Side::Writer, cx);
            return Poll::Pending;
        }
        stream.carry(n);
        self.count(|record| record.server_sent(n as u64));
        Poll::Ready(Ok(n))
    }

    /// What was written is the tunnel's, which writes it in this turn of its thread.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &self.stream;
        if let Some(why) = &*stream.broken.borrow() {
            return Poll::Ready(Err(broken(why)));
        }
        if !stream.local.ended.replace(true) {
            stream.tunnel.end_stream(stream.id);
        }
        Poll::Ready(Ok(()))
    }
}

impl Duplex for StreamDuplex {
    fn reset(&mut self) {
        self.stream.fail(CloseReason::Cancelled(Refusal::Abandoned, "".into()));
        self.stream.tunnel.close(self.stream.id, Some(Code::CANCEL));
    }

    fn is_gone(&self) -> bool {
        self.stream.broken.borrow().is_some()
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &Rc<dyn Sink>, left: &mut u64) -> Poll<Relayed> {
        let before = *left;
        let relayed = self.stream.poll_lent(cx, to, left);
        self.count(|record| record.client_sent(before - *left));
        relayed
    }
}

impl Drop for StreamDuplex {
    fn drop(&mut self) {
        let stream = &self.stream;
        stream.lent.take();
        let code = match &*stream.broken.borrow() {
            _ if std::thread::panicking() => Some(Code::INTERNAL_ERROR),
            Some(why) => why.code(),
            None if stream.is_settled() => None,
            None if stream.local.ended.get() && stream.waiting() == 0 => {
                drop(spawn_local(linger(stream.clone())));
                return;
            }
            None => Some(Code::CANCEL),
        };
        stream.tunnel.close(stream.id, code);
    }
}

/// Waits for the end of a peer that has been told ours: a reset could make its application lose what it has not read yet. A
/// peer that has more to say is reset, as TCP resets who sends to a socket that is closed.
async fn linger(stream: Rc<Stream>) {
    let ended = poll_fn(|cx| {
        stream.remember(Side::Reader, cx);
        let is_over = stream.finished.get() || stream.waiting() > 0 || stream.broken.borrow().is_some();
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let in_time = stream.tunnel.thread.clock.timeout(LINGER, ended).await.is_ok();
    let code = match &*stream.broken.borrow() {
        Some(why) => why.code(),
        None if in_time && stream.finished.get() && stream.waiting() == 0 => None,
        None => Some(Code::CANCEL),
    };
    stream.tunnel.close(stream.id, code);
}

#[cfg(test)]
mod tests;
