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
mod tests {
    use super::*;
    use tokio::sync::Notify;
    use tokio::task::spawn_local;

    fn heavy(owner: impl Into<Owner>) -> Rc<Ticket> {
        let ticket = Ticket::new(owner);
        ticket.carried(HEAVY);
        ticket
    }

    fn begins(pod: usize) -> Rc<Ticket> {
        Ticket::of(pod.into(), true)
    }

    fn asks(turns: &Turns, ticket: &Rc<Ticket>) -> Poll<usize> {
        turns.poll(ticket, &Context::from_waker(Waker::noop()))
    }

    /// Who is called, of those who ask again each time.
    fn called(turns: &Turns, tickets: &[Rc<Ticket>], times: usize) -> Vec<usize> {
        let next = |_| {
            let waiting: Vec<_> = tickets.iter().map(|ticket| asks(turns, ticket)).collect();
            assert!(waiting.iter().all(Poll::is_pending));
            turns.call();
            tickets.iter().position(|ticket| asks(turns, ticket).is_ready()).unwrap()
        };
        (0..times).map(next).collect()
    }

    #[test]
    fn who_has_little_to_say_does_not_wait() {
        let turns = Turns::default();
        let ticket = Ticket::new(1);
        assert_eq!(asks(&turns, &ticket), Poll::Ready(LIGHT));
        ticket.carried(LIGHT - 1);
        assert_eq!(asks(&turns, &ticket), Poll::Ready(LIGHT));
        ticket.carried(LIGHT);
        assert_eq!(asks(&turns, &ticket), Poll::Pending);
        turns.call();
        assert_eq!(asks(&turns, &ticket), Poll::Ready(HEAVY));
        assert_eq!(asks(&turns, &ticket), Poll::Pending, "a turn is for once");
        turns.call();
        assert_eq!(asks(&turns, &ticket), Poll::Ready(HEAVY));
        ticket.carried(10);
        assert_eq!(asks(&turns, &ticket), Poll::Ready(LIGHT));
    }

    #[test]
    fn connections_have_their_turns_one_after_the_other() {
        let tickets: Vec<_> = (0..3).map(|_| heavy(1)).collect();
        assert_eq!(called(&Turns::default(), &tickets, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_pod_with_one_connection_has_as_many_turns_as_one_with_three() {
        let tickets = [1, 1, 1, 2].map(heavy);
        assert_eq!(called(&Turns::default(), &tickets, 8), [0, 3, 1, 3, 2, 3, 0, 3]);
    }

    #[test]
    fn a_peer_with_one_tunnel_has_as_many_turns_as_one_with_three() {
        let [peer, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| Owner::peer(1, ip.parse().unwrap()));
        let tickets = [peer, peer, peer, other].map(heavy);
        assert_eq!(called(&Turns::default(), &tickets, 8), [0, 3, 1, 3, 2, 3, 0, 3]);
    }

    #[test]
    fn what_many_peers_begin_is_as_much_of_a_turn_as_what_one_does() {
        let turns = Turns::default();
        turns.use_up(1);
        let peer = |n| Owner::peer(1, std::net::Ipv4Addr::new(192, 0, 2, n).into());
        let new: Vec<_> = (0..3 * ROW as u8).map(|n| Ticket::of(peer(n), true)).collect();
        assert!(new.iter().all(|ticket| asks(&turns, ticket).is_pending()));
        turns.call(); // of the pod's own, which has used up what it may
        let mut all = 0;
        for so_far in [ROW - 1, 2 * ROW - 1, 3 * ROW - 1] {
            all = new.iter().filter(|ticket| ticket.called.get()).count();
            assert_eq!(all, so_far as usize);
            turns.call();
        }
        assert!(all < new.len() && turns.pods.borrow().is_empty());
    }

    /// How many of these are called together.
    fn called_at_once(turns: &Turns, tickets: &[Rc<Ticket>]) -> usize {
        turns.call();
        tickets.iter().filter(|ticket| ticket.called.get()).count()
    }

    #[test]
    fn new_connections_of_a_pod_begin_a_few_at_a_time_and_who_is_there_does_not_wait() {
        let turns = Turns::default();
        let new: Vec<_> = (0..3 * ROW).map(|_| begins(1)).collect();
        let at_once = new.iter().filter(|ticket| asks(&turns, ticket).is_ready()).count();
        assert_eq!(at_once, ROW as usize);
        assert_eq!(asks(&turns, &Ticket::new(1)), Poll::Ready(LIGHT));
        assert_eq!(asks(&turns, &begins(2)), Poll::Ready(LIGHT));
        assert_eq!(called_at_once(&turns, &new), ROW as usize);
        assert_eq!(asks(&turns, &new[at_once]), Poll::Ready(LIGHT));
        assert!(asks(&turns, &new[new.len() - 1]).is_pending(), "who waits does not overtake others");
    }

    #[test]
    fn with_each_turn_a_pod_may_begin_a_few_more() {
        let turns = Turns::default();
        let may_begin = || asks(&turns, &begins(1)).is_ready();
        assert!((0..ROW).all(|_| may_begin()));
        turns.call();
        assert!((0..ROW).all(|_| may_begin()) && !may_begin());
    }

    #[test]
    fn who_asks_twice_waits_once() {
        let turns = Turns::default();
        let ticket = heavy(1);
        let _ = (asks(&turns, &ticket), asks(&turns, &ticket));
        turns.call();
        turns.call();
        assert!(turns.pods.borrow().is_empty());
        assert_eq!(asks(&turns, &ticket), Poll::Ready(HEAVY));
        assert_eq!(asks(&turns, &ticket), Poll::Pending);
    }

    #[test]
    fn who_asks_twice_takes_no_turn_of_others() {
        let turns = Turns::default();
        let (first, second) = (heavy(1), heavy(1));
        let _ = (asks(&turns, &first), asks(&turns, &first), asks(&turns, &second));
        turns.call();
        turns.call();
        assert_eq!(asks(&turns, &second), Poll::Ready(HEAVY));
    }

    fn runtime() -> tokio::runtime::LocalRuntime {
        tokio::runtime::Builder::new_current_thread().build_local(Default::default()).unwrap()
    }

    #[test]
    fn who_comes_when_nobody_waits_is_called() {
        runtime().block_on(async {
            let (turns, ticket) = (Rc::new(Turns::default()), heavy(1));
            let calling = turns.clone();
            spawn_local(async move { calling.run().await });
            yield_now().await;
            assert!(asks(&turns, &ticket).is_pending());
            for _ in 0..10 {
                yield_now().await;
            }
            assert!(asks(&turns, &ticket).is_ready());
        });
    }

    #[test]
    fn what_a_turn_makes_ready_runs_before_the_next_one() {
        let (turns, ran, notify) = (Rc::new(Turns::default()), Rc::new(RefCell::new(vec![])), Rc::new(Notify::new()));
        runtime().block_on(async {
            for name in ["first", "second"] {
                let (turns, ran, notify) = (turns.clone(), ran.clone(), notify.clone());
                let ticket = heavy(1);
                spawn_local(async move {
                    poll_fn(|cx| turns.poll(&ticket, cx)).await;
                    ran.borrow_mut().push(name);
                    notify.notify_one();
                });
            }
            let ready = ran.clone();
            spawn_local(async move {
                notify.notified().await;
                ready.borrow_mut().push("made ready");
            });
            spawn_local(async move { turns.run().await });
            while ran.borrow().len() < 3 {
                yield_now().await;
            }
        });
        assert_eq!(*ran.borrow(), ["first", "made ready", "second"]);
    }
}
