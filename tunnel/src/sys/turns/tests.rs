//! Who is called when, by tickets alone.
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
