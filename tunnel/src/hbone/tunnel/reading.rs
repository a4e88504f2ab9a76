//! The task of a tunnel: reads its socket, has dispatched what comes, and writes what a full socket refused.
use super::sending::write;
use super::{Stage, Tunnel};
use crate::base::Failure;
use crate::sys::turns::{HEAVY, LIGHT};
use std::cell::RefCell;
use std::io::ErrorKind::WouldBlock;
use std::rc::Rc;
use std::task::{ready, Context, Poll};
use tokio::{io::Interest, net::TcpStream};

/// What a read may leave for the next one: a record of any peer (RFC 8446 section 5.2), or a part of a handshake.
const KEPT: usize = 64 << 10;
/// Read from the socket at a time, into memory that all tunnels of a thread share. Behind what the last read left of a
/// record.
const READ: usize = HEAVY + KEPT;
/// Small reads of one tunnel before others have theirs.
const READS: usize = 4;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Tunnel {
    /// Reads and dispatches what comes, until the tunnel is at `stage` or broken.
    pub(super) fn poll(self: &Rc<Self>, cx: &mut Context<'_>, stage: Stage) -> Poll<Result<(), Failure>> {
        if !self.task.borrow().as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *self.task.borrow_mut() = Some(cx.waker().clone());
        }
        if let Some(failure) = self.killed.borrow_mut().take() {
            return Poll::Ready(Err(failure));
        }
        let Some(sock) = self.sock.get() else { return Poll::Pending };
        while self.full.get() {
            if sock.poll_write_ready(cx)?.is_pending() {
                break;
            }
            self.full.set(false);
            // Through try_io, so that tokio learns when the socket is full again.
            match sock.try_io(Interest::WRITABLE, || write(sock, &mut self.session.borrow_mut())) {
                Err(e) if e.kind() == WouldBlock => self.full.set(true),
                result => result?,
            }
            self.unblock();
        }
        self.session.borrow_mut().begin_turn();
        for _ in 0..READS {
            if self.session.borrow().is_behind() {
                ready!(self.thread.turns.poll(&self.ticket, cx));
                self.catch_up()?;
            }
            if self.session.borrow().goodbye() {
                self.drain();
            }
            if self.session.borrow().is_turn_over() {
                self.ticket.set_heavy(true);
                break;
            }
            if self.ended.get() {
                return Poll::Ready(Ok(()));
            }
            if self.stage.get() == Stage::Draining && !self.has_streams() && self.say_goodbye() {
                return Poll::Ready(Ok(()));
            }
            ready!(sock.poll_read_ready(cx))?;
            let most = ready!(self.thread.turns.poll(&self.ticket, cx));
            self.ended.set(!self.pump(sock, most)?);
            if stage == Stage::Open && self.stage.get() != Stage::Handshake {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, dispatches all that came. False at the end of the connection.
    fn pump(self: &Rc<Self>, sock: &TcpStream, most: usize) -> Result<bool, Failure> {
        let mut input = INPUT.with_borrow_mut(std::mem::take);
        let result = self.pump_into(&mut input, sock, most);
        INPUT.with_borrow_mut(|shared| *shared = input);
        // Also after a failure: the peer should learn of it.
        self.flush_all();
        result
    }

    fn pump_into(self: &Rc<Self>, input: &mut Vec<u8>, sock: &TcpStream, most: usize) -> Result<bool, Failure> {
        if input.is_empty() {
            input.resize(READ, 0);
        }
        let kept = self.session.borrow_mut().take_rest(input);
        let most = most.min(input.len() - kept);
        let mut got = None;
        let read = sock.try_io(Interest::READABLE, || {
            let n = rustix::io::read(sock, &mut input[kept..kept + most])?;
            got = Some(n);
            // A short read has emptied the socket: saves the read that would only say so.
            if 0 < n && n < most {
                return Err(WouldBlock.into());
            }
            Ok(())
        });
        let n = match (got, read) {
            (Some(n), _) => n,
            (None, Err(e)) if e.kind() != WouldBlock => return Err(e.into()),
            (None, _) => 0,
        };
        self.heard.set(true);
        self.ticket.set_heavy(n >= LIGHT || self.stage.get() == Stage::Handshake);
        let alive = self.receive(&mut input[..kept + n])?;
        Ok(alive && got != Some(0))
    }
}
