//! A stream between an application's socket and a peer that speaks frame by frame.
use super::*;
use crate::h2::flow::BASE;
use crate::h2::frame::{put_data, put_end, Event};
use crate::hbone::tunnel::testing::{
    connected, is_at_end, is_reset, opened, read, read_some, sockets, until, write, Ours, Peer, LEAST, USUAL,
};
use crate::relay::thread::testing;
use crate::sys::budget::{Share, POD};
use crate::sys::testing::waits;
use crate::telemetry::Direction;
use socket2::SockRef;
use std::net::Shutdown;
use std::rc::Weak;
use tokio::task::spawn_local;

/// A stream that we have asked for, and whose answer is there.
struct Open {
    tunnel: Rc<Tunnel>,
    peer: Peer,
    /// Its own task has it, and with it the application's socket.
    stream: Weak<Stream>,
    app: TcpStream,
}

impl Open {
    /// Runs `test` with one. `buffer` bytes of what the application does not read are the kernel's to keep.
    fn run(buffer: u32, test: impl AsyncFnOnce(Open)) {
        testing::run(async |thread| {
            let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
            let (stream, app) = opened(&tunnel, &mut peer, buffer).await;
            test(Open { tunnel, peer, stream, app }).await;
        });
    }

    async fn carries(&mut self) {
        write(&self.app, b"ping").await;
        assert_eq!(self.peer.payload(1, 4).await, b"ping");
        self.peer.data(1, b"pong").await;
        assert_eq!(read(&self.app, 4).await, b"pong");
    }

    fn stream(&self) -> Rc<Stream> {
        self.stream.upgrade().unwrap()
    }

    async fn end(&mut self) {
        self.peer.send(|out| put_end(out, 1)).await;
    }
}

#[test]
fn an_application_may_end_first() {
    Open::run(USUAL, async |mut open| {
        open.carries().await;
        SockRef::from(&open.app).shutdown(Shutdown::Write).unwrap();
        open.peer.hears(Event::End(1)).await;
        open.peer.data(1, b"still").await;
        assert_eq!(read(&open.app, 5).await, b"still");
        open.end().await;
        assert!(is_at_end(&open.app).await);
        until(|| open.tunnel.streams() == 0).await;
        assert_eq!(open.peer.rest().await, [], "both have ended: there is no reset");
    });
}

#[test]
fn a_peer_may_end_first() {
    Open::run(USUAL, async |mut open| {
        open.carries().await;
        open.peer.data(1, b"last").await;
        open.end().await;
        assert_eq!(read(&open.app, 4).await, b"last");
        assert!(is_at_end(&open.app).await);
        write(&open.app, b"still").await;
        assert_eq!(open.peer.payload(1, 5).await, b"still");
        drop(open.app);
        open.peer.hears(Event::End(1)).await;
        until(|| open.tunnel.streams() == 0).await;
        assert_eq!(open.peer.rest().await, []);
    });
}

/// All has been said, though not by END_STREAM (RFC 9113 section 8.1).
#[test]
fn a_reset_without_an_error_is_an_end() {
    Open::run(USUAL, async |mut open| {
        open.peer.data(1, b"last").await;
        open.peer.reset(1, Code::NO_ERROR).await;
        assert_eq!(read(&open.app, 4).await, b"last");
        assert!(is_at_end(&open.app).await);
        drop(open.app);
        until(|| open.tunnel.streams() == 0).await;
    });
}

#[test]
fn a_reset_of_the_peers_reaches_the_application() {
    for code in [Code::CANCEL, Code::CONNECT_ERROR, Code::REFUSED_STREAM] {
        Open::run(USUAL, async |mut open| {
            open.carries().await;
            open.peer.reset(1, code).await;
            assert!(is_reset(&open.app).await, "{code:?}");
            until(|| open.tunnel.streams() == 0).await;
            assert_eq!(open.peer.rest().await, [], "a reset is not answered");
        });
    }
}

#[test]
fn a_reset_of_the_applications_reaches_the_peer() {
    Open::run(USUAL, async |mut open| {
        open.carries().await;
        reset_on_close(&open.app);
        drop(open.app);
        open.peer.hears(Event::Reset(1, Code::CONNECT_ERROR)).await;
        until(|| open.tunnel.streams() == 0).await;
    });
}

#[test]
fn a_stream_that_is_cancelled_is_reset_at_both_ends() {
    Open::run(USUAL, async |mut open| {
        open.carries().await;
        open.stream().cancel(Refusal::PolicyChanged, "");
        open.peer.hears(Event::Reset(1, Code::CANCEL)).await;
        assert!(is_reset(&open.app).await);
    });
}

#[test]
#[allow(clippy::await_holding_refcell_ref)] // its task panics on it
fn a_stream_whose_task_panics_is_reset() {
    Open::run(USUAL, async |mut open| {
        open.carries().await;
        let stream = open.stream();
        let held = stream.broken.borrow_mut();
        stream.wake();
        open.peer.hears(Event::Reset(1, Code::INTERNAL_ERROR)).await;
        assert_eq!(open.tunnel.streams(), 0);
        drop(held);
        drop(stream);
        assert!(is_reset(&open.app).await);
    });
}

#[test]
fn a_tunnel_that_is_lost_resets_its_applications() {
    Open::run(USUAL, async |mut open| {
        open.carries().await;
        drop(open.peer);
        assert!(is_reset(&open.app).await);
        assert!(open.tunnel.is_dead());
    });
}

/// What both have said and ended reaches an application that reads late, without the tunnel.
#[test]
fn a_tunnel_that_is_lost_leaves_what_is_settled() {
    Open::run(LEAST, async |mut open| {
        let sent: Vec<u8> = (0..16_000u32).flat_map(|n| (n as u8).to_be_bytes()).collect();
        open.peer.data(1, &sent).await;
        open.end().await;
        SockRef::from(&open.app).shutdown(Shutdown::Write).unwrap();
        open.peer.hears(Event::End(1)).await;
        open.peer.rest().await;
        assert!(open.stream().waiting() > 0, "the kernel keeps all of it");
        drop(open.peer);
        until(|| open.tunnel.is_dead()).await;
        assert_eq!(read(&open.app, sent.len()).await, sent);
        assert!(is_at_end(&open.app).await);
    });
}

/// The application does not read: what its socket refuses is kept, and given in order, the end behind it.
#[test]
fn what_an_application_does_not_read_is_kept_in_order() {
    Open::run(LEAST, async |mut open| {
        let all: Vec<u8> = (0..BASE).flat_map(|n| (n as u8).to_be_bytes()).collect();
        let (first, second) = all.split_at(all.len() / 2);
        for part in first.chunks(1000) {
            open.peer.data(1, part).await;
        }
        assert_eq!(open.peer.given(1).await, 0);
        assert!(open.stream().waiting() > 0, "the kernel keeps all of it");
        let mut got = read(&open.app, 1).await;
        // More comes while some of it waits and some has been taken.
        for part in second.chunks(1000) {
            open.peer.data(1, part).await;
            got.extend(read_some(&open.app, 700).await.unwrap());
        }
        open.end().await;
        got.extend(read(&open.app, all.len() - got.len()).await);
        assert!(got == all);
        assert_eq!(open.stream().waiting(), 0);
        assert!(is_at_end(&open.app).await);
    });
}

#[test]
fn a_window_is_given_back_when_an_application_has_read() {
    Open::run(LEAST, async |mut open| {
        open.peer.data(1, &[7; BASE as usize]).await;
        assert_eq!(open.peer.given(1).await, 0);
        read(&open.app, BASE as usize).await;
        assert!(open.peer.given(1).await >= BASE / 2);
    });
}

/// What is open for the peer and what waits are no more than the window, which does not grow for one who reads slowly.
#[test]
fn a_window_does_not_grow_while_bytes_wait() {
    Open::run(LEAST, async |mut open| {
        open.peer.data(1, &[7; BASE as usize]).await;
        open.peer.rest().await;
        let mut given = 0;
        while given == 0 {
            read_some(&open.app, 100).await.unwrap();
            given = open.peer.given(1).await;
        }
        assert!(given + open.stream().waiting() as u32 <= BASE, "{given}");
    });
}

#[test]
fn a_window_grows_as_far_as_there_is_memory() {
    for (short, most) in [(false, 2 * BASE), (true, BASE)] {
        Open::run(USUAL, async |mut open| {
            let others = Share::of(&open.tunnel.pod.budget);
            others.hold_anyway(if short { POD / 2 } else { 0 });
            open.peer.data(1, &[7; BASE as usize]).await;
            read(&open.app, BASE as usize).await;
            assert_eq!(open.peer.given(1).await, most, "{short}");
        });
    }
}

#[test]
fn a_stream_that_has_ended_needs_no_window() {
    Open::run(LEAST, async |mut open| {
        open.peer.data(1, &[7; BASE as usize]).await;
        open.end().await;
        read(&open.app, BASE as usize).await;
        assert_eq!(open.peer.given(1).await, 0);
    });
}

#[test]
fn bytes_for_which_there_is_no_memory_break_the_stream() {
    Open::run(LEAST, async |mut open| {
        let others = Share::of(&open.tunnel.pod.budget);
        others.hold_anyway(POD);
        open.peer.data(1, &[7; BASE as usize]).await;
        open.peer.hears(Event::Reset(1, Code::CANCEL)).await;
        let error = loop {
            match read_some(&open.app, 1000).await {
                Ok(part) => assert!(!part.is_empty(), "an end instead of a reset"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

/// All in one record, and one behind the other.
#[test]
fn data_behind_the_end_breaks_the_stream() {
    for apart in [false, true] {
        Open::run(USUAL, async |mut open| {
            open.peer
                .send(|out| {
                    put_data(out, 1, b"last");
                    put_end(out, 1);
                    if !apart {
                        put_data(out, 1, b"more");
                    }
                })
                .await;
            if apart {
                assert_eq!(read(&open.app, 4).await, b"last");
                assert!(is_at_end(&open.app).await);
                open.peer.data(1, b"more").await;
            }
            open.peer.hears(Event::Reset(1, Code::STREAM_CLOSED)).await;
        });
    }
}

#[test]
fn a_stream_that_carries_much_counts_until_it_rests_or_ends() {
    Open::run(USUAL, async |Open { tunnel, mut peer, stream, app }| {
        let big = vec![7; BULK as usize];
        let writing = spawn_local(async move {
            write(&app, &big).await;
            app
        });
        let mut got = 0;
        while got < BULK {
            let n = peer.some(1).await.len();
            got += n as u64;
            peer.send(|out| {
                crate::h2::frame::put_window(out, 0, n as u32);
                crate::h2::frame::put_window(out, 1, n as u32);
            })
            .await;
        }
        let _app = writing.await.unwrap();
        assert_eq!(tunnel.bulk.get(), 1);
        stream.upgrade().unwrap().look();
        assert_eq!(tunnel.bulk.get(), 0);
    });
}

/// In the first turn of its task, when epoll has not told of the application's socket yet.
#[test]
fn what_comes_before_the_application_goes_to_it_at_once() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let (stream, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
        peer.headers(stream.id, Kind::Request).await;
        peer.respond(stream.id, 200).await;
        peer.data(stream.id, b"early").await;
        until(|| stream.waiting() > 0).await;
        let (near, app) = sockets(USUAL).await;
        let near = TcpStream::from_std(near.into_std().unwrap()).unwrap();
        let record = thread.telemetry.accept(Direction::Outbound, tunnel.remote, tunnel.remote);
        let mut relay = pin!(stream.relay(near, record));
        assert!(waits(relay.as_mut()));
        assert_eq!(stream.waiting(), 0);
        assert_eq!(read(&app, 5).await, b"early");
    });
}
