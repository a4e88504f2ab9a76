//! Endpoints as L7 connects to them: those of `proxy/testing.rs`.
use super::*;
use crate::config::proto::Action;
use crate::proxy::testing::{application, carries, meshed, policy, Node};
use crate::sys::budget::{Share, POD};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

impl Node {
    async fn connect(&self, name: &str, to: SocketAddr) -> Result<Upstream, Failure> {
        let mesh = self.proxy.shared.mesh.load_full();
        let source = Source {
            pod: &self.client,
            workload: &mesh.pod("client"),
            client: SocketAddr::from(([127, 0, 0, 7], 0)),
            span: None,
            by: None,
        };
        let target = Target { workload: mesh.pod(name), ip: to.ip(), port: to.port(), behind: None, service: None };
        self.proxy.connect(&source, &target).await
    }
}

async fn broken(upstream: &mut Upstream) -> Refusal {
    let error = upstream.read(&mut [0]).await.unwrap_err();
    error.get_ref().and_then(|error| error.downcast_ref::<Failure>()).unwrap().refusal
}

#[test]
fn a_pod_of_this_node_is_reached_as_its_policies_allow_and_sees_the_clients_address() {
    Node::run(policy(Action::Allow, "client"), async |node| {
        let (listener, address) = application("127.0.0.8").await;
        let mut upstream = node.connect("server", address).await.unwrap();
        let (mut app, client) = listener.accept().await.unwrap();
        assert_eq!(client.ip().to_string(), "127.0.0.7");
        carries(&mut upstream, &mut app).await;
        let record = node.server.live()[0].record().unwrap().to_json();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!((&record["direction"], &record["bytes_sent"]), (&"inbound".into(), &4.into()), "{record}");
        upstream.shutdown().await.unwrap();
        assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
        drop(upstream);
        assert!(node.server.live().is_empty());
    });
}

#[test]
fn a_pod_of_this_node_lets_nobody_in_whom_its_policies_do_not_allow() {
    for (denying, refusal) in [
        (policy(Action::Deny, "client"), Refusal::PolicyDenied),
        (policy(Action::Allow, "another"), Refusal::PolicyNotAllowed),
    ] {
        Node::run(denying, async |node| {
            let (listener, address) = application("127.0.0.8").await;
            assert_eq!(node.connect("server", address).await.err().unwrap().refusal, refusal);
            let accepted = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_ready()));
            assert!(!accepted.await, "the application must not even see it");
        });
    }
}

#[test]
fn a_change_of_policy_ends_what_it_does_not_allow() {
    Node::run(policy(Action::Allow, "client"), async |node| {
        let (listener, address) = application("127.0.0.8").await;
        let mut upstream = node.connect("server", address).await.unwrap();
        let (mut app, _) = listener.accept().await.unwrap();
        carries(&mut upstream, &mut app).await;
        node.proxy.shared.mesh.store(Arc::new(meshed(policy(Action::Allow, "another"))));
        node.proxy.change();
        assert_eq!(broken(&mut upstream).await, Refusal::PolicyChanged);
        drop(upstream);
        assert_eq!(app.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_application_that_does_not_listen_is_named() {
    Node::run(policy(Action::Allow, "client"), async |node| {
        let (listener, address) = application("127.0.0.8").await;
        drop(listener);
        let failure = node.connect("server", address).await.err().unwrap();
        assert_eq!(failure.refusal, Refusal::ConnectFailed);
        assert!(failure.detail.contains(&address.to_string()), "{failure}");
    });
}

#[test]
fn a_pod_for_which_much_waits_already_is_given_nothing_new() {
    Node::run(policy(Action::Allow, "client"), async |node| {
        let (_listener, address) = application("127.0.0.8").await;
        let waiting = Share::of(&node.server.budget);
        waiting.hold_anyway(POD);
        assert_eq!(node.connect("server", address).await.err().unwrap().refusal, Refusal::OutOfMemory);
        drop(waiting);
        assert!(node.connect("server", address).await.is_ok());
    });
}

#[test]
fn an_address_that_is_not_the_pods_is_refused() {
    Node::run(policy(Action::Allow, "client"), async |node| {
        let (_listener, address) = application("127.0.0.10").await;
        assert_eq!(node.connect("server", address).await.err().unwrap().refusal, Refusal::AddressMismatch);
    });
}

#[test]
fn a_destination_without_a_tunnel_is_dialled_and_ends_with_its_pod() {
    Node::run(policy(Action::Allow, "client"), async |node| {
        let (listener, address) = application("127.0.0.9").await;
        let mut upstream = node.connect("outside", address).await.unwrap();
        let (mut app, _) = listener.accept().await.unwrap();
        carries(&mut upstream, &mut app).await;
        node.client.close(Refusal::WorkloadGone);
        assert_eq!(broken(&mut upstream).await, Refusal::WorkloadGone);
        drop(upstream);
        assert_eq!(app.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn half_of_a_message_is_reset() {
    Node::run(policy(Action::Allow, "client"), async |node| {
        let (listener, address) = application("127.0.0.8").await;
        let mut upstream = node.connect("server", address).await.unwrap();
        let (mut app, _) = listener.accept().await.unwrap();
        carries(&mut upstream, &mut app).await;
        drop(upstream);
        assert_eq!(app.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}
