//! Plain bytes between two sockets: what leaves the mesh, and what arrives from outside of it.
use crate::panics::OnPanic;
use crate::pod::Live;
use crate::refusal::Refusal;
use crate::sockets::reset_on_close;
use crate::spin::Conversation;
use crate::stream::Broken;
use crate::telemetry::Connection;
use crate::worker::Worker;
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::{io, io::ErrorKind::WouldBlock};
use tokio::{io::Interest, net::TcpStream};

/// Bytes read at a time, into memory that all pipes of a thread share.
const CHUNK: usize = 128 << 10;
/// Turns of a pipe before the others have theirs.
const TURNS: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// What the receiver's socket refused; at most `CHUNK`.
    pending: RefCell<Vec<u8>>,
    ended: Cell<bool>,
    done: Cell<bool>,
}

pub struct Pipe {
    worker: Rc<Worker>,
    record: Connection,
    /// Who opened the connection.
    client: TcpStream,
    server: TcpStream,
    up: Flow,
    down: Flow,
    task: RefCell<Option<Waker>>,
    conversation: Conversation,
    cancelled: RefCell<Option<Broken>>,
}

impl Live for Pipe {
    fn cancel(&self, why: Refusal, detail: &str) {
        self.cancelled.borrow_mut().get_or_insert_with(|| Broken::Cancelled(why, detail.into()));
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    fn record(&self) -> Option<&Connection> {
        Some(&self.record)
    }
}

impl Pipe {
    pub fn new(worker: &Rc<Worker>, client: TcpStream, server: TcpStream, record: Connection) -> Rc<Self> {
        Rc::new(Pipe {
            worker: worker.clone(),
            record,
            client,
            server,
            up: Flow::default(),
            down: Flow::default(),
            task: RefCell::default(),
            conversation: Conversation::default(),
            cancelled: RefCell::default(),
        })
    }

    /// Carries bytes until both sides have ended, or something breaks: then both see a reset.
    pub async fn relay(&self) {
        let _guard = OnPanic(|| {
            reset_on_close(&self.client);
            reset_on_close(&self.server);
        });
        match poll_fn(|cx| self.poll(cx)).await {
            Ok(()) => self.record.finish(),
            Err(broken) => {
                reset_on_close(&self.client);
                reset_on_close(&self.server);
                self.record.fail(broken.refusal(), &broken.to_string());
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.task.borrow().as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *self.task.borrow_mut() = Some(cx.waker().clone());
        }
        self.conversation.went_on(&self.worker.spin);
        if let Some(broken) = self.cancelled.borrow_mut().take() {
            return Poll::Ready(Err(broken));
        }
        let broken = |e| Broken::App(Rc::new(e));
        let sent = |n| self.record.client_sent(n);
        let received = |n| self.record.server_sent(n);
        let up = turns(&self.up, &self.client, &self.server, sent, cx).map_err(broken)?;
        let down = turns(&self.down, &self.server, &self.client, received, cx).map_err(broken)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

/// Ready when this direction has ended. Pending when it waits, or has had its turns (and is woken for more).
fn turns(
    flow: &Flow,
    from: &TcpStream,
    to: &TcpStream,
    count: impl Fn(u64),
    cx: &mut Context<'_>,
) -> io::Result<Poll<()>> {
    for _ in 0..TURNS {
        if flow.done.get() {
            return Ok(Poll::Ready(()));
        }
        let mut pending = flow.pending.borrow_mut();
        if !pending.is_empty() {
            if to.poll_write_ready(cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
            match to.try_io(Interest::WRITABLE, || Ok(rustix::io::write(to, &pending)?)) {
                Ok(n) if n == pending.len() => *pending = Vec::new(),
                Ok(n) => drop(pending.drain(..n)),
                Err(e) if e.kind() == WouldBlock => {}
                Err(e) => return Err(e),
            }
            continue;
        }
        if flow.ended.get() {
            SockRef::from(to).shutdown(Shutdown::Write)?;
            flow.done.set(true);
            continue;
        }
        if from.poll_read_ready(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        match SCRATCH.with_borrow_mut(|scratch| copy(scratch, from, to, &mut pending)) {
            Ok(0) => flow.ended.set(true),
            Ok(n) => count(n as u64),
            Err(e) if e.kind() == WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    cx.waker().wake_by_ref();
    Ok(Poll::Pending)
}

/// Reads once and writes; what the receiver refuses goes to `pending`. Returns what was read.
fn copy(scratch: &mut Vec<u8>, from: &TcpStream, to: &TcpStream, pending: &mut Vec<u8>) -> io::Result<usize> {
    scratch.resize(CHUNK, 0);
    let mut got = None;
    let read = from.try_io(Interest::READABLE, || {
        let n = rustix::io::read(from, &mut scratch[..])?;
        got = Some(n);
        // A short read has emptied the socket: saves the read that would only say so.
        if 0 < n && n < CHUNK {
            return Err(WouldBlock.into());
        }
        Ok(())
    });
    let Some(n) = got else { return read.map(|()| 0) };
    let mut written = 0;
    while written < n {
        match rustix::io::write(to, &scratch[written..n]) {
            Ok(more) => written += more,
            Err(rustix::io::Errno::AGAIN) => break,
            Err(e) => return Err(e.into()),
        }
    }
    if written < n {
        pending.extend_from_slice(&scratch[written..n]);
        // Through try_io, so that tokio learns that the socket is full.
        match to.try_io(Interest::WRITABLE, || Ok(rustix::io::write(to, &pending[..])?)) {
            Ok(more) => drop(pending.drain(..more)),
            Err(e) if e.kind() == WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}
