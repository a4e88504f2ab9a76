//! A node for tests of what its pods' connections meet: its pods `client` (127.0.0.7) and `server` (127.0.0.8) share the
//! test's own network namespace, `outside` (127.0.0.9) is no pod of it. To each all may come whom `policy` lets in.
use super::Proxy;
use crate::config::proto::{self, Action};
use crate::config::unknown_keys::UnknownKeys;
use crate::config::Resource;
use crate::h2::headers::Fields;
use crate::hbone::stream::Stream;
use crate::hbone::tunnel::testing::{serving, until, Ours, Peer};
use crate::mesh::testing::{mesh, pod, resource};
use crate::mesh::{self, Mesh};
use crate::node::{Context, Lookups, Pod, Shared};
use crate::relay::thread::testing;
use crate::relay::Thread;
use crate::sys::budget::Budget;
use crate::sys::listeners::Listeners;
use crate::sys::pod_info::testing::info_in;
use crate::telemetry::{Options, Telemetry};
use crate::tls::revocation::Revocation;
use arc_swap::ArcSwap;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

pub struct Node {
    pub proxy: Rc<Proxy>,
    pub client: Rc<Pod>,
    pub server: Rc<Pod>,
}

/// A policy of all pods: about connections of this service account.
pub fn policy(action: Action, service_account: &str) -> Resource {
    let account = proto::ServiceAccountMatch { namespace: "default".into(), service_account: service_account.into() };
    mesh::testing::policy(action, proto::Match { service_accounts: vec![account], ..Default::default() })
}

pub fn meshed(policy: Resource) -> Mesh {
    let outside = pod("outside", &["127.0.0.9"]).plain();
    let pods = [pod("client", &["127.0.0.7"]), pod("server", &["127.0.0.8"]), outside];
    let (mut mesh, _) = mesh(pods.map(resource)).apply(proto::AUTHORIZATION, [policy], &[]);
    mesh.know_all_policies();
    mesh
}

impl Node {
    pub fn run(policy: Resource, test: impl AsyncFnOnce(Node)) {
        Node::run_in(meshed(policy), test);
    }

    pub fn run_in(mesh: Mesh, test: impl AsyncFnOnce(Node)) {
        testing::run(async |thread| test(Node::new(&thread, mesh)).await);
    }

    fn new(thread: &Rc<Thread>, mesh: Mesh) -> Node {
        let options = Options { access_log: "off".parse().unwrap() };
        let shared = Shared {
            listeners: Listeners::new(false),
            mesh: ArcSwap::from_pointee(mesh),
            credentials: ArcSwap::default(),
            revocation: Revocation::new(false),
            limits: Default::default(),
            lookups: Lookups::new().unwrap(),
            subscriptions: None,
            unknown_keys: UnknownKeys::new().unwrap(),
            telemetry: Telemetry::with_output(options, io::sink()).unwrap(),
            budget: Budget::process(),
        };
        let context = Context::new(Arc::new(shared), thread.clone());
        let [client, server] = ["client", "server"].map(|name| {
            let identity = format!("spiffe://cluster.local/ns/default/sa/{name}");
            let pod = Pod::new(info_in("/proc/self/ns/net", &identity, name), thread);
            context.pods.insert(pod.clone());
            pod
        });
        Node { proxy: Proxy::new(context, None, None, None, crate::http::Settings::default()), client, server }
    }

    /// What a peer asks for in a tunnel to 127.0.0.1, which nobody serves yet: stream 1.
    pub async fn asked(&self, authority: &str) -> (Rc<Stream>, Fields, Peer) {
        let asked = Rc::<RefCell<Option<_>>>::default();
        let slot = asked.clone();
        let accept = move |stream, fields| *slot.borrow_mut() = Some((stream, fields));
        let (_, mut peer) = serving(&self.proxy.thread, Ours::Server, accept).await;
        peer.greet(&[]).await;
        peer.ask(1, authority).await;
        until(|| asked.borrow().is_some()).await;
        let (stream, fields) = asked.take().unwrap();
        (stream, fields, peer)
    }
}

/// An application that listens there.
pub async fn application(ip: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Bytes go both ways.
pub async fn carries(
    near: &mut (impl AsyncRead + AsyncWrite + Unpin),
    far: &mut (impl AsyncRead + AsyncWrite + Unpin),
) {
    let mut bytes = [0; 4];
    near.write_all(b"ping").await.unwrap();
    far.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
    far.write_all(b"pong").await.unwrap();
    near.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"pong");
}
