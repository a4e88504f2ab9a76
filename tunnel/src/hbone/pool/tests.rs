use super::*;
use crate::h2::headers::Block;
use crate::hbone::stream::Answer;
use crate::relay::thread::testing;
use crate::sys::pod_info::testing::info;
use crate::tls::credentials::testing::{expected, usual, Authority};

const CLIENT: &str = "spiffe://cluster.local/ns/demo/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/demo/sa/server";

/// A tunnel that is being dialled, with a stream in it.
fn dialled(thread: &Rc<Thread>) -> Dialled {
    let pool = Pool::new(thread, &info(CLIENT, "pod"), &Rc::default());
    let root = Authority::new("root");
    let identities = expected(&[SERVER]);
    let handshake = Handshake::client(&root.credentials(CLIENT, &root, usual), &identities).unwrap();
    let dial = SocketAddr::from(([192, 0, 2, 1], 15008));
    let tunnel = Tunnel::client(thread, &pool.pod, dial, handshake);
    let key = Key { destination: "uid".into(), dial, identities };
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
