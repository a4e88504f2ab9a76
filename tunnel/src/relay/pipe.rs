//! Plain bytes between two sockets: what leaves the mesh, and what arrives from outside of it.
use super::Thread;
use crate::base::sizes::DATA_MAX;
use crate::base::Refusal;
use crate::relay::{CloseReason, Live};
use crate::sys::budget::Share;
use crate::sys::buffer::Backlog;
use crate::sys::panics::OnPanic;
use crate::sys::sockets::{self, reset_on_close};
use crate::sys::spin::Conversation;
use crate::sys::turns::{Ticket, Turns, HEAVY};
use crate::sys::PodInfo;
use crate::telemetry::{ConnectionRecord, Direction};
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::future::{poll_fn, Future};
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{io, io::ErrorKind::WouldBlock};
use tokio::{io::Interest, net::TcpStream};

/// Small reads of a pipe before others have theirs.
const READS: usize = 4;

thread_local! {
    /// What all pipes of a thread read into.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What broke a flow: the socket that is read, or the one that is written.
enum Broken {
    From(io::Error),
    To(io::Error),
}

/// One direction.
struct Flow {
    /// What the receiver's socket refused, at most one read; and its share of the pod's budget.
    backlog: RefCell<Backlog>,
    share: Share,
    ticket: Rc<Ticket>,
    ended: Cell<bool>,
    done: Cell<bool>,
}

pub struct Pipe {
    thread: Rc<Thread>,
    record: ConnectionRecord,
    /// Who opened the connection.
    client: TcpStream,
    server: TcpStream,
    up: Flow,
    down: Flow,
    task: RefCell<Option<Waker>>,
    conversation: Conversation,
    cancelled: RefCell<Option<CloseReason>>,
}

impl Live for Pipe {
    fn cancel(&self, why: Refusal, detail: &str) {
        self.cancelled.borrow_mut().get_or_insert_with(|| CloseReason::Cancelled(why, detail.into()));
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    fn record(&self) -> Option<&ConnectionRecord> {
        Some(&self.record)
    }

    fn rtt(&self) -> Option<Duration> {
        sockets::rtt(&self.server)
    }
}

impl Pipe {
    pub fn new(
        thread: &Rc<Thread>,
        pod: &Arc<PodInfo>,
        client: TcpStream,
        server: TcpStream,
        record: ConnectionRecord,
    ) -> Rc<Self> {
        Rc::new(Pipe {
            thread: thread.clone(),
            record,
            client,
            server,
            up: Flow::new(pod),
            down: Flow::new(pod),
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
        let mut client = pin!(sockets::failure(&self.client));
        let mut server = pin!(sockets::failure(&self.server));
        match poll_fn(|cx| self.poll(client.as_mut(), server.as_mut(), cx)).await {
            Ok(()) => self.record.finish(),
            Err(broken) => {
                reset_on_close(&self.client);
                reset_on_close(&self.server);
                broken.record(&self.record, self.up.ended.get() || self.down.ended.get());
            }
        }
    }

    fn poll<F: Future<Output = io::Error>>(
        &self,
        client: Pin<&mut F>,
        server: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>> {
        if !self.task.borrow().as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *self.task.borrow_mut() = Some(cx.waker().clone());
        }
        if let Some(broken) = self.cancelled.borrow_mut().take() {
            return Poll::Ready(Err(broken));
        }
        let of_client = self.record.direction() == Direction::Outbound; // the application's end
        let broken = |by_client: bool, e| CloseReason::of_socket(by_client == of_client, e);
        let broken_by = |by_client, why| match why {
            Broken::From(e) => broken(by_client, e),
            Broken::To(e) => broken(!by_client, e),
        };
        let went_on = |n| self.conversation.went_on(n, &self.thread.spin);
        let sent = |n| {
            went_on(n);
            self.record.client_sent(n as u64);
        };
        let received = |n| {
            went_on(n);
            self.record.server_sent(n as u64);
        };
        let turns = &self.thread.turns;
        let up = self.up.poll(turns, (&self.client, &self.server), sent, cx);
        let up = up.map_err(|why| broken_by(true, why))?;
        let down = self.down.poll(turns, (&self.server, &self.client), received, cx);
        let down = down.map_err(|why| broken_by(false, why))?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.up.is_deaf() {
            if let Poll::Ready(error) = client.poll(cx) {
                return Poll::Ready(Err(broken(true, error)));
            }
        }
        if self.down.is_deaf() {
            return server.poll(cx).map(|error| Err(broken(false, error)));
        }
        Poll::Pending
    }
}

impl Flow {
    fn new(pod: &Arc<PodInfo>) -> Self {
        Flow {
            backlog: RefCell::default(),
            share: Share::of(&pod.budget),
            ticket: Ticket::new(pod.number()),
            ended: Cell::default(),
            done: Cell::default(),
        }
    }

    /// Whether its sender is not read at present: only the socket's error would tell that it is gone.
    fn is_deaf(&self) -> bool {
        self.done.get() || !self.backlog.borrow().is_empty()
    }

    /// Ready when this direction has ended. Pending when it waits, or has had its turn (and is woken for more).
    fn poll(
        &self,
        turns: &Turns,
        (from, to): (&TcpStream, &TcpStream),
        count: impl Fn(usize),
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Broken> {
        for _ in 0..READS {
            if self.done.get() {
                return Ok(Poll::Ready(()));
            }
            if !self.backlog.borrow().is_empty() {
                if to.poll_write_ready(cx).map_err(Broken::To)?.is_pending() {
                    return Ok(Poll::Pending);
                }
                self.drain(to).map_err(Broken::To)?;
                continue;
            }
            if self.ended.get() {
                SockRef::from(to).shutdown(Shutdown::Write).map_err(Broken::To)?;
                self.done.set(true);
                continue;
            }
            if from.poll_read_ready(cx).map_err(Broken::From)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let Poll::Ready(most) = turns.poll(&self.ticket, cx) else { return Ok(Poll::Pending) };
            match SCRATCH.with_borrow_mut(|scratch| self.copy(scratch, from, to, most)) {
                Ok(0) => self.ended.set(true),
                Ok(n) => {
                    self.ticket.carried(n);
                    count(n);
                }
                Err(Broken::From(e)) if e.kind() == WouldBlock => {}
                Err(why) => return Err(why),
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    fn drain(&self, to: &TcpStream) -> io::Result<()> {
        let mut backlog = self.backlog.borrow_mut();
        match to.try_io(Interest::WRITABLE, || Ok(rustix::io::write(to, backlog.waiting())?)) {
            Ok(n) => {
                backlog.taken(n);
                self.share.hold_anyway(backlog.size(0));
            }
            Err(e) if e.kind() == WouldBlock => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Reads once and writes; what the receiver refuses waits. Returns what was read.
    fn copy(&self, scratch: &mut Vec<u8>, from: &TcpStream, to: &TcpStream, most: usize) -> Result<usize, Broken> {
        scratch.resize(HEAVY, 0);
        let most = if self.share.spare() < most { DATA_MAX } else { most };
        let mut got = None;
        let read = from.try_io(Interest::READABLE, || {
            let received = sockets::receive(from, &mut [IoSliceMut::new(&mut scratch[..most])])?;
            got = Some(received.size);
            // Saves the read that would only say so.
            if received.empty {
                return Err(WouldBlock.into());
            }
            Ok(())
        });
        let Some(n) = got else { return read.map(|()| 0).map_err(Broken::From) };
        let mut written = 0;
        while written < n {
            match rustix::io::write(to, &scratch[written..n]) {
                Ok(more) => written += more,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(e) => return Err(Broken::To(e.into())),
            }
        }
        if written < n {
            self.backlog.borrow_mut().add(&[IoSlice::new(&scratch[written..n])], 0);
            self.drain(to).map_err(Broken::To)?; // so that tokio learns that the socket is full
            self.share.hold_anyway(self.backlog.borrow().size(0));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::thread::testing;
    use crate::sys::pod_info::testing::info;
    use tokio::net::TcpListener;
    use tokio::task::spawn_local;

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, far)
    }

    #[test]
    #[allow(clippy::await_holding_refcell_ref)] // its task panics on it
    fn a_pipe_whose_task_panics_resets_both_ends() {
        testing::run(async |thread| {
            let ((client, one), (server, other)) = (connected().await, connected().await);
            let address = client.peer_addr().unwrap();
            let record = thread.telemetry.accept(Direction::Outbound, address, address);
            let pod = info("spiffe://cluster.local/ns/demo/sa/client", "pod");
            let pipe = Pipe::new(&thread, &pod, client, server, record);
            let relayed = pipe.clone();
            let held = pipe.cancelled.borrow_mut();
            let task = spawn_local(async move { relayed.relay().await });
            assert!(task.await.unwrap_err().is_panic());
            drop(held);
            drop(pipe);
            for end in [one, other] {
                end.readable().await.unwrap();
                assert_eq!(end.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            }
        });
    }
}
