//! What comes for the pod `server` of `proxy/testing.rs`.
use super::*;
use crate::config::proto::Action;
use crate::config::Resource;
use crate::h2::frame::{Code, Event};
use crate::h2::headers::Kind;
use crate::proxy::testing::{application, carries, policy, Node};
use crate::sys::budget::{Share, POD};
use crate::sys::panics::testing::unwind;
use crate::sys::testing::waits;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::task::Poll;
use tokio::select;
use tokio::task::spawn_local;

/// One that lets in whoever asks here.
fn open() -> Resource {
    policy(Action::Deny, "another")
}

fn size<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_connection_takes_little_memory() {
    for size in [size(serve), size(serve_plain)] {
        assert!(size <= 4 << 10, "{size}");
    }
}

#[test]
fn a_stream_whose_task_panics_is_reset() {
    Node::run(open(), async |node| {
        let (stream, fields, mut peer) = node.asked("127.0.0.1:80").await;
        node.proxy.thread.turns.use_up(stream.tunnel().pod.number());
        let mut serving = Box::pin(serve(node.proxy.clone(), node.server.clone(), stream, fields));
        assert!(waits(serving.as_mut()));
        unwind(serving);
        assert!(peer.rest().await.contains(&Event::Reset(1, Code::INTERNAL_ERROR)));
    });
}

/// Thousands may come in the same moment, and be reset at once.
#[test]
fn a_stream_that_is_asked_for_takes_a_turn() {
    Node::run(open(), async |node| {
        let (stream, fields, mut peer) = node.asked("nowhere").await;
        node.proxy.thread.turns.use_up(stream.tunnel().pod.number());
        let mut serving = pin!(serve(node.proxy.clone(), node.server.clone(), stream, fields));
        assert!(waits(serving.as_mut()));
        serving.await;
        assert_eq!(peer.headers(1, Kind::Response).await.status, Some(400));
    });
}

#[test]
fn a_request_is_paid_for_until_it_is_answered() {
    Node::run(open(), async |node| {
        let (listener, address) = application("127.0.0.1").await;
        let (stream, fields, mut peer) = node.asked(&address.to_string()).await;
        let tunnel = stream.tunnel().clone();
        tunnel.thread.turns.use_up(tunnel.pod.number());
        let mut serving = Box::pin(serve(node.proxy.clone(), node.server.clone(), stream, fields));
        assert!(waits(serving.as_mut()));
        assert!(tunnel.budget.used() > 0);
        spawn_local(serving);
        assert_eq!(peer.headers(1, Kind::Response).await.status, Some(200));
        assert_eq!(tunnel.budget.used(), 0);
        listener.accept().await.unwrap();
    });
}

#[test]
fn a_request_that_is_reset_before_its_turn_reaches_nobody() {
    Node::run(open(), async |node| {
        let (listener, address) = application("127.0.0.1").await;
        let (stream, fields, mut peer) = node.asked(&address.to_string()).await;
        peer.reset(1, Code::CANCEL).await;
        peer.rest().await;
        serve(node.proxy.clone(), node.server.clone(), stream, fields).await;
        peer.rest().await;
        assert!(poll_fn(|cx| Poll::Ready(listener.poll_accept(cx).is_pending())).await);
    });
}

#[test]
fn a_pod_for_which_much_waits_already_gets_no_more_plain_connections() {
    Node::run(open(), async |node| {
        let (listener, address) = application("127.0.0.8").await;
        for waits in [POD, 0] {
            let mut client = TcpStream::connect(address).await.unwrap();
            let (sock, from) = listener.accept().await.unwrap();
            let waiting = Share::of(&node.server.budget);
            waiting.hold_anyway(waits);
            select! {
                () = serve_plain(node.proxy.clone(), node.server.clone(), sock, from) => assert!(waits > 0),
                () = async {
                    let (mut app, _) = listener.accept().await.unwrap();
                    assert_eq!(waits, 0, "it reaches the application");
                    carries(&mut client, &mut app).await;
                } => {}
            }
        }
    });
}
