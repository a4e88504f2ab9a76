use super::*;
use crate::decision::Authority as Asked;
use crate::h2::headers::Block;
use crate::hbone::stream::Answer;
use crate::mesh::Workload;
use crate::relay::thread::testing;
use crate::sys::pod_info::testing::info;
use crate::tls::credentials::testing::{expected, usual, Authority};
use std::net::{Ipv4Addr, SocketAddrV4};

const CLIENT: &str = "spiffe://cluster.local/ns/demo/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/demo/sa/server";
const DIAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 15008));

/// A tunnel that is being dialled, with a stream in it.
fn dialled(thread: &Rc<Thread>) -> Dialled {
    let pool = Pool::new(thread, &info(CLIENT, "pod"), &Rc::default());
    let root = Authority::new("root");
    let identities = expected(&[SERVER]);
    let handshake = Handshake::client(&root.credentials(CLIENT, &root, usual), &identities).unwrap();
    let tunnel = Tunnel::client(thread, &pool.pod, DIAL, handshake);
    let key = Key { destination: "uid".into(), dial: DIAL, identities };
    pool.tunnels.borrow_mut().entry(key.clone()).or_default().push(tunnel.clone());
    let _pooled = thread.telemetry.pooled(&"node".into());
    Dialled { pool, key, tunnel, _pooled }
}

#[test]
fn a_panic_of_a_tunnels_task_leaves_neither_a_tunnel_nor_anybody_who_waits() {
    testing::run(async |thread| {
        let dialled = dialled(&thread);
        let (pool, tunnel) = (dialled.pool.clone(), dialled.tunnel.clone());
        let (stream, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
        assert!(tunnel.is_usable() && pool.all().len() == 1);
        let task = spawn_local(async move {
            let _dialled = dialled;
            panic!("of this test");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(tunnel.is_dead() && !tunnel.is_usable() && pool.all().is_empty());
        let told = thread.telemetry.encode();
        assert!(told.contains("streams_open{reporter=\"source\"} 0\n") && !told.contains("pool_tunnels{"), "{told}");
        assert!(matches!(stream.answer().await, Answer::Lost(Refusal::InternalError, _)));
    });
}

#[test]
fn a_task_that_is_dropped_leaves_as_little() {
    testing::run(async |thread| {
        let dialled = dialled(&thread);
        let (pool, tunnel) = (dialled.pool.clone(), dialled.tunnel.clone());
        let task = spawn_local(async move {
            let _dialled = dialled;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(tunnel.is_dead() && pool.all().is_empty());
    });
}

#[test]
fn a_panic_of_a_streams_task_leaves_no_stream() {
    testing::run(async |thread| {
        let dialled = dialled(&thread);
        let tunnel = &dialled.tunnel;
        let (stream, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
        let told =
            |count| thread.telemetry.encode().contains(&format!("streams_open{{reporter=\"source\"}} {count}\n"));
        assert!(tunnel.streams() == 1 && told(1));
        stream.break_down();
        assert!(tunnel.streams() == 0 && told(0));
    });
}

/// The way to a destination, and its key.
fn way() -> (Route, Key) {
    let (identities, destination) = (expected(&[SERVER]), Workload::outside().clone());
    let key = Key { destination: destination.uid.0.clone(), dial: DIAL, identities: identities.clone() };
    (Route { dial: DIAL, authority: Asked::Address(DIAL), identities, destination, service: None }, key)
}

/// What a new connection meets behind these ends of tunnels, each with whether it was up. The pod has no certificate: to dial
/// is refused for that.
fn met(thread: &Rc<Thread>, ends: &[(Result<(), Refusal>, bool)]) -> Refusal {
    let pool = Pool::new(thread, &info(CLIENT, "pod"), &Rc::default());
    let (route, key) = way();
    for (end, was_up) in ends {
        let end = end.map_err(|refusal| Failure { refusal, detail: String::new() });
        pool.remember(&key, &end, *was_up);
    }
    pool.tunnel(&route, || None).err().unwrap().refusal
}

#[test]
fn who_comes_after_many_failed_handshakes_is_refused_at_once() {
    testing::run(async |thread| {
        let failed = |refusal, was_up| vec![(Err(refusal), was_up); 5];
        assert_eq!(met(&thread, &failed(Refusal::PeerIdentity, false)), Refusal::PeerIdentity);
        let told_late = failed(Refusal::CertificateRefused, true);
        assert_eq!(met(&thread, &told_late), Refusal::CertificateRefused, "our side of the handshake was over");
        for (what, ends) in [
            ("few", failed(Refusal::PeerIdentity, false)[..4].to_vec()),
            ("no handshakes", failed(Refusal::TunnelTimeout, false)),
            ("tunnels that were up", failed(Refusal::CertificateRevoked, true)),
            ("one that was right since", [failed(Refusal::PeerIdentity, false), vec![(Ok(()), true)]].concat()),
        ] {
            assert_eq!(met(&thread, &ends), Refusal::NoIdentity, "{what}");
        }
    });
}

#[test]
fn a_pair_has_so_many_tunnels_because_the_others_carry_bulk() {
    testing::run(async |thread| {
        let Dialled { pool, tunnel, .. } = &dialled(&thread);
        let (route, key) = way();
        tunnel.bulk.set(1);
        for tunnels in 1..=TUNNELS_MAX {
            pool.tunnels.borrow_mut().insert(key.clone(), vec![tunnel.clone(); tunnels]);
            assert_eq!(pool.tunnel(&route, || None).is_ok(), tunnels == TUNNELS_MAX, "{tunnels}");
        }
        tunnel.bulk.set(0);
        pool.tunnels.borrow_mut().insert(key, vec![tunnel.clone()]);
        assert!(pool.tunnel(&route, || None).is_ok());
    });
}

#[test]
fn tunnels_to_what_is_gone_are_forgotten() {
    testing::run(async |thread| {
        let Dialled { pool, .. } = &dialled(&thread);
        pool.prune(|uid, ip| uid == "uid" && ip == DIAL.ip());
        assert_eq!(pool.all().len(), 1);
        pool.prune(|_, _| false);
        assert!(pool.all().is_empty());
    });
}
