//! The third tour: a connection from outside of the mesh, from a gateway's listener to where routes lead.
use super::caller::Caller;
use super::connector::Source;
use super::tls::TlsDuplex;
use super::{governed, outbound, proxy_protocol, requests, Proxy};
use crate::base::{canonical, Failure, OriginalDst, Refusal};
use crate::decision::{self, Hello, Outbound, Way};
use crate::http::{self, ClientPod, Downstream, Edge};
use crate::mesh::Workload;
use crate::node::Pod;
use crate::policy::{Admission, Attempt, Door};
use crate::relay::{Live, TcpDuplex};
use crate::routes::{Listener, Scope, ServerKind};
use crate::sys::sockets::reset_on_close;
use crate::telemetry::{ConnectionRecord, Direction, Parties};
use crate::tls::client_hello::server_name;
use rustls::ServerConfig;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

/// Seconds for a ClientHello, and for the handshake after it.
const TLS_TIMEOUT: u64 = 10;

/// Seconds for a PROXY protocol's header.
const HEAD_TIMEOUT: u64 = 10;

/// A client of a gateway.
struct Client {
    proxy: Rc<Proxy>,
    pod: Rc<Pod>,
    /// That the gateway's pod is.
    workload: Arc<Workload>,
    address: SocketAddr,
    /// With the port as rules name it.
    wanted: SocketAddr,
    listener: Arc<Listener>,
    edge: Edge,
    /// What DNS has for the server that the client names, where that matters.
    addresses: Arc<[IpAddr]>,
}

/// A connection to a port of the gateway's pod, until its end.
pub async fn serve(proxy: Rc<Proxy>, pod: Rc<Pod>, sock: TcpStream, address: SocketAddr, bind: u16) {
    let peer = canonical(address);
    let local = sock.local_addr().map_or(peer, canonical);
    let listeners = proxy.shared.mesh.load().listeners().cloned();
    let found = listeners.and_then(|all| Some((all.bound_to(bind)?.clone(), all.trusted_proxies)));
    let expects_head = found.as_ref().is_some_and(|(listener, _)| listener.proxy_protocol);
    let head = match expects_head {
        true => proxy.thread.clock.timeout(HEAD_TIMEOUT, proxy_protocol::read(&sock)).await.unwrap_or_default(),
        false => Some(None),
    };
    let address = head.flatten().unwrap_or(peer);
    let record = proxy.accept(&pod, Direction::Outbound, address, local);
    if head.is_none() {
        return refuse(&sock, &record, Refusal::NoProxyHead);
    }
    let Some((listener, trusted_proxies)) = found else { return refuse(&sock, &record, Refusal::NoRoute) };
    let Some(workload) = proxy.workload(&pod).await else { return refuse(&sock, &record, Refusal::UnknownWorkload) };
    record.describe(Parties::to_target(&workload, None, None));
    if pod.budget.is_short() {
        return refuse(&sock, &record, Refusal::OutOfMemory);
    }
    let sni = match listener.needs_sni() {
        true => proxy.thread.clock.timeout(TLS_TIMEOUT, server_name(&sock)).await.unwrap_or_default(),
        false => None,
    };
    let Some(server) = listener.server(sni.as_deref()).cloned() else {
        return refuse(&sock, &record, Refusal::NoRoute);
    };
    let addresses = match &server.kind {
        ServerKind::Connections(scope) => outbound::look_up(&proxy, scope, sni.as_deref()).await,
        ServerKind::Http(_) => Arc::default(),
    };
    let (tls, sni) = (server.tls.is_some(), sni.map(Arc::from));
    let edge = Edge { tls, sni, trusted_proxies, peer: peer.ip(), local };
    let wanted = SocketAddr::new(local.ip(), listener.port);
    let client = Client { proxy, pod, workload, address, wanted, listener, edge, addresses };
    match (&server.kind, &server.tls) {
        (ServerKind::Connections(scope), None) => client.pass_through(scope, sock, record).await,
        (ServerKind::Connections(scope), Some(tls)) => {
            let by = match client.admit(scope, &record).await {
                Ok(by) => by,
                Err(Failure { refusal, detail }) => return refuse_as(&sock, &record, refusal, &detail),
            };
            if let Some((app, live)) = client.terminate(tls, TcpDuplex::accepted(sock, record)).await {
                let _listed = client.pod.list_admitted(live.clone(), by, &client.proxy.shared.mesh);
                client.connect(scope, app, &*live).await;
            }
        }
        (ServerKind::Http(_), None) => {
            client.wait_for_policies().await;
            let app = TcpDuplex::accepted(sock, record);
            let live = app.live();
            client.requests(app, live).await;
        }
        (ServerKind::Http(_), Some(tls)) => {
            client.wait_for_policies().await;
            if let Some((app, live)) = client.terminate(tls, TcpDuplex::accepted(sock, record)).await {
                client.requests(app, live).await;
            }
        }
    }
}

fn refuse(sock: &TcpStream, record: &ConnectionRecord, refusal: Refusal) {
    refuse_as(sock, record, refusal, "");
}

fn refuse_as(sock: &TcpStream, record: &ConnectionRecord, refusal: Refusal, detail: &str) {
    reset_on_close(sock);
    record.fail(refusal, detail);
}

impl Client {
    fn source<'a>(&'a self, by: Option<&'a Admission>) -> Source<'a> {
        let own = self.workload.addresses.first().copied().unwrap_or(self.wanted.ip());
        let client = SocketAddr::new(own, self.address.port());
        Source { pod: &self.pod, workload: &self.workload, client, span: None, by }
    }

    fn attempt(&self, door: Option<Door>) -> Attempt {
        let Edge { peer, local, .. } = self.edge;
        Attempt { peer: None, source: peer, destination: local, door: door.map(Arc::new) }
    }

    /// Lets a connection in of which the requests are not seen.
    async fn admit(&self, scope: &Scope, record: &ConnectionRecord) -> Result<Admission, Failure> {
        let door = Door { policies: scope.policies.clone(), opaque: true };
        self.proxy.admit(&self.pod, self.attempt(Some(door)), record).await
    }

    /// Each request is judged for itself; until policies are there the first one is not read.
    async fn wait_for_policies(&self) {
        self.proxy.judge(&self.pod, &self.attempt(None)).await;
    }

    /// The plain text in a client's TLS; None: the handshake failed, which the client has been told.
    async fn terminate(&self, tls: &Arc<ServerConfig>, app: TcpDuplex) -> Option<(TlsDuplex<TcpDuplex>, Rc<dyn Live>)> {
        let live = app.live();
        let shaken = TlsDuplex::accept(tls.clone(), app);
        let failed = match self.proxy.thread.clock.timeout(TLS_TIMEOUT, shaken).await {
            Ok(Ok(app)) => return Some((app, live)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no handshake within {TLS_TIMEOUT} s"),
        };
        if let Some(record) = live.record() {
            record.fail(Refusal::TlsFailure, &failed);
        }
        None
    }

    async fn requests(&self, app: impl http::Io, live: Rc<dyn Live>) {
        let unnamed = self.listener.scope(self.edge.sni.as_deref(), "");
        let Some(scope) = unnamed.cloned() else { return };
        let downstream = Downstream {
            pod: Arc::new(ClientPod {
                namespace: self.workload.identity.namespace.as_ref().into(),
                labels: self.workload.labels.clone(),
            }),
            service: Arc::default(),
            port: self.wanted.port(),
            source: self.address,
            original: self.wanted,
            edge: Some(self.edge.clone()),
        };
        requests::session(&self.proxy, &self.pod, downstream, scope, (app, live), None).await;
    }

    fn decide(&self, scope: &Scope) -> Outbound {
        let hello = Hello { sni: self.edge.sni.as_deref(), addresses: &self.addresses };
        let mesh = self.proxy.shared.mesh.load();
        let (wanted, rng) = (OriginalDst::new(self.wanted), &mut self.proxy.rng.borrow_mut());
        decision::by_rules(scope, &mesh, &self.workload, wanted, hello, rng).unwrap_or_else(Outbound::Refuse)
    }

    /// Bytes as they are.
    async fn pass_through(self, scope: &Scope, sock: TcpStream, record: ConnectionRecord) {
        let by = match self.admit(scope, &record).await {
            Ok(by) => by,
            Err(Failure { refusal, detail }) => return refuse_as(&sock, &record, refusal, &detail),
        };
        let (caller, wanted) = (Caller::Connected(sock, self.address), OriginalDst::new(self.wanted));
        let decide = || self.decide(scope);
        outbound::go(&self.proxy, self.source(Some(&by)), wanted, caller, decide(), &decide, record).await;
    }

    /// Bytes that came within TLS.
    async fn connect(&self, scope: &Scope, mut app: TlsDuplex<TcpDuplex>, live: &dyn Live) {
        let source = self.source(None); // what came within TLS is listed already
        let upstream = match self.decide(scope) {
            Outbound::Hbone(route) => self.proxy.reach(&source, Way::Hbone(route)).await,
            Outbound::Plain(plain) => self.proxy.reach(&source, Way::Plain(plain)).await,
            Outbound::Governed(governed) => governed::dial(&self.proxy, &source, self.wanted, &governed).await,
            Outbound::Refuse(refusal) => Err(Failure { refusal, detail: String::new() }),
            _ => Err(Failure { refusal: Refusal::NoRoute, detail: String::new() }), // rules give none
        };
        match upstream {
            // What breaks on one side ends on the other: both are reset when they are dropped.
            Ok(mut upstream) => drop(copy_bidirectional(&mut app, &mut upstream).await),
            Err(Failure { refusal, detail }) => live.cancel(refusal, &detail),
        }
    }
}
