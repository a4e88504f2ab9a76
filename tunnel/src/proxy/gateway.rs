//! The third tour: a connection from outside of the mesh, from a gateway's listener to where routes lead.
use super::caller::Caller;
use super::connector::Source;
use super::inbound::{self, Asked};
use super::tls::TlsDuplex;
use super::upstream::Leads;
use super::{governed, outbound, proxy_protocol, requests, Proxy};
use crate::base::{canonical, Failure, OriginalDst, Refusal};
use crate::decision::{self, Hello, Outbound, Way};
use crate::h2::headers::Fields;
use crate::hbone::stream::{Stream, StreamDuplex};
use crate::http::{self, ClientPod, Downstream, Edge};
use crate::mesh::Workload;
use crate::node::{Listed, Pod};
use crate::policy::{Admission, Attempt, Door, Permits};
use crate::relay::{Duplex, Live, TcpDuplex};
use crate::routes::{Listener, Scope, Server, ServerKind};
use crate::sys::panics::OnPanic;
use crate::sys::sockets::reset_on_close;
use crate::telemetry::{ConnectionRecord, Direction, Parties};
use crate::tls::client_hello::{named, server_name};
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
    let addresses = addresses_of(&proxy, &server, sni.as_deref()).await;
    let sni = sni.map(Arc::from);
    let edge = Edge { identity: None, tls: server.tls.is_some(), sni, trusted_proxies, peer: peer.ip(), local };
    let wanted = SocketAddr::new(local.ip(), listener.port);
    let client = Client { proxy, pod, workload, address, wanted, listener, edge, addresses };
    if let (ServerKind::Connections(scope), None) = (&server.kind, &server.tls) {
        return client.pass_through(scope, sock, record).await;
    }
    let app = TcpDuplex::accepted(sock, record);
    let live = app.live();
    client.serve(&server, app, live).await;
}

/// A stream that somebody in the mesh asks a gateway for, from its request to its end: to one of its ports, with the
/// client's identity.
pub async fn serve_stream(proxy: Rc<Proxy>, pod: Rc<Pod>, stream: Rc<Stream>, fields: Fields) {
    let tunnel = stream.tunnel().clone();
    let task = tunnel.task();
    let _guard = OnPanic(|| stream.break_down());
    let authority = fields.authority.as_deref().unwrap_or_default();
    let record = proxy.accept(&pod, Direction::Outbound, tunnel.remote, tunnel.local());
    let asked = inbound::asked(&proxy, &pod, &tunnel, (&fields, authority), &record);
    let found = match stream.unless_broken(asked).await {
        Ok(asked) => listener_of(&proxy, asked.inbound.target.port()).map(|listener| (asked, listener)),
        Err(failure) => Err(failure),
    };
    let (Asked { peer, local, inbound }, listener) = match found {
        Ok(found) => found,
        Err(Failure { refusal, detail }) => {
            stream.refuse(refusal);
            return record.fail(refusal, &detail);
        }
    };
    record.describe(Parties::to_target(&local, None, None));
    stream.accept(&pod.baggage(&local));
    task.is_answered();
    let (app, live) = StreamDuplex::accepted(stream.clone(), record);
    let sni = match listener.needs_sni() {
        true => proxy.thread.clock.timeout(TLS_TIMEOUT, app.peek(named)).await.ok().flatten().flatten(),
        false => None,
    };
    let address = SocketAddr::new(tunnel.remote.ip(), inbound.client_port);
    let wanted = SocketAddr::new(inbound.target.ip(), listener.port);
    match listener.server(sni.as_deref()).cloned() {
        None => live.cancel(Refusal::NoRoute, ""),
        Some(server) => {
            let addresses = addresses_of(&proxy, &server, sni.as_deref()).await;
            let (tls, sni, peer_ip) = (server.tls.is_some(), sni.map(Arc::from), tunnel.remote.ip());
            // Proxies that are trusted stand before the listener's own port.
            let edge =
                Edge { identity: Some(peer), tls, sni, trusted_proxies: 0, peer: peer_ip, local: inbound.target };
            let client = Client { proxy, pod, workload: local, address, wanted, listener, edge, addresses };
            Box::pin(client.serve(&server, app, live.clone())).await;
        }
    }
    live.finish();
}

/// Of the name that a client of TLS calls, where that has to be looked up.
async fn addresses_of(proxy: &Rc<Proxy>, server: &Server, sni: Option<&str>) -> Arc<[IpAddr]> {
    match &server.kind {
        ServerKind::Connections(scope) => outbound::look_up(proxy, scope, sni).await,
        ServerKind::Http(_) => Arc::default(),
    }
}

fn listener_of(proxy: &Proxy, bind: u16) -> Result<Arc<Listener>, Failure> {
    let listeners = proxy.shared.mesh.load().listeners().cloned();
    let found = listeners.and_then(|all| all.bound_to(bind).cloned());
    found.ok_or_else(|| Failure { refusal: Refusal::NoRoute, detail: format!("no Gateway listens on port {bind}") })
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
        let Edge { identity, peer, local, .. } = &self.edge;
        Attempt { peer: identity.clone(), source: *peer, destination: *local, door: door.map(Arc::new) }
    }

    /// Lets a connection in of which the requests are not seen.
    async fn admit(&self, scope: &Scope, record: &ConnectionRecord) -> Result<Admission, Failure> {
        let door = Door { policies: scope.policies.clone(), opaque: true };
        self.proxy.admit(&self.pod, self.attempt(Some(door)), record).await
    }

    /// Lets a connection in, as long as the result lives. Of requests each is judged for itself: until policies are there
    /// the first one is not read.
    async fn let_in(&self, kind: &ServerKind, live: &Rc<dyn Live>) -> Result<(Option<Listed>, Permits), Failure> {
        match (kind, live.record()) {
            (ServerKind::Connections(scope), Some(record)) => {
                let by = self.admit(scope, record).await?;
                let listed = self.pod.list_admitted(live.clone(), by, &self.proxy.shared.mesh);
                Ok((Some(listed), Permits::default()))
            }
            _ => {
                let attempt = self.attempt(None);
                let judged = self.proxy.judge(&self.pod, &attempt).await;
                let permits = judged.map(|(_, guard)| self.proxy.count(&guard, &attempt)).transpose()?;
                Ok((None, permits.unwrap_or_default()))
            }
        }
    }

    /// Serves what is read and written, as its server says.
    async fn serve(&self, server: &Server, app: impl Duplex + Leads + 'static, live: Rc<dyn Live>) {
        let _held = match self.let_in(&server.kind, &live).await {
            Ok(held) => held,
            Err(Failure { refusal, detail }) => return live.cancel(refusal, &detail),
        };
        match &server.tls {
            None => self.lead(&server.kind, app, live).await,
            Some(tls) => match self.terminate(tls, app).await {
                Ok(app) => self.lead(&server.kind, app, live).await,
                Err(why) => live.cancel(Refusal::TlsFailure, &why),
            },
        }
    }

    async fn lead(&self, kind: &ServerKind, app: impl Duplex + Leads + 'static, live: Rc<dyn Live>) {
        match kind {
            ServerKind::Http(_) => self.requests(app, live).await,
            ServerKind::Connections(scope) => self.connect(scope, app, &*live).await,
        }
    }

    /// The plain text in a client's TLS. Errors: why the handshake failed, which the client has been told.
    async fn terminate<D: Duplex>(&self, tls: &Arc<ServerConfig>, app: D) -> Result<TlsDuplex<D>, String> {
        let shaken = self.proxy.thread.clock.timeout(TLS_TIMEOUT, TlsDuplex::accept(tls.clone(), app)).await;
        shaken.map_err(|_| format!("no handshake within {TLS_TIMEOUT} s"))?.map_err(|error| error.to_string())
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
        let going = outbound::go(&self.proxy, self.source(Some(&by)), wanted, caller, decide(), &decide, record);
        if let Some(joined) = Box::pin(going).await {
            joined.carry().await;
        }
    }

    /// Bytes that came within TLS or a tunnel.
    async fn connect(&self, scope: &Scope, mut app: impl Duplex, live: &dyn Live) {
        let source = self.source(None); // it is listed already
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

#[cfg(test)]
mod tests;
