//! Turns: who carries much waits here, so that who has little to say never waits for more than one of them.
//!
//! A connection or tunnel whose last read was large asks for a turn before the next one, and so do the connections of a pod
//! that begin or break off many at a time. One turn is given at a time: before the next, everything that is ready has run and
//! epoll was asked for more. Pods have their turns round robin, so have the peers of a pod, and so have the connections with a
//! peer: thousands that one peer makes wait for each other, and not in front of others. A turn is of at most `HEAVY` bytes, or
//! of as many new connections as are as much work, so no account has to be kept of who is owed what.
use crate::base::sizes::DATA_MAX;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::task::yield_now;

/// Bytes of a turn: some 200 us of work, and enough that a system call for each turn costs nothing.
pub const HEAVY: usize = 16 * DATA_MAX;
/// Bytes that need no turn. Who fills them has more to say.
pub const LIGHT: usize = 2 * DATA_MAX;

/// To make so many connections, or to break them off, is as much work as a turn of `HEAVY` bytes, more or less.
const ROW: u32 = 4;

/// By whose turns something is counted: a pod's, which is any number of its own, and there one peer's.
#[derive(Clone, Copy, PartialEq)]
pub struct Owner {
    pod: usize,
    /// None for what is the pod's own, or of all its peers.
    peer: Option<IpAddr>,
}

impl Owner {
    pub fn peer(pod: usize, peer: IpAddr) -> Owner {
        Owner { pod, peer: Some(peer) }
    }
}

impl From<usize> for Owner {
    fn from(pod: usize) -> Owner {
        Owner { pod, peer: None }
    }
}

/// Of one connection or tunnel.
pub struct Ticket {
    owner: Owner,
    /// Whether it is for a connection that is made, or broken off.
    begins: bool,
    heavy: Cell<bool>,
    waits: Cell<bool>,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Ticket {
    pub fn new(owner: impl Into<Owner>) -> Rc<Self> {
        Self::of(owner.into(), false)
    }

    fn of(owner: Owner, begins: bool) -> Rc<Self> {
        Rc::new(Ticket {
            owner,
            begins,
            heavy: Cell::default(),
            waits: Cell::default(),
            called: Cell::default(),
            waker: RefCell::default(),
        })
    }

    /// What came of a turn decides whether the next one is to be asked for.
    pub fn carried(&self, n: usize) {
        self.set_heavy(n >= LIGHT);
    }

    pub fn set_heavy(&self, heavy: bool) {
        self.heavy.set(heavy);
    }

    fn cost(&self) -> u32 {
        if self.begins {
            1
        } else {
            ROW
        }
    }

    fn most(&self) -> usize {
        if self.heavy.get() {
            HEAVY
        } else {
            LIGHT
        }
    }

    fn call(&self) {
        self.waits.set(false);
        self.called.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

type Queue = VecDeque<Rc<Ticket>>;
type Peers = VecDeque<(Option<IpAddr>, Queue)>;

#[derive(Default)]
pub struct Turns {
    /// Who waits, by pod and peer.
    pods: RefCell<VecDeque<(usize, Peers)>>,
    /// How many connections of pods have begun without a turn since the last one.
    begun: RefCell<Vec<(usize, u32)>>,
    sleeper: RefCell<Option<Waker>>,
}

impl Turns {
    /// How many bytes may be carried now; pending until it is this one's turn. To be asked only when there is something to
    /// carry: a turn that is not used is lost.
    pub fn poll(&self, ticket: &Rc<Ticket>, cx: &Context<'_>) -> Poll<usize> {
        if ticket.called.replace(false) || self.needs_none(ticket) {
            return Poll::Ready(ticket.most());
        }
        *ticket.waker.borrow_mut() = Some(cx.waker().clone());
        if !ticket.waits.replace(true) {
            self.put(ticket);
        }
        Poll::Pending
    }

    /// Returns when a pod may make another connection, or break one off.
    pub async fn begin(&self, owner: impl Into<Owner>) {
        let ticket = Ticket::of(owner.into(), true);
        poll_fn(|cx| self.poll(&ticket, cx)).await;
    }

    /// Has a pod begin as many connections as it may before its next turn.
    #[cfg(test)]
    pub fn use_up(&self, pod: usize) {
        while self.poll(&Ticket::of(pod.into(), true), &Context::from_waker(Waker::noop())).is_ready() {}
    }

    fn needs_none(&self, ticket: &Ticket) -> bool {
        if !ticket.begins {
            return !ticket.heavy.get();
        }
        if ticket.waits.get() {
            return false;
        }
        let mut begun = self.begun.borrow_mut();
        let of = ticket.owner.pod;
        let at = begun.iter().position(|(pod, _)| *pod == of).unwrap_or_else(|| {
            begun.push((of, 0));
            begun.len() - 1
        });
        begun[at].1 += 1;
        begun[at].1 <= ROW
    }

    fn put(&self, ticket: &Rc<Ticket>) {
        let pods = &mut *self.pods.borrow_mut();
        find(find(pods, ticket.owner.pod), ticket.owner.peer).push_back(ticket.clone());
        if let Some(waker) = self.sleeper.take() {
            waker.wake();
        }
    }

    /// The next pod has its turn.
    fn call(&self) {
        self.begun.borrow_mut().clear();
        let mut pods = self.pods.borrow_mut();
        let Some((pod, mut peers)) = pods.pop_front() else { return };
        let mut cost = 0;
        while cost < ROW {
            let Some((peer, mut queue)) = peers.pop_front() else { break };
            while cost < ROW {
                let Some(ticket) = queue.pop_front() else { break };
                cost += ticket.cost();
                ticket.call();
            }
            if !queue.is_empty() {
                peers.push_back((peer, queue));
            }
        }
        if !peers.is_empty() {
            pods.push_back((pod, peers));
        }
    }

    /// The task that calls them.
    pub async fn run(&self) {
        loop {
            poll_fn(|cx| {
                if !self.pods.borrow().is_empty() {
                    return Poll::Ready(());
                }
                *self.sleeper.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            yield_now().await; // tokio's yield runs what is ready, and then asks epoll
            self.call();
        }
    }
}

/// What is under a key; it is put last if it is new.
fn find<K: PartialEq, V: Default>(queue: &mut VecDeque<(K, V)>, key: K) -> &mut V {
    let at = queue.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        queue.push_back((key, V::default()));
        queue.len() - 1
    });
    &mut queue[at].1
}

/// Puts the task behind all that are ready now. (tokio's own yield asks epoll first.)
pub async fn behind_the_others() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
