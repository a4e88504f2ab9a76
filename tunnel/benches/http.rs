//! What a request costs that passes the router, over loopback: `cargo bench --manifest-path tunnel/Cargo.toml --bench http`.
//! A route matches a header and splits 90/10; 64 connections are kept alive, each with one request, or unary call of gRPC, at a
//! time. The router's thread is measured by its own clock, so that its figure does not depend on what else the machine does.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use _core::http::{
    serve, ClientPod, ConnectError, Downstream, Drain, Endpoint, Endpoints, Node, Record, Router, Session, Settings,
    Use,
};
use _core::routes::proto;
use _core::routes::{Destination, Labels, PortRoutes, Scope, ServiceRoutes};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use rustix::time::{clock_gettime, ClockId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

const CONNECTIONS: usize = 64;
const WARM: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

const REQUEST: &[u8] =
    b"GET /api/v1/reviews?id=7 HTTP/1.1\r\nHost: reviews:9080\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\
    end-user: jason\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 32\r\n\r\n0123456789abcdef0123456789abcdef";

struct Fixed {
    scope: Arc<Scope>,
    endpoints: Endpoints,
    seed: RefCell<u64>,
}

impl Node for Fixed {
    type Io = TcpStream;

    fn scope(&self, _: &Downstream, _: &str) -> Option<Arc<Scope>> {
        Some(self.scope.clone())
    }

    fn endpoints(&self, _: &Arc<Destination>, _: &Downstream, _: &str) -> Option<Endpoints> {
        Some(self.endpoints.clone())
    }

    fn connect(
        &self,
        endpoint: &Endpoint,
        _: &Destination,
        _: Use<'_>,
    ) -> impl Future<Output = Result<TcpStream, ConnectError>> {
        let connecting = TcpStream::connect(endpoint.address);
        async { connecting.await.map_err(|error| ConnectError::Failed(error.to_string())) }
    }

    fn draw(&self, limit: u64) -> u64 {
        let mut seed = self.seed.borrow_mut();
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((u128::from(*seed) * u128::from(limit)) >> 64) as u64
    }

    fn record(&self, _: &Downstream, _: &Record) {}
}

fn routes() -> Arc<PortRoutes> {
    let destination = |subset: &str| proto::Destination {
        namespace: "shop".into(),
        hostname: "reviews".into(),
        port: 9080,
        subset: subset.into(),
        ..Default::default()
    };
    let share =
        |place, weight| proto::Weighted { to: Some(proto::Target::Destination(place)), weight, ..Default::default() };
    let forward = |destinations| proto::Forward {
        destinations,
        retry: Some(proto::Retry {
            attempts: 2,
            conditions: vec![proto::RetryOn::ConnectFailure as i32],
            backoff_base_ms: 25,
            backoff_max_ms: 250,
            ..Default::default()
        }),
        ..Default::default()
    };
    let user = proto::NamedMatch {
        name: "end-user".into(),
        value: Some(proto::StringMatch { kind: Some(proto::StringKind::Exact("jason".into())), ignore_case: false }),
    };
    let rule = |matches, forward| proto::HttpRule {
        matches,
        action: Some(proto::Action::Forward(forward)),
        ..Default::default()
    };
    let rules = vec![
        rule(
            vec![proto::HttpMatch { headers: vec![user], ..Default::default() }],
            forward(vec![share(0, 90), share(1, 10)]),
        ),
        rule(vec![], forward(vec![share(0, 1)])),
    ];
    let scope =
        proto::Scope { http: rules, destinations: vec![destination("v1"), destination("v2")], ..Default::default() };
    let port =
        proto::PortRoutes { port: 9080, protocol: proto::Protocol::Http.into(), scopes: vec![scope], hosts: vec![] };
    let sent = proto::ServiceRoutes { namespace: "shop".into(), hostname: "reviews".into(), ports: vec![port] };
    ServiceRoutes::compile(&sent).expect("right").port(9080).expect("it is there").clone()
}

/// A thread with a runtime and a listener.
fn listening<F: Future<Output = ()>>(run: impl FnOnce(TcpListener) -> F + Send + 'static) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback takes it");
    listener.set_nonblocking(true).expect("it can be");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || block_on(async { run(TcpListener::from_std(listener).expect("a runtime is there")).await }));
    address
}

fn block_on(future: impl Future<Output = ()>) {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime")
        .block_on(future);
}

fn server() -> SocketAddr {
    listening(|listener| async move {
        while let Ok((mut io, _)) = listener.accept().await {
            io.set_nodelay(true).expect("TCP has it");
            spawn_local(async move {
                let mut buffer = vec![0; 4096];
                while matches!(io.read(&mut buffer).await, Ok(1..)) && io.write_all(RESPONSE).await.is_ok() {}
            });
        }
    })
}

fn grpc_server() -> SocketAddr {
    listening(|listener| async move {
        while let Ok((io, _)) = listener.accept().await {
            io.set_nodelay(true).expect("TCP has it");
            spawn_local(async move {
                let mut connection = h2::server::handshake(io).await.expect("the client speaks it");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let head = http::Response::builder().header("content-type", "application/grpc").body(());
                    let mut stream = respond.send_response(head.expect("proper"), false).expect("it is open");
                    stream.send_data(Bytes::from_static(MESSAGE), false).expect("it is open");
                    let status = ("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"));
                    stream.send_trailers(HeaderMap::from_iter([status])).expect("it is open");
                }
            });
        }
    })
}

static CPU_NS: AtomicU64 = AtomicU64::new(0);

fn proxy(server: SocketAddr, http2: bool) -> SocketAddr {
    listening(move |listener| async move {
        let _keeping = _core::pieces::keep();
        let endpoint = Endpoint { id: "one".into(), address: server, weight: 1, priority: 0, locality: "".into() };
        let endpoints = Endpoints { all: Arc::new([endpoint]), http2 };
        let scope = routes().scopes[0].clone();
        let node = Fixed { scope: scope.clone(), endpoints, seed: RefCell::new(1) };
        let router = Router::new(node, Settings::default());
        spawn_local(async {
            loop {
                let now = clock_gettime(ClockId::ThreadCPUTime);
                CPU_NS.store(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        while let Ok((io, source)) = listener.accept().await {
            io.set_nodelay(true).expect("TCP has it");
            let pod = Arc::new(ClientPod { namespace: "shop".into(), labels: Labels::new([]).into() });
            let service = "shop/reviews".into();
            let downstream = Downstream { pod, service, port: 9080, source, original: server, edge: None };
            let session = Session::new(downstream, scope.clone(), Drain::default());
            spawn_local(serve(io, router.clone(), session, None));
        }
    })
}

static ANSWERS: AtomicU64 = AtomicU64::new(0);

fn grpc_clients(to: SocketAddr) {
    thread::spawn(move || {
        block_on(async move {
            for _ in 0..CONNECTIONS {
                spawn_local(async move {
                    let io = TcpStream::connect(to).await.expect("it listens");
                    io.set_nodelay(true).expect("TCP has it");
                    let (sender, connection) = h2::client::handshake(io).await.expect("the server speaks it");
                    spawn_local(connection);
                    loop {
                        let mut sender = sender.clone().ready().await.expect("it is open");
                        let head = http::Request::post("http://reviews:9080/shop.Reviews/Get")
                            .header("content-type", "application/grpc")
                            .header("te", "trailers")
                            .header("user-agent", "bench/1")
                            .header("grpc-timeout", "5S")
                            .header("end-user", "jason")
                            .body(());
                        let (answer, mut stream) =
                            sender.send_request(head.expect("proper"), false).expect("it is open");
                        stream.send_data(Bytes::from_static(MESSAGE), true).expect("it is open");
                        let mut body = answer.await.expect("it is answered").into_body();
                        while let Some(data) = body.data().await {
                            let _ = body.flow_control().release_capacity(data.expect("it is whole").len());
                        }
                        assert!(body.trailers().await.expect("it is whole").is_some());
                        ANSWERS.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::future::pending::<()>().await;
        });
    });
}

fn clients(to: SocketAddr) {
    thread::spawn(move || {
        block_on(async move {
            for _ in 0..CONNECTIONS {
                spawn_local(async move {
                    let mut io = TcpStream::connect(to).await.expect("it listens");
                    io.set_nodelay(true).expect("TCP has it");
                    let mut buffer = vec![0; 4096];
                    loop {
                        io.write_all(REQUEST).await.expect("it is open");
                        let mut read = 0;
                        while !buffer[..read].ends_with(&RESPONSE[RESPONSE.len() - 32..]) {
                            read += io.read(&mut buffer[read..]).await.expect("it is open");
                        }
                        ANSWERS.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::future::pending::<()>().await;
        });
    });
}

/// Its name, its clients, and what they call.
type Row = (&'static str, fn(SocketAddr), fn() -> SocketAddr);

/// Clients go on until the process ends: each row has one of its own.
fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let rows: [Row; 4] = [
        ("direct", clients, server),
        ("routed", clients, || proxy(server(), false)),
        ("grpc-direct", grpc_clients, grpc_server),
        ("grpc-routed", grpc_clients, || proxy(grpc_server(), true)),
    ];
    match only {
        Some(only) => rows.into_iter().filter(|(name, ..)| *name == only).for_each(|(name, clients, to)| {
            clients(to());
            measure(name);
        }),
        None => rows.into_iter().for_each(|(name, ..)| {
            let this = std::env::current_exe().expect("it runs");
            assert!(std::process::Command::new(this).arg(name).status().expect("it starts").success());
        }),
    }
}

fn measure(name: &str) {
    thread::sleep(WARM);
    let mut rounds = (0..ROUNDS).map(|_| {
        let (began, answers, cpu) = (Instant::now(), ANSWERS.load(Ordering::Relaxed), CPU_NS.load(Ordering::Relaxed));
        thread::sleep(ROUND);
        let answers = ANSWERS.load(Ordering::Relaxed) - answers;
        let cpu = CPU_NS.load(Ordering::Relaxed) - cpu;
        (answers as f64 / began.elapsed().as_secs_f64(), cpu as f64 / answers.max(1) as f64 / 1000.0)
    });
    let mut rounds = rounds.by_ref().collect::<Vec<_>>();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (rate, cpu) = rounds[ROUNDS / 2];
    println!("{name:<12} {rate:>9.0} requests/s {cpu:>7.2} us of the router's thread for each");
}
