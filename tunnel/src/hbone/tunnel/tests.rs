use super::testing::{almost_shaken, connected, opened, read, sockets, until, write, Ours, Peer, LEAST, USUAL};
use super::*;
use crate::h2::frame;
use crate::relay::thread::testing;
use crate::sys::pod_info::testing::info;
use crate::tls::credentials::testing::{usual, Authority};
use crate::tls::record_layer::HEAD;
use crate::tls::revocation::Lists;
use std::task::{Context, Waker};

/// Whether the tunnel has read all that has arrived.
fn has_read_all(tunnel: &Tunnel) -> bool {
    rustix::io::ioctl_fionread(tunnel.sock.get().unwrap()).unwrap() == 0
}

/// Of the longest record that TLS 1.3 has, all but the last byte is left of a read. The next read, as large as reads are,
/// goes behind that. What its length allows for is more than a right one has (RFC 8446 section 5.2).
#[test]
fn the_longest_record_leaves_room_for_a_read() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Server, &[]).await;
        let mut longest = [7; HEAD + (1 << 14) + 256];
        longest[..HEAD].copy_from_slice(&[23, 3, 3, 0x41, 0]);
        let (last, most) = longest.split_last().unwrap();
        peer.write(most).await;
        until(|| has_read_all(&tunnel)).await;
        tunnel.ticket.set_heavy(true);
        peer.write(&[*last]).await;
        peer.end().await;
        let failure = peer.ended.await.unwrap().unwrap_err();
        assert!(failure.detail.contains("does not authenticate"), "{failure}");
    });
}

#[test]
fn records_that_are_padded_as_far_as_may_be_arrive_in_pieces() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Server, &[]).await;
        for ping in 0..20u64 {
            let mut frames = vec![];
            frame::put_ping(&mut frames, ping.to_be_bytes(), false);
            let record = peer.padded(&frames);
            let (last, most) = record.split_last().unwrap();
            peer.write(most).await;
            until(|| has_read_all(&tunnel)).await;
            tunnel.ticket.set_heavy(true);
            peer.write(&[*last]).await;
            peer.hears(frame::Event::Pong(ping.to_be_bytes())).await;
        }
    });
}

#[test]
fn a_window_that_has_grown_is_paid_for_until_it_rests() {
    testing::run(async |thread| {
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let (_stream, app) = opened(&tunnel, &mut peer, USUAL).await;
        let mut window = crate::h2::flow::BASE;
        while window < 100_000 {
            peer.data(1, &vec![7; window as usize]).await;
            read(&app, window as usize).await;
            window = peer.given(1).await;
        }
        assert!(tunnel.budget.used() >= window as usize);
        let look = || tunnel.streams.borrow().look();
        look(); // it was used since the last time
        look();
        assert_eq!(tunnel.budget.used(), 0);
    });
}

/// Least of all what would ask in some seconds whether the peer lives.
#[test]
fn a_tunnel_that_has_ended_leaves_nothing_behind() {
    testing::run(async |thread| {
        let (tunnel, peer) = connected(&thread, Ours::Client, &[]).await;
        drop(peer);
        until(|| Rc::strong_count(&tunnel) + Rc::weak_count(&tunnel) == 1).await;
    });
}

#[test]
fn the_streams_of_a_lost_tunnel_end_a_few_at_a_time() {
    testing::run(async |thread| {
        const STREAMS: usize = 40;
        let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
        let mut open = vec![];
        while open.len() < STREAMS {
            open.push(opened(&tunnel, &mut peer, LEAST).await);
        }
        drop(peer);
        let left = || open.iter().filter(|(stream, _)| stream.strong_count() > 0).count();
        until(|| left() < STREAMS).await;
        assert!(left() > STREAMS / 2, "others have waited for {} of them", STREAMS - left());
        until(|| left() == 0).await;
    });
}

/// One that begins is as much work as many reads, and so is each part of it, however few bytes that has.
#[test]
fn a_handshake_takes_turns() {
    testing::run(async |thread| {
        let root = Authority::new("root");
        let name = "spiffe://cluster.local/ns/demo/sa/server";
        let handshake = Handshake::server(&root.credentials(name, &root, usual)).unwrap();
        let (sock, peer) = sockets(USUAL).await;
        let tunnel = Tunnel::server(&thread, &info(name, "pod"), peer.local_addr().unwrap(), handshake, |_, _| {});
        let asks = || thread.turns.poll(&tunnel.ticket, &Context::from_waker(Waker::noop()));
        assert!(asks().is_pending());
        write(&peer, &[22, 3, 1]).await;
        let running = tunnel.clone();
        spawn_local(async move { running.run(sock).await });
        until(|| tunnel.sock.get().is_some() && has_read_all(&tunnel)).await;
        until(|| asks().is_pending()).await;
    });
}

/// Takes back what `root` has given, and has whoever believes it know.
fn revoke(root: &Authority) {
    root.revocation.replace(Lists::parse(root.crl(&[1], 4000).der()).unwrap());
}

/// The tunnel ends because its peer is revoked, and the peer learns why.
async fn ends_with_an_alert(mut peer: Peer) {
    peer.end().await;
    let told = peer.told().map(ToString::to_string).unwrap_or_default();
    assert!(told.contains("certificate_revoked"), "{told}");
    assert_eq!(peer.ended.await.unwrap().unwrap_err().refusal, Refusal::CertificateRevoked);
}

#[test]
fn a_peer_that_is_revoked_within_the_handshake_does_not_get_in() {
    testing::run(async |thread| {
        let root = Authority::new("root");
        let (tunnel, mut peer, finished) = almost_shaken(&thread, &root).await;
        revoke(&root);
        peer.write(&finished).await;
        until(|| tunnel.peer.get().is_some()).await;
        assert!(tunnel.is_dead());
        ends_with_an_alert(peer).await;
    });
}

#[test]
fn a_peer_that_is_revoked_later_is_told_so() {
    testing::run(async |thread| {
        let root = Authority::new("root");
        let (tunnel, mut peer, finished) = almost_shaken(&thread, &root).await;
        peer.write(&finished).await;
        peer.greet(&[]).await;
        peer.rest().await;
        tunnel.review_peer();
        peer.rest().await;
        revoke(&root);
        tunnel.review_peer();
        assert!(tunnel.killed.borrow().is_some(), "it goes on");
        ends_with_an_alert(peer).await;
    });
}
