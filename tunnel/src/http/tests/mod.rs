//! Requests through a router, with real servers of one thread behind it.
mod frames;
mod http2;
mod limits;
mod peer;
mod retries;
mod routing;
mod servers;

use super::node::{ClientPod, ConnectError, Downstream, Endpoint, Endpoints, Node, Record, Use};
use super::testing::{pair, read_to_end, send};
use super::{h1, h2, Body, Drain, Request, Response, Router, Server, Session, Settings};
use crate::base::Rng;
use crate::routes::{proto, testing, Destination, Labels, Scope};
use bytes::Bytes;
use http::StatusCode;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

pub struct TestNode {
    scope: RefCell<Option<Arc<Scope>>>,
    /// By subset.
    endpoints: RefCell<HashMap<&'static str, Endpoints>>,
    pub records: Rc<RefCell<Vec<Record>>>,
    pub connects: Cell<u32>,
    pub queued: Cell<u32>,
    rng: RefCell<Rng>,
}

impl Node for TestNode {
    type Io = TcpStream;

    fn scope(&self, _: &Downstream, _: &str) -> Option<Arc<Scope>> {
        self.scope.borrow().clone()
    }

    fn endpoints(&self, destination: &Arc<Destination>, _: &Downstream, _: &str) -> Option<Endpoints> {
        self.endpoints.borrow().get(&*destination.subset).cloned()
    }

    fn connect(
        &self,
        endpoint: &Endpoint,
        _: &Destination,
        _: Use<'_>,
    ) -> impl Future<Output = Result<TcpStream, ConnectError>> {
        self.connects.set(self.connects.get() + 1);
        let connecting = TcpStream::connect(endpoint.address);
        async { connecting.await.map_err(|error| ConnectError::Failed(error.to_string())) }
    }

    fn queued(&self, _: Duration) {
        self.queued.set(self.queued.get() + 1);
    }

    fn draw(&self, limit: u64) -> u64 {
        self.rng.borrow_mut().below(limit).unwrap_or_default()
    }

    fn record(&self, _: &Downstream, record: &Record) {
        self.records.borrow_mut().push(record.clone());
    }
}

pub struct Stage {
    pub router: Rc<Router<TestNode>>,
    first: Arc<Scope>,
    pub drain: Drain,
}

pub fn downstream() -> Downstream {
    Downstream {
        pod: Arc::new(ClientPod { namespace: "shop".into(), labels: Labels::new([]).into() }),
        service: "shop/reviews.shop.svc.cluster.local".into(),
        port: 9080,
        source: ([10, 0, 0, 9], 4711).into(),
        original: ([10, 96, 0, 1], 9080).into(),
        edge: None,
    }
}

pub fn endpoints(addresses: &[SocketAddr], http2: bool) -> Endpoints {
    let endpoint = |address: &SocketAddr| Endpoint {
        id: address.to_string().into(),
        address: *address,
        weight: 1,
        priority: 0,
        locality: "".into(),
    };
    Endpoints { all: addresses.iter().map(endpoint).collect(), http2 }
}

impl Stage {
    /// Rules, in a scope with destinations v1, v2 and v3.
    pub fn new(rules: Vec<proto::HttpRule>) -> Stage {
        Stage::of(testing::scope(rules), Settings::default())
    }

    pub fn of(scope: proto::Scope, settings: Settings) -> Stage {
        let first = compiled(scope);
        let node = TestNode {
            scope: RefCell::new(Some(first.clone())),
            endpoints: RefCell::default(),
            records: Rc::default(),
            connects: Cell::new(0),
            queued: Cell::new(0),
            rng: RefCell::new(Rng::seeded(7)),
        };
        Stage { router: Router::new(node, settings), first, drain: Drain::default() }
    }

    /// With a policy for v1.
    pub fn with_policy(rule: proto::HttpRule, policy: proto::Policy) -> Stage {
        let mut scope = testing::scope(vec![rule]);
        scope.destinations[0].policy = Some(policy);
        Stage::of(scope, Settings::default())
    }

    pub fn serve(self, subset: &'static str, addresses: &[SocketAddr]) -> Stage {
        self.place(subset, endpoints(addresses, false));
        self
    }

    pub fn place(&self, subset: &'static str, endpoints: Endpoints) {
        self.router.node.endpoints.borrow_mut().insert(subset, endpoints);
    }

    pub fn route(&self, scope: Option<proto::Scope>) {
        *self.router.node.scope.borrow_mut() = scope.map(compiled);
    }

    /// A client's connection.
    pub async fn connect(&self) -> TcpStream {
        let (client, io) = pair().await;
        let session = Session::new(downstream(), self.first.clone(), self.drain.clone());
        let router = self.router.clone();
        spawn_local(async move { super::serve(io, router, session, None).await });
        client
    }

    /// The whole answer to a request, which ends its connection.
    pub async fn ask(&self, request: &str) -> String {
        let mut client = self.connect().await;
        let (first, rest) = request.split_once("\r\n").unwrap();
        send(&mut client, format!("{first}\r\nconnection: close\r\n{rest}")).await;
        String::from_utf8_lossy(&read_to_end(&mut client).await.0).into_owned()
    }

    pub async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: reviews:9080\r\n\r\n")).await
    }

    /// The record of the last request, and how many there are.
    pub fn record(&self) -> Record {
        self.router.node.records.borrow().last().expect("there was a request").clone()
    }
}

fn compiled(scope: proto::Scope) -> Arc<Scope> {
    testing::port(vec![scope]).unwrap_or_else(|error| panic!("{error}")).scopes[0].clone()
}

pub fn rule() -> proto::HttpRule {
    testing::rule("main", &[])
}

/// Changes how rule forwards.
pub fn forwarding(mut rule: proto::HttpRule, change: impl FnOnce(&mut proto::Forward)) -> proto::HttpRule {
    match rule.action.as_mut() {
        Some(proto::Action::Forward(forward)) => change(forward),
        _ => panic!("it does not forward"),
    }
    rule
}

/// A server that takes both versions of HTTP.
pub async fn backend(handle: impl AsyncFn(Request) -> Response + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Rc::new(handle);
    spawn_local(async move {
        while let Ok((io, _)) = listener.accept().await {
            let handle = handle.clone();
            let server = Server { settings: Settings::default(), default_host: None, drain: Drain::default() };
            spawn_local(async move {
                let mut first = [0; 3];
                let handle = async move |request: Request| handle(request).await;
                match io.peek(&mut first).await {
                    Ok(3) if &first == b"PRI" => h2::serve(io, Rc::new(server), handle).await,
                    _ => h1::serve(io, Bytes::new(), &server, handle).await,
                }
            });
        }
    });
    address
}

/// A server of raw bytes: `serve` gets each connection.
pub async fn raw(serve: impl AsyncFn(TcpStream) + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Rc::new(serve);
    spawn_local(async move {
        while let Ok((io, _)) = listener.accept().await {
            let serve = serve.clone();
            spawn_local(async move { serve(io).await });
        }
    });
    address
}

/// Nobody listens there.
pub async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Tells its name and what it got.
pub async fn echo(name: &'static str) -> SocketAddr {
    backend(async move |request| told(name, request).await).await
}

pub async fn told(name: &str, mut request: Request) -> Response {
    let body = super::testing::collect(&mut request.body).await.unwrap_or_default();
    let mut text = format!("{name}> {} {}{}\n", request.method, request.authority, request.path);
    for (name, value) in &request.headers {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text += &format!("\n{}<", String::from_utf8_lossy(&body));
    Response::new(StatusCode::OK, Bytes::from(text))
}

/// A server whose answers are statuses, one after the other; the last one stays. Counts requests.
pub async fn statuses(name: &'static str, statuses: &'static [u16]) -> (SocketAddr, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let address = backend(async move |mut request: Request| {
        let body = super::testing::collect(&mut request.body).await.unwrap_or_default();
        let at = counted.replace(counted.get() + 1).min(statuses.len() - 1);
        let body = Bytes::from(format!("{name} {}", String::from_utf8_lossy(&body)));
        Response::new(StatusCode::from_u16(statuses[at]).unwrap(), Body::from(body))
    });
    (address.await, count)
}
