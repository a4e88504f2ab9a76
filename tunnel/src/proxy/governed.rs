//! Connections to a destination whose policy says how: which endpoint, how many, for how long, with what around them.
use super::caller::Caller;
use super::connector::Source;
use super::layers::{self, Call};
use super::reached::{join, reach, Lost, Reached};
use super::requests::{self, Requests};
use super::upstream::Upstream;
use super::Proxy;
use crate::base::{Failure, OriginalDst, Refusal};
use crate::decision::{Governed, Target, Way};
use crate::http::{hash, Active, Choice, Downstream, Host, Node, Outcome, Router};
use crate::node::Permit;
use crate::relay::Live;
use crate::routes::{Balancing, ConnectionPool, Destination, HashKey};
use crate::sys::sockets;
use crate::telemetry::{ConnectionRecord, Parties, Path};
use http::StatusCode;
use std::cell::OnceCell;
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Endpoints that are tried for a connection; Istio's max_connect_attempts.
const ATTEMPTS: usize = 10;
/// Looks at an idle connection within its time.
const LOOKS: u32 = 8;

/// What a connection has taken up, until it is dropped.
type Held = (Option<Permit>, Active<Upstream>);

pub async fn serve(
    proxy: &Rc<Proxy>,
    source: Source<'_>,
    wanted: OriginalDst,
    mut caller: Caller,
    governed: Governed,
    record: ConnectionRecord,
) {
    let pod = source.pod;
    let mut looking = Looking::new(proxy, &source, &governed, wanted);
    let found = looking.find(Some(&mut caller)).await;
    let target = looking.last.take();
    let service = target.as_ref().and_then(|target| target.service.as_ref()).unwrap_or(&governed.service);
    let path = target.as_ref().map_or(Path::Unknown, |target| match target.way() {
        Way::Hbone(_) => Path::Tunnel,
        Way::Plain(_) => Path::Plain,
    });
    record.describe(Parties { path, ..Parties::to_target(source.workload, target.as_ref(), Some(service)) });
    match found {
        Ok((reached, _held)) => {
            let live = OnceCell::new();
            let list =
                |connection: Rc<dyn Live>| source.list(live.get_or_init(|| connection).clone(), &proxy.shared.mesh);
            let carried = async {
                if let Some(joined) = join(proxy, pod, caller, reached, record, list).await {
                    joined.carry().await;
                }
            };
            tokio::select! {
                () = carried => {}
                () = end_in_time(&governed.destination.policy.pool, &live) => {}
            }
        }
        Err(Lost { why, as_seen, .. }) => caller.refuse(proxy, pod, &record, &why, as_seen),
    }
}

/// A connection for whoever reads and writes it.
pub async fn dial(
    proxy: &Rc<Proxy>,
    source: &Source<'_>,
    wanted: SocketAddr,
    governed: &Governed,
) -> Result<Upstream, Failure> {
    let mut looking = Looking::new(proxy, source, governed, OriginalDst::new(wanted));
    match looking.find(None).await {
        Ok((Reached::Layered(upstream), held)) => Ok(upstream.holding(held)),
        Ok(_) => Err(Failure::internal()), // without a caller all is layered
        Err(lost) => Err(lost.why),
    }
}

/// While an endpoint is looked for.
struct Looking<'a> {
    proxy: &'a Rc<Proxy>,
    source: &'a Source<'a>,
    destination: &'a Arc<Destination>,
    name: &'a str,
    router: Rc<Router<Requests>>,
    downstream: Downstream,
    /// That was tried last.
    last: Option<Target>,
}

impl<'a> Looking<'a> {
    fn new(proxy: &'a Rc<Proxy>, source: &'a Source<'a>, governed: &'a Governed, wanted: OriginalDst) -> Self {
        Looking {
            proxy,
            source,
            destination: &governed.destination,
            name: &governed.name,
            router: proxy.routers.of(proxy, source.pod),
            downstream: requests::downstream(source, &governed.service, wanted.port(), wanted),
            last: None,
        }
    }

    /// An endpoint that answers. One that is chosen by a hash is the only one.
    async fn find(&mut self, mut caller: Option<&mut Caller>) -> Result<(Reached, Held), Lost> {
        let refused = |refusal: Refusal| Lost::from(Failure { refusal, detail: self.destination.origin.to_string() });
        let policy = &self.destination.policy;
        let cluster = self.router.cluster(self.destination, &self.downstream, self.name);
        let cluster = cluster.ok_or_else(|| refused(Refusal::UnknownService))?;
        let permit = self.permit().map_err(refused)?;
        let hash = match policy.balancing {
            Balancing::Hash { key: HashKey::SourceIp, .. } => {
                Some(hash(self.downstream.source.ip().to_canonical().to_string().as_bytes()))
            }
            _ => None,
        };
        let (mut tried, mut lost) = (Vec::<Rc<Host<Upstream>>>::new(), refused(Refusal::NoEndpoint));
        while tried.len() < ATTEMPTS {
            let choice = Choice { hash, tried: &tried, other_priorities: !tried.is_empty() };
            let host = cluster.choose(&choice, &|limit| self.router.node.draw(limit));
            let fresh = |host: &Rc<Host<Upstream>>| !tried.iter().any(|tried| Rc::ptr_eq(tried, host));
            let Some(host) = host.filter(fresh) else { break };
            match self.connect(&host, caller.as_deref_mut()).await {
                Ok(reached) => {
                    cluster.note(&host, Outcome::Status(StatusCode::OK));
                    return Ok((reached, (permit, Active::new(&host))));
                }
                Err(failure) => lost = failure,
            }
            if lost.why.refusal.is_of_endpoint() {
                cluster.note(&host, Outcome::LocalOrigin);
            }
            if !lost.again {
                break;
            }
            tried.push(host);
        }
        Err(lost)
    }

    /// To be one of as many connections as the pod may have there; None: of any number.
    fn permit(&self) -> Result<Option<Permit>, Refusal> {
        let Destination { service, port, subset, policy, .. } = &**self.destination;
        let Some(limit) = policy.pool.max_connections else { return Ok(None) };
        let what = (self.source.pod.uid.clone(), service.clone(), *port, subset.clone());
        self.proxy.shared.limits.take(what, limit).map(Some).ok_or(Refusal::Overflow)
    }

    async fn connect(&mut self, host: &Host<Upstream>, caller: Option<&mut Caller>) -> Result<Reached, Lost> {
        let gone = Failure { refusal: Refusal::NoEndpoint, detail: host.endpoint.address.to_string() };
        let target = self.router.node.target(&host.endpoint.id, self.destination, host.endpoint.address).ok_or(gone)?;
        self.last = Some(target.clone());
        let policy = &self.destination.policy;
        layers::check(policy, &target)?;
        let late = || Failure { refusal: Refusal::ConnectTimeout, detail: host.endpoint.address.to_string() };
        let limit = policy.pool.connect_timeout.unwrap_or(requests::CONNECT_TIMEOUT);
        let hostname = self.destination.service.split_once('/').map_or("", |(_, hostname)| hostname);
        let called = self.downstream.original.ip().to_string();
        let server_name = match hostname.starts_with('*') {
            true if self.name.is_empty() => &called,
            true => self.name,
            false => hostname,
        };
        let call = Call { destination: self.destination, server_name, http2: false };
        let calling = timeout(limit, self.proxy.call(self.source, &target, &call));
        let called = match caller {
            Some(caller) if !policy.has_layers() => {
                let way = target.way();
                let reached = timeout(limit, reach(self.proxy, self.source, &way, caller)).await;
                let reached = reached.unwrap_or_else(|_| Err(late().into()))?;
                if let (Reached::Socket(sock), Some(alive)) = (&reached, policy.pool.keepalive) {
                    sockets::keep_alive_as(sock, alive.time, alive.interval, alive.probes);
                }
                return Ok(reached);
            }
            Some(caller) => caller.wait(&self.proxy.thread.clock, calling).await?,
            None => calling.await,
        };
        Ok(Reached::Layered(called.unwrap_or_else(|_| Err(late()))?))
    }
}

/// Ends a connection that is silent or open for as long as its policy allows; then whoever carries it sees that.
async fn end_in_time(pool: &ConnectionPool, connection: &OnceCell<Rc<dyn Live>>) {
    tokio::select! {
        () = idle(pool.tcp_idle_timeout, connection) => end(connection, Refusal::Idle),
        () = too_old(pool.max_connection_duration) => end(connection, Refusal::TooOld),
    }
    pending().await
}

fn end(connection: &OnceCell<Rc<dyn Live>>, why: Refusal) {
    if let Some(connection) = connection.get() {
        connection.cancel(why, "");
    }
}

async fn too_old(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => pending().await,
    }
}

/// Until not a byte has come or gone for so long, or up to an eighth longer.
async fn idle(limit: Option<Duration>, connection: &OnceCell<Rc<dyn Live>>) {
    let Some(limit) = limit else { return pending().await };
    let (mut seen, mut looks) = (0, 0);
    while looks < LOOKS {
        sleep(limit / LOOKS).await;
        let now = connection.get().and_then(|connection| connection.record().map(ConnectionRecord::carried));
        looks = if now == Some(seen) { looks + 1 } else { 0 };
        seen = now.unwrap_or_default();
    }
}
