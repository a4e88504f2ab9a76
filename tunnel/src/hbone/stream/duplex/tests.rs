//! A stream that is read and written, at either end of a tunnel whose peer speaks frame by frame.
use super::*;
use crate::base::Failure;
use crate::h2::flow::BASE;
use crate::h2::frame::{put_end, put_window, Event};
use crate::h2::headers::{Block, Kind};
use crate::hbone::stream::Answer;
use crate::hbone::tunnel::testing::{connected, serving, until, Ours, Peer, INITIAL_WINDOW};
use crate::hbone::tunnel::Tunnel;
use crate::relay::thread::testing;
use crate::relay::Live;
use std::cell::RefCell;
use tokio::io::{split, AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;

struct Open {
    tunnel: Rc<Tunnel>,
    peer: Peer,
    duplex: StreamDuplex,
}

/// Runs `test` with stream 1 as each end has it: one that we have asked for, and one that the peer has.
fn at_both_ends(test: impl AsyncFn(Open)) {
    run(&[], &test);
    testing::run(async |thread| test(asked(&thread).await).await);
}

/// With one that we have asked for, of a peer with these settings.
fn run(settings: &[(u16, u32)], test: impl AsyncFn(Open)) {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, settings).await;
        let (stream, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
        peer.headers(1, Kind::Request).await;
        peer.respond(1, 200).await;
        assert!(matches!(stream.answer().await, Answer::Open));
        test(Open { tunnel, peer, duplex: StreamDuplex::new(stream) }).await;
    });
}

async fn asked(thread: &Rc<crate::relay::Thread>) -> Open {
    let accepted = Rc::<RefCell<Vec<_>>>::default();
    let streams = accepted.clone();
    let accept = move |stream: Rc<Stream>, _| {
        // At once: nothing of the tunnel is borrowed.
        stream.accept(&Block::default());
        streams.borrow_mut().push(stream);
    };
    let (tunnel, mut peer) = serving(thread, Ours::Server, accept).await;
    peer.greet(&[]).await;
    peer.acknowledge().await;
    peer.request(1).await;
    assert_eq!(peer.headers(1, Kind::Response).await.status, Some(200));
    let stream = accepted.borrow_mut().pop().unwrap();
    Open { tunnel, peer, duplex: StreamDuplex::new(stream) }
}

impl Open {
    async fn carries(&mut self) {
        self.duplex.write_all(b"ping").await.unwrap();
        assert_eq!(self.peer.payload(1, 4).await, b"ping");
        self.peer.data(1, b"pong").await;
        assert_eq!(self.read(4).await, b"pong");
    }

    async fn read(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.duplex.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    async fn is_at_end(&mut self) -> bool {
        self.duplex.read(&mut [0]).await.unwrap() == 0
    }

    /// Why it cannot be read any more.
    async fn broken(&mut self) -> Refusal {
        why(&self.duplex.read(&mut [0]).await.unwrap_err())
    }
}

fn why(error: &io::Error) -> Refusal {
    error.get_ref().and_then(|error| error.downcast_ref::<Failure>()).unwrap().refusal
}

#[test]
fn bytes_go_both_ways() {
    at_both_ends(async |mut open| {
        open.carries().await;
        let large = vec![7; 3 * BASE as usize];
        open.duplex.write_all(&large).await.unwrap();
        assert_eq!(open.peer.payload(1, large.len()).await, large);
    });
}

#[test]
fn we_may_end_first() {
    at_both_ends(async |mut open| {
        open.duplex.shutdown().await.unwrap();
        open.peer.hears(Event::End(1)).await;
        assert_eq!(open.duplex.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        open.peer.data(1, b"still").await;
        assert_eq!(open.read(5).await, b"still");
        open.peer.send(|out| put_end(out, 1)).await;
        assert!(open.is_at_end().await);
        drop(open.duplex);
        assert_eq!(open.tunnel.streams(), 0);
        assert!(!open.peer.rest().await.iter().any(|event| matches!(event, Event::Reset(..))), "both have ended");
    });
}

#[test]
fn the_peer_may_end_first() {
    at_both_ends(async |mut open| {
        open.peer.data(1, b"last").await;
        open.peer.send(|out| put_end(out, 1)).await;
        assert_eq!(open.read(4).await, b"last");
        assert!(open.is_at_end().await);
        open.duplex.write_all(b"still").await.unwrap();
        assert_eq!(open.peer.payload(1, 5).await, b"still");
        open.duplex.shutdown().await.unwrap();
        open.peer.hears(Event::End(1)).await;
        drop(open.duplex);
        assert_eq!(open.tunnel.streams(), 0);
    });
}

#[test]
fn our_reset_reaches_the_peer() {
    at_both_ends(async |mut open| {
        open.carries().await;
        open.duplex.reset();
        open.peer.hears(Event::Reset(1, Code::CANCEL)).await;
        assert_eq!(open.broken().await, Refusal::Abandoned);
        assert!(open.duplex.write(b"more").await.is_err());
    });
}

#[test]
fn the_peers_reset_reaches_us_behind_what_it_said() {
    at_both_ends(async |mut open| {
        open.peer.data(1, b"last").await;
        open.peer.reset(1, Code::CANCEL).await;
        assert_eq!(open.read(4).await, b"last");
        assert_eq!(open.broken().await, Refusal::PeerReset);
        assert_eq!(why(&open.duplex.write(b"more").await.unwrap_err()), Refusal::PeerReset);
        drop(open.duplex);
        assert_eq!(open.tunnel.streams(), 0);
    });
}

#[test]
fn half_of_a_message_is_reset() {
    at_both_ends(async |mut open| {
        open.carries().await;
        drop(open.duplex);
        open.peer.hears(Event::Reset(1, Code::CANCEL)).await;
        assert_eq!(open.tunnel.streams(), 0);
    });
}

#[test]
fn what_was_said_in_full_is_not_reset_before_the_peer_has_read_it() {
    at_both_ends(async |mut open| {
        open.duplex.write_all(b"answer").await.unwrap();
        open.duplex.shutdown().await.unwrap();
        drop(open.duplex);
        open.peer.hears(Event::End(1)).await;
        assert_eq!(open.tunnel.streams(), 1);
        open.peer.send(|out| put_end(out, 1)).await;
        until(|| open.tunnel.streams() == 0).await;
        assert!(!open.peer.rest().await.iter().any(|event| matches!(event, Event::Reset(..))));
    });
}

#[test]
fn a_peer_that_goes_on_for_nobody_is_reset() {
    at_both_ends(async |mut open| {
        open.duplex.shutdown().await.unwrap();
        drop(open.duplex);
        open.peer.hears(Event::End(1)).await;
        open.peer.data(1, b"more").await;
        open.peer.hears(Event::Reset(1, Code::CANCEL)).await;
        assert_eq!(open.tunnel.streams(), 0);
    });
}

#[test]
fn a_writer_waits_for_the_peers_window_while_another_reads() {
    run(&[(INITIAL_WINDOW, 10)], async |Open { mut peer, duplex, .. }| {
        let (mut reading, mut writing) = split(duplex);
        let written = tokio::task::spawn_local(async move { writing.write_all(b"0123456789abcdef").await });
        let read = tokio::task::spawn_local(async move {
            let mut bytes = [0; 4];
            reading.read_exact(&mut bytes).await.map(|_| bytes)
        });
        assert_eq!(peer.payload(1, 10).await, b"0123456789");
        assert!(!written.is_finished() && !read.is_finished());
        peer.data(1, b"read").await;
        assert_eq!(&read.await.unwrap().unwrap(), b"read");
        assert!(!written.is_finished());
        peer.send(|out| put_window(out, 1, 6)).await;
        assert_eq!(peer.payload(1, 6).await, b"abcdef");
        written.await.unwrap().unwrap();
    });
}

#[test]
fn what_nobody_reads_is_bounded_by_the_streams_window() {
    at_both_ends(async |mut open| {
        let window = BASE as usize;
        open.peer.data(1, &vec![7; window]).await;
        assert_eq!(open.peer.given(1).await, 0);
        assert_eq!(open.duplex.stream.waiting(), window);
        open.read(window).await;
        assert!(open.peer.given(1).await > 0, "who reads is sent more");
        assert_eq!(open.duplex.stream.waiting(), 0);
    });
}

#[test]
fn a_lost_tunnel_is_told_to_who_reads_and_to_who_writes() {
    run(&[(INITIAL_WINDOW, 1)], async |Open { tunnel, duplex, .. }| {
        let (mut reading, mut writing) = split(duplex);
        let written = tokio::task::spawn_local(async move { writing.write_all(b"more than one").await });
        let read = tokio::task::spawn_local(async move { reading.read(&mut [0]).await });
        yield_now().await;
        tunnel.kill(Refusal::TunnelLost, "of this test");
        assert_eq!(why(&read.await.unwrap().unwrap_err()), Refusal::TunnelLost);
        assert_eq!(why(&written.await.unwrap().unwrap_err()), Refusal::TunnelLost);
    });
}

#[test]
fn others_may_end_it() {
    at_both_ends(async |mut open| {
        open.carries().await;
        open.duplex.stream.cancel(Refusal::PolicyChanged, "");
        assert_eq!(open.broken().await, Refusal::PolicyChanged);
        drop(open.duplex);
        open.peer.hears(Event::Reset(1, Code::CANCEL)).await;
    });
}

/// Takes so much, and keeps it.
#[derive(Default)]
struct Bowl {
    room: std::cell::Cell<usize>,
    took: RefCell<Vec<u8>>,
    waker: RefCell<Option<std::task::Waker>>,
    broken: std::cell::Cell<bool>,
}

impl Bowl {
    fn grow(&self, n: usize) {
        self.room.set(self.room.get() + n);
        self.waker.take().into_iter().for_each(std::task::Waker::wake);
    }
}

impl Sink for Bowl {
    fn poll_write(&self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.broken.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).take(self.room.get()).collect::<Vec<_>>();
        if bytes.is_empty() {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.room.set(self.room.get() - bytes.len());
        self.took.borrow_mut().extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }
}

/// What becomes of a relay of `left` bytes into the bowl.
fn relaying(
    mut duplex: StreamDuplex,
    bowl: &Rc<Bowl>,
    mut left: u64,
) -> tokio::task::JoinHandle<(Relayed, StreamDuplex)> {
    let to = bowl.clone() as Rc<dyn Sink>;
    spawn_local(async move {
        let relayed = std::future::poll_fn(|cx| duplex.poll_relay(cx, &to, &mut left)).await;
        (relayed, duplex)
    })
}

#[test]
fn a_lent_sink_takes_its_bytes_and_not_one_more() {
    at_both_ends(async |mut open| {
        let bowl = Rc::new(Bowl::default());
        bowl.grow(usize::MAX / 2);
        open.peer.data(1, b"ab").await;
        let relay = relaying(open.duplex, &bowl, 6);
        until(|| *bowl.took.borrow() == b"ab").await;
        open.peer.data(1, b"cd").await;
        until(|| *bowl.took.borrow() == b"abcd").await;
        open.peer.data(1, b"efgh").await;
        let (relayed, duplex) = relay.await.unwrap();
        assert_eq!((relayed, &**bowl.took.borrow()), (Relayed::Whole, &b"abcdef"[..]));
        open.duplex = duplex;
        assert_eq!(open.read(2).await, b"gh");
        open.peer.data(1, b"i").await;
        assert_eq!(open.read(1).await, b"i");
        assert_eq!(bowl.took.borrow().len(), 6);
    });
}

#[test]
fn a_full_sink_holds_up_its_sender() {
    at_both_ends(async |mut open| {
        let bowl = Rc::new(Bowl::default());
        let relay = relaying(open.duplex, &bowl, 3 * u64::from(BASE));
        let most = vec![7; BASE as usize];
        open.peer.data(1, &most).await;
        let given = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Window(1, _)));
        assert!(!given(&open.peer.rest().await), "what waits is not given back");
        bowl.grow(usize::MAX / 2);
        until(|| bowl.took.borrow().len() == most.len()).await;
        assert!(open.peer.given(1).await > 0);
        open.peer.data(1, &most).await;
        open.peer.data(1, &most).await;
        assert_eq!(relay.await.unwrap().0, Relayed::Whole);
        assert_eq!(bowl.took.borrow().len(), 3 * most.len());
    });
}

#[test]
fn a_relay_ends_with_either_side() {
    at_both_ends(async |mut open| {
        let bowl = Rc::new(Bowl::default());
        bowl.grow(usize::MAX / 2);
        let relay = relaying(open.duplex, &bowl, 9);
        open.peer.data(1, b"ab").await;
        open.peer.send(|out| put_end(out, 1)).await;
        assert_eq!((relay.await.unwrap().0, bowl.took.borrow().len()), (Relayed::Ended, 2));
    });
    at_both_ends(async |mut open| {
        let bowl = Rc::new(Bowl::default());
        let relay = relaying(open.duplex, &bowl, 9);
        open.peer.reset(1, Code::CANCEL).await;
        assert_eq!(relay.await.unwrap().0, Relayed::Broken);
    });
    at_both_ends(async |mut open| {
        let bowl = Rc::new(Bowl::default());
        bowl.broken.set(true);
        let relay = relaying(open.duplex, &bowl, 9);
        open.peer.data(1, b"ab").await;
        assert_eq!(relay.await.unwrap().0, Relayed::Refused);
    });
}
