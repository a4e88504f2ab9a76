//! Requests of a pod's applications, where the port that they call has routes: what L7 asks of the node on the pod's behalf.
use super::connector::Source;
use super::consulting::Consulting;
use super::judging::{self, gone, KnownGuard};
use super::layers::Call;
use super::upstream::Upstream;
use super::Proxy;
use crate::base::{Failure, OriginalDst, Refusal};
use crate::decision::{Routed, Target};
use crate::http::{
    self, ClientPod, ConnectError, Denied, Downstream, Drain, Edge, Endpoint, Endpoints, Node, Record, Session, Use,
};
use crate::mesh::{Chosen, Eligible, Mesh, Service, Workload};
use crate::node::Pod;
use crate::policy::Attempt;
use crate::relay::{Live, TcpDuplex};
use crate::routes::{Balancing, Client, Destination, Scope};
use crate::telemetry::{self, Direction, Observed, Parties};
use ::http::header::HeaderMap;
use ::http::uri::Authority;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Weak as ArcWeak};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// For a connection to an endpoint; Istio's `meshConfig.connectTimeout`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection of a pod to a service's port.
pub fn downstream(source: &Source<'_>, service: &Service, port: u16, wanted: OriginalDst) -> Downstream {
    let Source { workload, client, .. } = source;
    let namespace = workload.identity.namespace.as_ref().into();
    Downstream {
        pod: Arc::new(ClientPod { namespace, labels: workload.labels.clone() }),
        service: service.key.text().clone(),
        port,
        source: *client,
        original: wanted.address(),
        edge: None,
    }
}

/// Serves an application's connection to a port that has routes, until its end.
pub async fn serve(
    proxy: &Rc<Proxy>,
    source: Source<'_>,
    wanted: OriginalDst,
    app: TcpDuplex,
    Routed { service, port, scope }: Routed,
) {
    let downstream = downstream(&source, &service, port.port, wanted);
    let pod = source.pod;
    let host = service.key.hostname().parse().ok();
    let live = app.live();
    session(proxy, pod, downstream, scope, (app, live), host).await;
}

/// Serves a client's connection, which others end by its `Live`. scope: what holds as long as nothing else does.
pub async fn session(
    proxy: &Rc<Proxy>,
    pod: &Rc<Pod>,
    downstream: Downstream,
    scope: Arc<Scope>,
    (app, live): (impl http::Io, Rc<dyn Live>),
    default_host: Option<Authority>,
) {
    let drain = Drain::default();
    let _session = proxy.routers.list(pod, drain.clone());
    let session = Session::new(downstream, scope, drain);
    let _listed = pod.list(live);
    http::serve(app, proxy.routers.of(proxy, pod), session, default_host).await;
}

/// A pod's view of the mesh.
pub struct Requests {
    proxy: Weak<Proxy>,
    pod: Weak<Pod>,
    known: RefCell<HashMap<Arc<str>, Known>>,
    /// Of a gateway.
    guard: KnownGuard,
}

/// The endpoints of a destination, as one version of the mesh has them.
struct Known {
    mesh: ArcWeak<Mesh>,
    destination: Arc<Destination>,
    endpoints: Endpoints,
    /// By the endpoint's id.
    targets: HashMap<Arc<str>, Target>,
}

impl Requests {
    pub fn new(proxy: &Rc<Proxy>, pod: &Rc<Pod>) -> Requests {
        Requests {
            proxy: Rc::downgrade(proxy),
            pod: Rc::downgrade(pod),
            known: RefCell::default(),
            guard: KnownGuard::default(),
        }
    }

    /// Whether it is this very pod that asks, and not one before it by the same uid.
    pub fn is_of(&self, pod: &Pod) -> bool {
        std::ptr::eq(self.pod.as_ptr(), pod)
    }

    /// The destination's endpoints as they are now. None: there is no such service.
    fn look(
        &self,
        mesh: &Arc<Mesh>,
        destination: &Arc<Destination>,
        downstream: &Downstream,
        host: &str,
    ) -> Option<Endpoints> {
        match destination.policy.balancing {
            Balancing::Passthrough => {
                // Another one for each address that is called, and cheap to find.
                let eligible = mesh.eligible(&*self.source(mesh)?, destination, downstream.original).ok()?;
                return Some(Endpoints { all: eligible.iter().map(endpoint).collect(), http2: destination.http2 });
            }
            Balancing::DynamicDns => return self.look_up(mesh, destination, host),
            _ => {}
        }
        let mut all = self.known.borrow_mut();
        let known = all.get(&destination.name);
        let is_current = |known: &&Known| {
            std::ptr::eq(known.mesh.as_ptr(), Arc::as_ptr(mesh)) && Arc::ptr_eq(&known.destination, destination)
        };
        if let Some(known) = known.filter(is_current) {
            return Some(known.endpoints.clone());
        }
        let service = mesh.service(&destination.service)?;
        let source = self.source(mesh)?;
        let ip = source.addresses.first().copied().unwrap_or(downstream.original.ip());
        let called = SocketAddr::new(ip, downstream.port);
        let eligible = mesh.eligible(&source, destination, called).unwrap_or_default();
        let target =
            |(one, endpoint): (&Eligible<'_>, &Endpoint)| (endpoint.id.clone(), self::target(one, Some(service)));
        let mut found: Arc<[Endpoint]> = eligible.iter().map(endpoint).collect();
        if let Some(before) = known.filter(|known| known.endpoints.all == found) {
            found = before.endpoints.all.clone(); // the same as long as nothing has changed
        }
        let endpoints = Endpoints { all: found, http2: destination.http2 };
        let known = Known {
            mesh: Arc::downgrade(mesh),
            destination: destination.clone(),
            endpoints: endpoints.clone(),
            targets: eligible.iter().zip(&*endpoints.all).map(target).collect(),
        };
        all.insert(destination.name.clone(), known);
        Some(endpoints)
    }

    /// The addresses of a request's host. None: the host is not one of the service's.
    fn look_up(&self, mesh: &Arc<Mesh>, destination: &Destination, host: &str) -> Option<Endpoints> {
        let (proxy, name) = (self.proxy.upgrade()?, destination.name_of(host)?);
        let addresses = proxy.shared.lookups.addresses(&name, Instant::now()).unwrap_or_default();
        let eligible = mesh.resolved(&*self.source(mesh)?, destination, &addresses).unwrap_or_default();
        let endpoint = |one| {
            let endpoint = endpoint(one);
            Endpoint { id: endpoint.address.to_string().into(), ..endpoint }
        };
        Some(Endpoints { all: eligible.iter().map(endpoint).collect(), http2: destination.http2 })
    }

    /// The pod's own workload.
    fn source(&self, mesh: &Mesh) -> Option<Arc<Workload>> {
        mesh.local(&self.pod.upgrade()?.key).cloned()
    }

    /// Of an endpoint that `endpoints` has told of, for a connection to `called`.
    pub fn target(&self, endpoint: &str, destination: &Destination, called: SocketAddr) -> Option<Target> {
        if matches!(destination.policy.balancing, Balancing::Passthrough | Balancing::DynamicDns) {
            let mesh = self.proxy.upgrade()?.shared.mesh.load();
            let called = endpoint.parse().unwrap_or(called);
            let eligible = mesh.eligible(&*self.source(&mesh)?, destination, called).ok()?;
            return eligible.first().map(|one| target(one, mesh.service(&destination.service)));
        }
        let all = self.known.borrow();
        all.get(&destination.name)?.targets.get(endpoint).cloned()
    }
}

fn target(one: &Eligible<'_>, service: Option<&Arc<Service>>) -> Target {
    let Chosen { workload, ip, port, behind } = one.chosen;
    Target { workload: workload.clone(), ip, port, behind, service: service.cloned() }
}

fn endpoint(one: &Eligible<'_>) -> Endpoint {
    let workload = one.chosen.workload;
    let locality = &workload.locality;
    Endpoint {
        id: format!("{}:{}", workload.uid, one.chosen.port).into(),
        address: SocketAddr::new(one.chosen.ip, one.chosen.port),
        weight: one.weight,
        priority: one.priority,
        locality: format!("{}/{}/{}", locality.region, locality.zone, locality.subzone).into(),
    }
}

impl Node for Requests {
    type Io = Upstream;

    fn observe(&self, request: &mut http::Request) -> Observed {
        let seen = self.proxy.upgrade().zip(self.pod.upgrade());
        seen.map(|(proxy, pod)| proxy.observe(&pod, Direction::Outbound, request)).unwrap_or_default()
    }

    async fn admit(
        &self,
        downstream: &Downstream,
        remote: IpAddr,
        scope: &Scope,
        request: &mut http::Request,
    ) -> Result<HeaderMap, Denied> {
        let Some(Edge { identity, peer, local, .. }) = &downstream.edge else { return Ok(HeaderMap::new()) };
        let (proxy, pod) = self.proxy.upgrade().zip(self.pod.upgrade()).ok_or_else(gone)?;
        let guard = self.guard.of(&proxy, &pod, &scope.policies).ok_or_else(gone)?;
        let attempt = Attempt { peer: identity.clone(), source: *peer, destination: *local, door: None };
        let (guard, attempt, client) = (&*guard, &attempt, downstream.source);
        judging::admit(&Consulting { proxy: &proxy, pod: &pod, guard, attempt, client, remote }, request).await
    }

    fn scope(&self, downstream: &Downstream, host: &str) -> Option<Arc<Scope>> {
        let proxy = self.proxy.upgrade()?;
        let mesh = proxy.shared.mesh.load();
        if let Some(edge) = &downstream.edge {
            return mesh.listeners()?.of_port(downstream.port)?.scope(edge.sni.as_deref(), host).cloned();
        }
        let (source, service) = (self.source(&mesh)?, mesh.service(&downstream.service)?);
        let port = mesh.routes_for(&source, service, downstream.port).filter(|port| port.is_http())?;
        if service.waypoint().is_some() {
            return None; // it is the waypoint's to route
        }
        let client = Client { namespace: &downstream.pod.namespace, labels: &downstream.pod.labels };
        Some(port.scope_of(&client, host).clone())
    }

    fn endpoints(&self, destination: &Arc<Destination>, downstream: &Downstream, host: &str) -> Option<Endpoints> {
        self.look(&self.proxy.upgrade()?.shared.mesh.load(), destination, downstream, host)
    }

    async fn resolve(&self, destination: &Destination, host: &str) {
        if let Some((proxy, name)) = self.proxy.upgrade().zip(destination.name_of(host)) {
            proxy.look_up(&name).await;
        }
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        destination: &Destination,
        used: Use<'_>,
    ) -> Result<Upstream, ConnectError> {
        let gone = || ConnectError::Failed("the pod is gone".to_owned());
        let (proxy, pod) = self.proxy.upgrade().zip(self.pod.upgrade()).ok_or_else(gone)?;
        let workload = self.source(&proxy.shared.mesh.load()).ok_or_else(gone)?;
        let target = self
            .target(&endpoint.id, destination, endpoint.address)
            .ok_or_else(|| ConnectError::Failed("it is gone".to_owned()))?;
        let own = workload.addresses.iter().find(|ip| ip.is_ipv4() == target.ip.is_ipv4());
        let client = SocketAddr::new(own.copied().unwrap_or(target.ip), 0);
        let source = Source { pod: &pod, workload: &workload, client, span: None, by: None };
        let call = Call { destination, server_name: used.host, http2: used.http2 };
        let limit = destination.policy.pool.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        if destination.policy.tunnel.is_some() {
            return Err(ConnectError::Failed(Refusal::NotDone.to_string()));
        }
        let connected = timeout(limit, proxy.call(&source, &target, &call)).await.map_err(|_| ConnectError::Timeout)?;
        connected.map_err(|Failure { refusal, detail }| match refusal.is_of_handshake() {
            true if destination.policy.originate().is_some() => ConnectError::Tls(refusal.explain(&detail)),
            _ => ConnectError::Failed(refusal.explain(&detail)),
        })
    }

    fn queued(&self, waited: Duration) {
        if let Some(proxy) = self.proxy.upgrade() {
            proxy.thread.telemetry.queued(waited);
        }
    }

    fn draw(&self, limit: u64) -> u64 {
        let proxy = self.proxy.upgrade();
        proxy.and_then(|proxy| proxy.rng.borrow_mut().below(limit)).unwrap_or_default()
    }

    fn record(&self, downstream: &Downstream, record: &Record) {
        let Some(proxy) = self.proxy.upgrade() else { return };
        let mesh = proxy.shared.mesh.load();
        let Some(source) = self.source(&mesh) else { return };
        let target = record.destination.as_ref().zip(record.endpoint.as_ref());
        let target = target.and_then(|(destination, id)| self.target(id, destination, downstream.original));
        let service = record.destination.as_ref().map_or(&downstream.service, |destination| &destination.service);
        let parties = Parties::to_target(&source, target.as_ref(), mesh.service(service));
        let endpoint = target.map(|target| SocketAddr::new(target.ip, target.port));
        proxy.thread.telemetry.request(telemetry_request(
            record,
            parties,
            Direction::Outbound,
            (downstream.source, endpoint),
        ));
    }
}

/// A request that is over, as telemetry has it. `client`: who has sent it; `endpoint`: what has answered.
pub fn telemetry_request(
    record: &Record,
    parties: Parties,
    direction: Direction,
    (client, endpoint): (SocketAddr, Option<SocketAddr>),
) -> telemetry::Request<'_> {
    telemetry::Request {
        parties,
        direction,
        method: record.method.clone(),
        authority: record.authority.as_str().into(),
        path: record.path.as_str().into(),
        http2: record.http2,
        grpc: record.grpc,
        route: record.route.clone(),
        status: record.status,
        flags: record.flags,
        reason: record.reason.clone(),
        attempts: record.attempts,
        failure: record.failure.clone(),
        duration: record.duration,
        upstream: record.upstream,
        endpoint,
        client,
        observed: record.observed.clone(),
        sent: record.sent,
        received: record.received,
        grpc_status: record.grpc_status,
    }
}
