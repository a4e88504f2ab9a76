//! What this room asks of the node on behalf of one pod: routes, endpoints, connections, chance, and a place for records.
use super::io::Io;
use super::Request;
use crate::base::Identity;
use crate::routes::{Destination, Labels, Scope};
use crate::telemetry::Observed;
pub use crate::telemetry::{Amount, Flags};
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, StatusCode};
use std::future::{ready, Future};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// An address that serves a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The workload's uid and the port: the same as long as it is the same server.
    pub id: Arc<str>,
    pub address: SocketAddr,
    /// Its part of the requests to those of the same priority, the weight of its locality in it. At least 1.
    pub weight: u32,
    /// 0 is first; the next one is used as far as those before it are not healthy.
    pub priority: u32,
    /// `region/zone/subzone`.
    pub locality: Arc<str>,
}

#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The same `Arc` as long as nothing has changed.
    pub all: Arc<[Endpoint]>,
    /// Whether the port speaks HTTP/2 (its appProtocol or the prefix of its name).
    pub http2: bool,
}

/// How a connection to an endpoint is to be used.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// The request's host: the server's name where TLS is begun and its policy gives none.
    pub host: &'a str,
    /// Whether it carries HTTP/2.
    pub http2: bool,
}

/// Why a connection to an endpoint was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// With the reason, for the record and the client.
    Tls(String),
    /// With the reason, for the record.
    Failed(String),
    Timeout,
}

/// The client's pod.
#[derive(Debug)]
pub struct ClientPod {
    pub namespace: Arc<str>,
    pub labels: Arc<Labels>,
}

/// A connection that a client has opened.
#[derive(Clone, Debug)]
pub struct Downstream {
    pub pod: Arc<ClientPod>,
    /// `namespace/hostname` of the service that it called, and its port.
    pub service: Arc<str>,
    pub port: u16,
    pub source: SocketAddr,
    /// What the client called.
    pub original: SocketAddr,
    /// Of one from outside of the mesh, who called a gateway; then there is no service.
    pub edge: Option<Edge>,
}

/// What a gateway knows of a client's connection.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Who the client has proven to be, where it came through a tunnel.
    pub identity: Option<Arc<Identity>>,
    pub tls: bool,
    /// That the client named.
    pub sni: Option<Arc<str>>,
    /// How many proxies before this one are believed.
    pub trusted_proxies: usize,
    /// Where the connection's packets come from; a PROXY protocol's header may name another client.
    pub peer: IpAddr,
    /// The gateway's own address that they come to.
    pub local: SocketAddr,
}

/// A request that policies keep out.
#[derive(Clone, Debug)]
pub struct Denied {
    pub status: StatusCode,
    pub body: Bytes,
    /// Of the answer.
    pub headers: HeaderMap,
    pub flags: Flags,
    /// For the record.
    pub reason: String,
}

pub trait Node: 'static {
    type Io: Io;

    /// What is to be kept of a request; where its trace is followed, its header then says where that is.
    fn observe(&self, _: &mut Request) -> Observed {
        Observed::default()
    }

    /// Whether a request is let through, whose path is normalised, and the fields that its answer gets then. It may take
    /// fields of the request away, and add some. `remote`: who has sent it, as far as trusted proxies say so; `scope`: what
    /// holds for it.
    fn admit(
        &self,
        _: &Downstream,
        _remote: IpAddr,
        _scope: &Scope,
        _: &mut Request,
    ) -> impl Future<Output = Result<HeaderMap, Denied>> {
        ready(Ok(HeaderMap::new()))
    }

    /// What holds for a request to this host on this connection; none: the port is no longer routed here.
    fn scope(&self, downstream: &Downstream, host: &str) -> Option<Arc<Scope>>;

    /// Those of the destination's subset, with priorities and weights as its policy has them; for PASSTHROUGH what the client
    /// called, for DYNAMIC_DNS what `resolve` has found for the request's host. None: there is no such service.
    fn endpoints(&self, destination: &Arc<Destination>, downstream: &Downstream, host: &str) -> Option<Endpoints>;

    /// Finds the addresses of a request's host, where these are the endpoints.
    fn resolve(&self, _: &Destination, _host: &str) -> impl Future<Output = ()> {
        ready(())
    }

    /// By HBONE, TLS or plain TCP, as the destination's policy and the endpoint have it; within the pool's connect_timeout.
    fn connect(
        &self,
        endpoint: &Endpoint,
        destination: &Destination,
        used: Use<'_>,
    ) -> impl Future<Output = Result<Self::Io, ConnectError>>;

    /// A request has waited so long for a connection which others make or use.
    fn queued(&self, _: Duration) {}

    /// A number below `limit`, by chance.
    fn draw(&self, limit: u64) -> u64;

    fn record(&self, downstream: &Downstream, record: &Record);
}

/// A request, when all is over.
#[derive(Clone, Debug)]
pub struct Record {
    pub http2: bool,
    pub grpc: bool,
    pub method: Method,
    pub authority: Authority,
    /// As it was routed.
    pub path: PathAndQuery,
    /// The rule's name, and its match's.
    pub route: Arc<str>,
    /// None: the client was gone before.
    pub status: Option<StatusCode>,
    pub flags: Flags,
    /// Why policies kept it out; empty: they did not.
    pub reason: String,
    /// Tries to send it upstream.
    pub attempts: u32,
    pub duration: Duration,
    /// Until the response's head, where one came.
    pub upstream: Option<Duration>,
    pub destination: Option<Arc<Destination>>,
    pub endpoint: Option<Arc<str>>,
    /// Why the last connection to an endpoint was not made; empty: it was.
    pub failure: String,
    pub observed: Observed,
    /// What the client sent: head and body.
    pub sent: Amount,
    /// What it got.
    pub received: Amount,
    /// gRPC's, where the server told it.
    pub grpc_status: Option<u16>,
}
