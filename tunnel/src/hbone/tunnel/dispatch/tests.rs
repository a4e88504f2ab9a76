//! HTTP/2 as a tunnel's peer may speak it. Streams that a peer asks for wait here for a workload that the mesh does not
//! know: they are open until a test ends them.
use super::*;
use crate::base::sizes::DATA_MAX;
use crate::base::Refusal;
use crate::h2::flow::BASE;
use crate::h2::frame::{
    put_data, put_end, put_goaway, put_headers, put_ping, put_settings, put_window, DEFAULT_WINDOW, WINDOW_MAX,
};
use crate::h2::headers::Block;
use crate::hbone::session::TUNNEL_WINDOW;
use crate::hbone::stream::Answer;
use crate::hbone::streams::STREAMS_UNTOLD;
use crate::hbone::tunnel::testing::{
    connected, is_at_end, opened, raw, read, read_some, settings, shaken, until, write, Ours, Peer, INITIAL_WINDOW,
    MAX_STREAMS, USUAL,
};
use crate::hbone::tunnel::Tunnel;
use crate::relay::thread::testing;
use crate::relay::Thread;
use std::rc::Rc;
use std::task::{Context, Waker};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

const MAX: u32 = WINDOW_MAX as u32;

/// Bytes go both ways.
async fn carries(peer: &mut Peer, id: u32, app: &TcpStream) {
    write(app, b"ping").await;
    assert_eq!(peer.payload(id, 4).await, b"ping");
    peer.data(id, b"pong").await;
    assert_eq!(read(app, 4).await, b"pong");
}

/// A server of ours that has been asked for stream 1.
async fn asked(thread: &Rc<Thread>) -> (Rc<Tunnel>, Peer) {
    let (tunnel, mut peer) = connected(thread, Ours::Server, &[]).await;
    peer.request(1).await;
    assert_eq!(peer.rest().await, []);
    assert_eq!(tunnel.streams(), 1);
    (tunnel, peer)
}

// ---- what we may send

#[test]
fn the_peers_initial_window_holds_for_streams_that_are_open() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[(INITIAL_WINDOW, 10)]).await;
        let (_, app) = opened(&tunnel, &mut peer, USUAL).await;
        write(&app, b"0123456789abcdefghijklmnopqrstuvwxyz").await;
        assert_eq!(peer.payload(1, 10).await, b"0123456789");
        assert_eq!(peer.rest().await, []);
        peer.send(|out| out.extend(settings(&[(INITIAL_WINDOW, 15)]))).await;
        assert_eq!(peer.payload(1, 5).await, b"abcde");
        peer.send(|out| out.extend(settings(&[(INITIAL_WINDOW, 0)]))).await;
        peer.send(|out| put_window(out, 1, 15)).await; // what has been used of it is owed (section 6.9.2)
        assert_eq!(peer.rest().await, [Event::Acknowledged, Event::Acknowledged]);
        peer.send(|out| put_window(out, 1, 3)).await;
        assert_eq!(peer.payload(1, 3).await, b"fgh");
    });
}

#[test]
fn the_tunnels_window_holds_for_all_its_streams() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[(INITIAL_WINDOW, MAX)]).await;
        let (_, app) = opened(&tunnel, &mut peer, USUAL).await;
        let (_, other) = opened(&tunnel, &mut peer, USUAL).await;
        let writing = spawn_local(async move {
            write(&app, &[7; 70_000]).await;
            app
        });
        peer.payload(1, DEFAULT_WINDOW as usize).await;
        write(&other, b"other").await;
        assert_eq!(peer.rest().await, []);
        assert!(tunnel.is_stalled());
        peer.send(|out| put_window(out, 0, 10_000)).await;
        let both = 70_000 - DEFAULT_WINDOW as usize;
        peer.payload(1, both).await;
        assert_eq!(peer.payload(3, 5).await, b"other");
        assert!(!tunnel.is_stalled());
        writing.await.unwrap();
    });
}

#[test]
fn a_window_beyond_the_most_ends_the_tunnel() {
    let cases: [(&str, Vec<u8>); 3] = [
        ("the tunnel's", updated(0, MAX)),
        ("a stream's", updated(1, MAX)),
        ("that of SETTINGS", [updated(1, MAX - 65_535), settings(&[(INITIAL_WINDOW, 65_536)])].concat()),
    ];
    for (what, frames) in cases {
        testing::run(async |thread| {
            let (tunnel, mut peer) = asked(&thread).await;
            peer.send(|out| out.extend(frames)).await;
            assert_eq!(peer.goodbye().await, Code::FLOW_CONTROL_ERROR, "{what}");
            assert!(tunnel.is_dead());
        });
    }
}

fn updated(id: u32, n: u32) -> Vec<u8> {
    let mut out = vec![];
    put_window(&mut out, id, n);
    out
}

#[test]
fn what_goes_with_a_request_is_what_the_windows_allow() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[(INITIAL_WINDOW, 5)]).await;
        let request = Block::connect("192.0.2.1:80");
        let (first, went) = tunnel.open(&request, b"12345");
        assert_eq!((went, peer.payload(first.id, 5).await), (5, b"12345".to_vec()));
        let (second, went) = tunnel.open(&request, b"123456");
        assert_eq!(went, 0, "all of it or nothing");
        peer.headers(second.id, Kind::Request).await;
        peer.headers(first.id, Kind::Request).await;
        assert_eq!(peer.rest().await, []);
        // It counts against both windows.
        peer.send(|out| out.extend(settings(&[(INITIAL_WINDOW, MAX)]))).await;
        peer.rest().await;
        assert_eq!(tunnel.open(&request, &[7; DATA_MAX]).1, DATA_MAX);
        for _ in 0..3 {
            tunnel.open(&request, &[7; 16_000]);
        }
        assert_eq!(tunnel.open(&request, &[7; 16_000]).1, 0);
    });
}

// ---- what a peer may send

#[test]
fn a_peer_that_sends_more_than_a_window_allows_is_sent_away() {
    testing::run(async |thread| {
        let (_, mut peer) = asked(&thread).await;
        peer.data(1, &[7; BASE as usize]).await;
        assert_eq!(peer.rest().await, [], "nobody reads it");
        peer.data(1, b"x").await;
        assert_eq!(peer.goodbye().await, Code::FLOW_CONTROL_ERROR);
    });
}

/// Until our settings are acknowledged, streams have the window that HTTP/2 begins with (section 6.9.2).
#[test]
fn before_our_settings_are_known_a_window_is_the_usual_one() {
    for acknowledged in [true, false] {
        testing::run(async |thread| {
            let (_, mut peer) = shaken(&thread, Ours::Server).await;
            peer.greet(&[]).await;
            peer.request(1).await;
            peer.data(1, &[7; BASE as usize + 1]).await;
            if acknowledged {
                peer.acknowledge().await;
            } else {
                peer.data(1, &[7; DEFAULT_WINDOW as usize - BASE as usize - 1]).await;
            }
            assert!(!peer.rest().await.iter().any(|event| matches!(event, Event::GoAway(..))));
            peer.data(1, b"x").await;
            assert_eq!(peer.goodbye().await, Code::FLOW_CONTROL_ERROR, "{acknowledged}");
        });
    }
}

#[test]
fn the_tunnels_window_is_given_back_whoever_reads() {
    testing::run(async |thread| {
        let (_, mut peer) = asked(&thread).await;
        peer.reset(1, Code::CANCEL).await;
        let half = (TUNNEL_WINDOW / 2) as usize;
        for _ in 0..half / DATA_MAX {
            peer.data(1, &[7; DATA_MAX]).await; // of a stream that is closed
        }
        assert_eq!(peer.given(0).await, 0);
        peer.data(1, &[7; DATA_MAX]).await;
        let all = (half / DATA_MAX + 1) * DATA_MAX;
        assert_eq!(peer.given(0).await as usize, all);
    });
}

/// Padding counts against a window, and needs nobody who reads it.
#[test]
fn padding_is_counted_and_given_back() {
    testing::run(async |thread| {
        let (_, mut peer) = asked(&thread).await;
        let padded = raw(0, 8, 1, &[&[200][..], &[0; 200]].concat());
        let (mut sent, mut given) = (0, 0);
        while sent < 4 * BASE {
            peer.send(|out| out.extend(&padded)).await;
            (sent, given) = (sent + 201, given + peer.given(1).await);
            assert!(sent <= given + BASE / 2, "{given} of {sent}");
        }
    });
}

// ---- header blocks

/// Behind a request, or behind our request and its answer.
#[test]
fn a_second_header_block_breaks_its_stream_alone() {
    let mut trailers = Block::default();
    trailers.field("x", "y");
    let mut malformed = Block::default();
    malformed.field("connection", "close");
    let cases = [
        ("a request", Block::connect("a:1"), true),
        ("an answer", Block::status(200), true),
        ("trailers that do not end it", trailers, false),
        ("trailers that are malformed", malformed, true),
    ];
    for (what, block, end) in cases {
        testing::run(async |thread| {
            let (tunnel, mut peer) = asked(&thread).await;
            peer.send(|out| put_headers(out, 1, &block.0, end)).await;
            peer.hears(Event::Reset(1, Code::PROTOCOL_ERROR)).await;
            peer.request(3).await;
            assert_eq!(peer.rest().await, [], "{what}");
            assert_eq!(tunnel.streams(), 1);
        });
        testing::run(async |thread| {
            let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
            let (_, app) = opened(&tunnel, &mut peer, USUAL).await;
            peer.send(|out| put_headers(out, 1, &block.0, end)).await;
            peer.hears(Event::Reset(1, Code::PROTOCOL_ERROR)).await;
            assert!(read_some(&app, 1).await.is_err(), "{what}");
            let (_, app) = opened(&tunnel, &mut peer, USUAL).await;
            carries(&mut peer, 3, &app).await;
        });
    }
}

/// An interim answer is none yet (RFC 9110 section 15.2), unless it ends the stream.
#[test]
fn an_answer_is_the_first_that_is_final() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let [first, second, third] = [(); 3].map(|()| tunnel.open(&Block::connect("192.0.2.1:80"), b"").0);
        peer.respond(first.id, 103).await;
        peer.respond(first.id, 503).await;
        assert!(matches!(first.answer().await, Answer::Refused(503)));
        for (stream, status) in [(&second, 103), (&third, 200)] {
            peer.send(|out| put_headers(out, stream.id, &Block::status(status).0, true)).await;
            peer.rest().await;
            assert!(stream.has_finished());
        }
        assert!(matches!(second.answer().await, Answer::Refused(103)));
        assert!(matches!(third.answer().await, Answer::Open));
    });
}

#[test]
fn trailers_end_a_stream() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let (_, app) = opened(&tunnel, &mut peer, USUAL).await;
        peer.data(1, b"all").await;
        peer.send(|out| put_headers(out, 1, &[], true)).await;
        assert_eq!(read(&app, 3).await, b"all");
        assert!(is_at_end(&app).await);
        peer.send(|out| put_headers(out, 1, &[], true)).await;
        peer.hears(Event::Reset(1, Code::STREAM_CLOSED)).await;
    });
}

/// They share the table with all others: a block that is not read would make those behind it unreadable.
#[test]
fn a_header_block_of_a_stream_that_is_closed_is_read_and_ignored() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = asked(&thread).await;
        peer.reset(1, Code::CANCEL).await;
        peer.request(7).await;
        let known = |name: u8| [0x40, 1, name, 1, b'y']; // put into the table
        for id in [1, 3] {
            peer.send(|out| put_headers(out, id, &known(b'a' + id as u8), false)).await;
        }
        let both = [&Block::connect("a:1").0[..], &[0xbe, 0xbf]].concat(); // the two that the table got last
        peer.send(|out| put_headers(out, 9, &both, false)).await;
        assert_eq!(peer.rest().await, []);
        assert_eq!(tunnel.streams(), 2);
    });
}

#[test]
fn header_blocks_where_none_may_be_end_the_tunnel() {
    for (ours, id, block) in [
        (Ours::Server, 4, Block::connect("a:1")),
        (Ours::Client, 1, Block::status(200)),
        (Ours::Client, 2, Block::status(200)),
    ] {
        testing::run(async |thread| {
            let (_, mut peer) = connected(&thread, ours, &[]).await;
            peer.send(|out| put_headers(out, id, &block.0, false)).await;
            assert_eq!(peer.goodbye().await, Code::PROTOCOL_ERROR, "{ours:?} {id}");
        });
    }
}

#[test]
fn an_answer_to_a_stream_that_we_have_reset_is_ignored() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let (stream, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
        tunnel.close(stream.id, Some(Code::CANCEL));
        peer.hears(Event::Reset(1, Code::CANCEL)).await;
        peer.respond(1, 200).await;
        peer.data(1, b"late").await;
        peer.rest().await;
        let (_, app) = opened(&tunnel, &mut peer, USUAL).await;
        carries(&mut peer, 3, &app).await;
    });
}

// ---- too many, and no more

#[test]
fn streams_beyond_the_most_are_refused_until_there_is_room() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Server, &[]).await;
        let request = Block::connect("192.0.2.1:80");
        let ids: Vec<u32> = (0..=STREAMS_MAX as u32).map(|n| 2 * n + 1).collect();
        for some in ids.chunks(100) {
            peer.send(|out| some.iter().for_each(|id| put_headers(out, *id, &request.0, false))).await;
        }
        let last = ids[STREAMS_MAX];
        assert_eq!(peer.rest().await, [Event::Reset(last, Code::REFUSED_STREAM)]);
        assert_eq!(tunnel.streams(), STREAMS_MAX);
        peer.reset(1, Code::CANCEL).await;
        until(|| tunnel.streams() < STREAMS_MAX).await;
        peer.request(last + 2).await;
        assert_eq!(peer.rest().await, []);
        assert_eq!(tunnel.streams(), STREAMS_MAX);
    });
}

/// Resets do not undo the work: 2,000 requests that are still being served are enough.
#[test]
fn a_peer_that_resets_faster_than_it_is_served_is_sent_away() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Server, &[]).await;
        let mut serving: Vec<_> = (0..2 * STREAMS_MAX).map(|_| tunnel.task()).collect();
        peer.request(1).await;
        assert_eq!(peer.rest().await, []);
        peer.reset(1, Code::CANCEL).await;
        until(|| tunnel.streams() == 0).await;
        serving.push(tunnel.task());
        peer.request(3).await;
        assert_eq!(peer.goodbye().await, Code::ENHANCE_YOUR_CALM);
    });
}

#[test]
fn a_server_that_drains_refuses_what_is_new_and_ends_with_the_last_stream() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = asked(&thread).await;
        tunnel.drain();
        peer.hears(Event::GoAway(1, Code::NO_ERROR)).await;
        peer.request(3).await;
        peer.hears(Event::Reset(3, Code::REFUSED_STREAM)).await;
        assert_eq!(tunnel.streams(), 1);
        peer.reset(1, Code::CANCEL).await;
        assert!(peer.end().await, "nothing was cut off");
        assert!(peer.ended.await.unwrap().is_ok());
    });
}

#[test]
fn a_client_that_says_goodbye_is_served_to_the_end() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = asked(&thread).await;
        peer.send(|out| put_goaway(out, 0, Code::NO_ERROR)).await;
        peer.hears(Event::GoAway(1, Code::NO_ERROR)).await;
        assert_eq!((peer.rest().await, tunnel.streams()), (vec![], 1));
        peer.reset(1, Code::CANCEL).await;
        peer.end().await;
        assert!(peer.ended.await.unwrap().is_ok());
    });
}

#[test]
fn what_a_server_has_not_looked_at_may_be_asked_again() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let (_, app) = opened(&tunnel, &mut peer, USUAL).await;
        let (second, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
        peer.headers(second.id, Kind::Request).await;
        peer.send(|out| put_goaway(out, 1, Code::NO_ERROR)).await;
        assert!(matches!(second.answer().await, Answer::Unprocessed));
        assert!(!tunnel.is_usable());
        tunnel.close(second.id, None);
        carries(&mut peer, 1, &app).await;
        drop(app);
        peer.hears(Event::End(1)).await;
        peer.send(|out| put_end(out, 1)).await;
        peer.end().await;
        assert!(peer.ended.await.unwrap().is_ok());
    });
}

#[test]
fn a_stream_that_is_refused_may_be_asked_again_and_one_that_is_reset_may_not() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let (first, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
        let (second, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
        peer.reset(1, Code::REFUSED_STREAM).await;
        peer.reset(3, Code::CANCEL).await;
        assert!(matches!(first.answer().await, Answer::Unprocessed));
        assert!(matches!(second.answer().await, Answer::Lost(Refusal::PeerReset, _)));
    });
}

/// 100 before it is said; what is not named again stays (section 6.5.3).
#[test]
fn we_open_no_more_streams_than_the_peer_takes() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = shaken(&thread, Ours::Client).await;
        let open = |most: usize| {
            let request = Block::connect("192.0.2.1:80");
            while tunnel.is_usable() && tunnel.streams() <= most {
                tunnel.open(&request, b"");
            }
            tunnel.streams()
        };
        assert_eq!(open(STREAMS_UNTOLD), STREAMS_UNTOLD);
        peer.greet(&[(MAX_STREAMS, 101)]).await;
        peer.rest().await;
        assert_eq!(open(101), 101);
        peer.send(|out| out.extend(settings(&[(INITIAL_WINDOW, 1)]))).await;
        peer.rest().await;
        assert_eq!(open(101), 101);
        peer.send(|out| out.extend(settings(&[(MAX_STREAMS, 5000)]))).await;
        peer.rest().await;
        assert_eq!(open(STREAMS_MAX), STREAMS_MAX);
    });
}

#[test]
fn a_ping_is_answered_with_what_it_says() {
    testing::run(async |thread| {
        for ours in [Ours::Client, Ours::Server] {
            let (_, mut peer) = connected(&thread, ours, &[]).await;
            peer.send(|out| put_ping(out, *b"01234567", false)).await;
            peer.hears(Event::Pong(*b"01234567")).await;
            peer.send(|out| put_ping(out, *b"unasked!", true)).await;
            assert_eq!(peer.rest().await, []);
        }
    });
}

/// However much of it comes in one record: DATA is not copied, and what is too much for a turn waits for the next one.
#[test]
fn what_is_too_much_for_a_turn_is_done_in_the_next_ones() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let (_, app) = opened(&tunnel, &mut peer, USUAL).await;
        let pings = 3 * crate::h2::parser::TURN;
        peer.send(|out| {
            for n in 0..pings as u32 {
                put_ping(out, u64::from(n).to_be_bytes(), false);
                put_data(out, 1, &n.to_be_bytes());
            }
        })
        .await;
        let expected: Vec<u8> = (0..pings as u32).flat_map(u32::to_be_bytes).collect();
        assert_eq!(read(&app, expected.len()).await, expected);
        for n in 0..pings as u64 {
            peer.hears(Event::Pong(n.to_be_bytes())).await;
        }
    });
}

/// Few bytes may be much work.
#[test]
fn who_has_used_up_a_turn_waits_for_the_next_one() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Server, &[]).await;
        peer.send(|out| (0..100).for_each(|_| put_settings(out, 1 << 20, 16_384, None))).await;
        let asks = || thread.turns.poll(&tunnel.ticket, &Context::from_waker(Waker::noop()));
        until(|| tunnel.session.borrow().is_behind() && asks().is_pending()).await;
    });
}
