//! What comes for the pod `server` of `proxy/testing.rs` as a gateway that listens on port 8080.
use super::*;
use crate::config::proto::Action;
use crate::h2::frame::{Code, Event};
use crate::mesh::testing::sent;
use crate::mesh::Mesh;
use crate::proxy::testing::{meshed, policy, Node};
use crate::routes::proto::{self, GATEWAY_LISTENERS};
use crate::sys::budget::{Share, POD};
use crate::sys::panics::testing::unwind;
use crate::sys::testing::waits;
use std::pin::pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::spawn_local;

const BIND: u16 = 8080;

/// It has no route.
fn gateway() -> Mesh {
    let server = proto::Server {
        name: "Gateway default/g".into(),
        kind: Some(proto::ServerKind::Http(proto::VirtualHosts::default())),
        ..Default::default()
    };
    let listener = proto::Listener { port: 80, bind: BIND.into(), servers: vec![server], ..Default::default() };
    let listeners = proto::GatewayListeners {
        namespace: "default".into(),
        pod: "server".into(),
        listeners: vec![listener],
        ..Default::default()
    };
    let listeners = sent(GATEWAY_LISTENERS, "default/server", &listeners);
    let (mesh, rejected) = meshed(policy(Action::Deny, "another")).apply(GATEWAY_LISTENERS, [listeners], &[]);
    assert_eq!(rejected, []);
    mesh
}

#[test]
fn a_stream_whose_task_panics_is_reset() {
    Node::run_in(gateway(), async |node| {
        let (stream, fields, mut peer) = node.asked("127.0.0.1:8080").await;
        node.proxy.thread.turns.use_up(stream.tunnel().pod.number());
        let mut serving = Box::pin(serve_stream(node.proxy.clone(), node.server.clone(), stream, fields));
        assert!(waits(serving.as_mut()));
        unwind(serving);
        assert!(peer.rest().await.contains(&Event::Reset(1, Code::INTERNAL_ERROR)));
    });
}

/// Thousands may come in the same moment, and be reset at once.
#[test]
fn a_stream_that_is_asked_for_takes_a_turn() {
    Node::run_in(gateway(), async |node| {
        let (stream, fields, _peer) = node.asked("nowhere").await;
        node.proxy.thread.turns.use_up(stream.tunnel().pod.number());
        let mut serving = pin!(serve_stream(node.proxy.clone(), node.server.clone(), stream, fields));
        assert!(waits(serving.as_mut()));
        serving.await;
    });
}

#[test]
fn a_gateway_for_which_much_waits_already_serves_nobody_new() {
    Node::run_in(gateway(), async |node| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (waits, answer) in [(POD, None), (0, Some("HTTP/1.1 404"))] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (sock, from) = listener.accept().await.unwrap();
            let waiting = Share::of(&node.server.budget);
            waiting.hold_anyway(waits);
            spawn_local(serve(node.proxy.clone(), node.server.clone(), sock, from, BIND));
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut head = [0; "HTTP/1.1 404".len()];
            let read = client.read_exact(&mut head).await;
            let read = read.map(|_| std::str::from_utf8(&head).unwrap());
            assert_eq!(read.as_ref().ok().copied(), answer, "{read:?}");
        }
    });
}
