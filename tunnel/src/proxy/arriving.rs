//! Requests that arrive for a pod, on a connection whose requests policies judge, on their way to the application.
use super::consulting::{self, Consulting};
use super::delivery::{deliver, Delivery};
use super::requests::telemetry_request;
use super::upstream::Upstream;
use super::Proxy;
use crate::base::Failure;
use crate::http::{
    self, ClientPod, ConnectError, Denied, Downstream, Drain, Endpoint, Endpoints, Flags, Io, Node, Record, Router,
    Session,
};
use crate::mesh::Mesh;
use crate::node::Pod;
use crate::policy::{Attempt, Authenticated, Carrier, Guard, Token};
use crate::relay::TcpDuplex;
use crate::routes::{Destination, Labels, Scope};
use crate::telemetry::{self, Direction, Observed, Parties};
use ::http::header::{HeaderMap, HeaderValue, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, WWW_AUTHENTICATE};
use ::http::{Method, StatusCode};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whoever asks, all goes to the application; whoever connects knows where that is.
static TO_APPLICATION: LazyLock<Arc<Scope>> = LazyLock::new(|| Arc::new(Scope::forwarding(".", "application", 80)));

/// A connection that was let in, and where it leads.
pub struct Arrival {
    pub attempt: Attempt,
    pub delivery: Delivery,
    pub parties: Parties,
}

/// Serves its requests until its end, over `io`. Each connection of a client has connections of its own to the application,
/// which sees the client's address.
pub async fn serve(proxy: &Rc<Proxy>, pod: &Rc<Pod>, arrival: Arrival, io: impl Io) {
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
    let host = delivery.target.to_string().parse().ok();
    let drain = Drain::default();
    let _session = proxy.routers.list(pod, drain.clone());
    let node = Arriving::new(proxy, pod, arrival);
    http::serve(
        io,
        Router::new(node, proxy.routers.settings),
        Session::new(downstream, TO_APPLICATION.clone(), drain),
        host,
    )
    .await;
}

/// What L7 asks on behalf of one connection.
struct Arriving {
    proxy: Weak<Proxy>,
    pod: Weak<Pod>,
    arrival: Arrival,
    application: Endpoints,
    /// What holds for the pod, as a version of the mesh has it.
    guard: RefCell<Option<(Arc<Mesh>, Arc<Guard>)>>,
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
            guard: RefCell::default(),
        }
    }

    fn guard(&self) -> Option<Arc<Guard>> {
        let mesh = self.proxy.upgrade()?.shared.mesh.load_full();
        let mut known = self.guard.borrow_mut();
        match &*known {
            Some((of, guard)) if Arc::ptr_eq(of, &mesh) => Some(guard.clone()),
            _ => {
                let guard = mesh.guard(&self.pod.upgrade()?.key)?.clone();
                *known = Some((mesh, guard.clone()));
                Some(guard)
            }
        }
    }

    /// Verifies its tokens; takes away what is not to go on. A preflight has none (CORS). Errors: why one is not valid.
    fn authenticate(guard: &Guard, request: &mut http::Request) -> Result<Option<Token>, &'static str> {
        let is_preflight = request.method == Method::OPTIONS
            && request.headers.contains_key(ORIGIN)
            && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !guard.asks_for_tokens() || is_preflight {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let http::Request { headers, path, .. } = request;
        let carrier = Carrier { headers, query: path.query() };
        let Authenticated { token, query } = guard.authenticate(carrier, now)?;
        if let Some(query) = query {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let stripped = format!("{}{query}", request.path.path());
            request.path = stripped.try_into().map_err(|_| "Jwt verification fails")?;
        }
        Ok(token)
    }

    /// Errors: why it is refused.
    fn judge(&self, guard: &Guard, request: &http::Request, token: Option<&Token>) -> Result<(), String> {
        let attempt = &self.arrival.attempt;
        let judgement = match guard.asks_for_requests(attempt.destination.port()) {
            true => guard.judge_request(attempt, consulting::seen(request, attempt.source, token)),
            false => guard.judge(attempt),
        };
        if let Some(proxy) = self.proxy.upgrade() {
            proxy.thread.telemetry.judged(&judgement);
        }
        judgement.outcome().map_err(|Failure { refusal, detail }| refusal.explain(&detail))
    }

    /// As `admit`, where others have a say.
    async fn consult(&self, guard: &Guard, request: &mut http::Request) -> Result<HeaderMap, Denied> {
        let gone = || forbidden("the pod is gone".to_owned());
        let (proxy, pod) = self.proxy.upgrade().zip(self.pod.upgrade()).ok_or_else(gone)?;
        let Arrival { attempt, delivery, .. } = &self.arrival;
        let (client, remote) = (delivery.client, attempt.source);
        let consulting = Consulting { proxy: &proxy, pod: &pod, guard, attempt, client, remote };
        let mut added = consulting.authorize(request).await?;
        let token = Self::authenticate(guard, request).map_err(|why| unauthorized(request, why))?;
        self.judge(guard, request, token.as_ref()).map_err(forbidden)?;
        consulting.limit(request, token.as_ref(), &mut added).await?;
        Ok(added)
    }
}

fn forbidden(reason: String) -> Denied {
    denied(StatusCode::FORBIDDEN, "RBAC: access denied", reason)
}

/// As Envoy asks for another token (RFC 6750 section 3).
fn unauthorized(request: &http::Request, why: &'static str) -> Denied {
    let realm =
        format!("Bearer realm=\"http://{}{}\", error=\"invalid_token\"", request.authority, request.path.path());
    let mut denied = denied(StatusCode::UNAUTHORIZED, why, why.to_owned());
    denied.headers.extend(HeaderValue::try_from(realm).ok().map(|challenge| (WWW_AUTHENTICATE, challenge)));
    denied
}

fn denied(status: StatusCode, body: &'static str, reason: String) -> Denied {
    Denied { status, body: body.into(), headers: HeaderMap::new(), flags: Flags::default(), reason }
}

impl Node for Arriving {
    type Io = Upstream;

    fn observe(&self, request: &mut http::Request) -> Observed {
        let seen = self.proxy.upgrade().zip(self.pod.upgrade());
        seen.map(|(proxy, pod)| proxy.observe(&pod, Direction::Inbound, request)).unwrap_or_default()
    }

    /// By one version of the policies.
    async fn admit(&self, _: &Downstream, request: &mut http::Request) -> Result<HeaderMap, Denied> {
        let guard = self.guard().ok_or_else(|| forbidden("the pod is gone".to_owned()))?;
        if guard.consults() {
            return self.consult(&guard, request).await;
        }
        let token = Self::authenticate(&guard, request).map_err(|why| unauthorized(request, why))?;
        self.judge(&guard, request, token.as_ref()).map_err(forbidden)?;
        Ok(HeaderMap::new())
    }

    fn scope(&self, _: &Downstream, _: &str) -> Option<Arc<Scope>> {
        Some(TO_APPLICATION.clone())
    }

    fn endpoints(&self, _: &Arc<Destination>, _: &Downstream) -> Option<Endpoints> {
        Some(self.application.clone())
    }

    async fn connect(&self, _: &Endpoint, _: &Destination, _: http::Use<'_>) -> Result<Upstream, ConnectError> {
        let pod = self.pod.upgrade().ok_or_else(|| ConnectError::Failed("the pod is gone".to_owned()))?;
        let app = deliver(&pod, self.arrival.delivery).await;
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
