//! Requests that arrive for a pod, on a connection whose requests policies judge, on their way to the application.
use super::consulting::Consulting;
use super::delivery::{deliver, Delivery};
use super::judging::{self, gone, KnownGuard};
use super::requests::telemetry_request;
use super::upstream::Upstream;
use super::Proxy;
use crate::base::Failure;
use crate::http::{
    self, ClientPod, ConnectError, Denied, Downstream, Drain, Endpoint, Endpoints, Io, Node, Peer, Record, Router,
    Session,
};
use crate::node::Pod;
use crate::policy::Attempt;
use crate::relay::TcpDuplex;
use crate::routes::{Destination, Labels, Scope};
use crate::telemetry::{self, Direction, Observed, Parties};
use ::http::header::HeaderMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock};

/// Whoever asks, all goes to the application; whoever connects knows where that is.
static TO_APPLICATION: LazyLock<Arc<Scope>> = LazyLock::new(|| Arc::new(Scope::forwarding(".", "application", 80)));

/// A connection that was let in, and where it leads.
pub struct Arrival {
    pub attempt: Attempt,
    pub delivery: Delivery,
    pub parties: Parties,
}

/// What serves its requests. Each connection of a client has connections of its own to the application, which sees the
/// client's address.
pub struct Serving {
    router: Rc<Router<Arriving>>,
    session: Rc<Session>,
    /// To whom requests are handed that do not come as bytes.
    pub peer: Peer,
}

impl Serving {
    pub fn new(proxy: &Rc<Proxy>, pod: &Rc<Pod>, arrival: Arrival) -> Serving {
        let Arrival { attempt, delivery, .. } = &arrival;
        let namespace = attempt.peer.as_ref().map(|peer| peer.namespace.as_ref().into()).unwrap_or_default();
        let service = arrival.parties.service.as_ref().map(|service| service.key.text().clone()).unwrap_or_default();
        let downstream = Downstream {
            pod: Arc::new(ClientPod { namespace, labels: Arc::new(Labels::default()) }),
            service,
            port: delivery.target.port(),
            source: delivery.client,
            original: delivery.target,
            edge: None,
        };
        let router = Router::new(Arriving::new(proxy, pod, arrival), proxy.routers.settings);
        let session = Rc::new(Session::new(downstream, TO_APPLICATION.clone(), Drain::default()));
        Serving { peer: Peer::new(&router, &session), router, session }
    }

    /// Until the connection's end, and that of what has been handed over.
    pub async fn run(self, proxy: &Rc<Proxy>, pod: &Rc<Pod>, io: impl Io) {
        let Serving { router, session, peer } = self;
        let host = session.downstream.original.to_string().parse().ok();
        let _session = proxy.routers.list(pod, session.drain.clone());
        http::serve(io, router, session, host).await;
        peer.settled().await;
    }
}

/// Serves its requests until its end, over `io`.
pub async fn serve(proxy: &Rc<Proxy>, pod: &Rc<Pod>, arrival: Arrival, io: impl Io) {
    Serving::new(proxy, pod, arrival).run(proxy, pod, io).await;
}

/// What L7 asks on behalf of one connection.
struct Arriving {
    proxy: Weak<Proxy>,
    pod: Weak<Pod>,
    arrival: Arrival,
    application: Endpoints,
    guard: KnownGuard,
}

impl Arriving {
    fn new(proxy: &Rc<Proxy>, pod: &Rc<Pod>, arrival: Arrival) -> Arriving {
        let address = arrival.delivery.target;
        let endpoint =
            Endpoint { id: address.to_string().into(), address, weight: 1, priority: 0, locality: Arc::default() };
        Arriving {
            proxy: Rc::downgrade(proxy),
            pod: Rc::downgrade(pod),
            arrival,
            application: Endpoints { all: Arc::new([endpoint]), http2: false },
            guard: KnownGuard::default(),
        }
    }
}

impl Node for Arriving {
    type Io = Upstream;

    fn observe(&self, request: &mut http::Request) -> Observed {
        let seen = self.proxy.upgrade().zip(self.pod.upgrade());
        seen.map(|(proxy, pod)| proxy.observe(&pod, Direction::Inbound, request)).unwrap_or_default()
    }

    /// By one version of the policies.
    async fn admit(
        &self,
        _: &Downstream,
        _: IpAddr,
        _: &Scope,
        request: &mut http::Request,
    ) -> Result<HeaderMap, Denied> {
        let (proxy, pod) = self.proxy.upgrade().zip(self.pod.upgrade()).ok_or_else(gone)?;
        let guard = self.guard.of(&proxy, &pod, &[]).ok_or_else(gone)?;
        let Arrival { attempt, delivery, .. } = &self.arrival;
        let (client, remote) = (delivery.client, attempt.source);
        judging::admit(&Consulting { proxy: &proxy, pod: &pod, guard: &guard, attempt, client, remote }, request).await
    }

    fn scope(&self, _: &Downstream, _: &str) -> Option<Arc<Scope>> {
        Some(TO_APPLICATION.clone())
    }

    fn endpoints(&self, _: &Arc<Destination>, _: &Downstream, _: &str) -> Option<Endpoints> {
        Some(self.application.clone())
    }

    async fn connect(&self, _: &Endpoint, _: &Destination, _: http::Use<'_>) -> Result<Upstream, ConnectError> {
        let no_pod = || ConnectError::Failed("the pod is gone".to_owned());
        let (proxy, pod) = self.proxy.upgrade().zip(self.pod.upgrade()).ok_or_else(no_pod)?;
        let app = deliver(&proxy.thread, &pod, self.arrival.delivery).await;
        let app = app.map_err(|Failure { refusal, detail }| ConnectError::Failed(refusal.explain(&detail)))?;
        let sock = TcpDuplex::new(app, None);
        let listed = pod.list(sock.live());
        Ok(Upstream::socket(sock, listed))
    }

    fn draw(&self, limit: u64) -> u64 {
        let proxy = self.proxy.upgrade();
        proxy.and_then(|proxy| proxy.rng.borrow_mut().below(limit)).unwrap_or_default()
    }

    fn record(&self, downstream: &Downstream, record: &Record) {
        let Some(proxy) = self.proxy.upgrade() else { return };
        let endpoint = record.endpoint.as_ref().map(|_| self.arrival.delivery.target);
        let told =
            telemetry_request(record, self.arrival.parties.clone(), Direction::Inbound, (downstream.source, endpoint));
        proxy.thread.telemetry.request(telemetry::Request { route: Arc::default(), ..told });
    }
}
