//! The messages of `protocols/routes.proto`, which documents them. Written down here so that a build needs no `protoc`; the names of oneofs'
//! enums are ours.
//!
//! Longer than other files: one schema, read beside its `.proto`.

use std::collections::HashMap;

/// Type URL of [`ServiceRoutes`].
pub const SERVICE_ROUTES: &str = "type.googleapis.com/warren.routes.ServiceRoutes";
/// Type URL of [`GatewayListeners`].
pub const GATEWAY_LISTENERS: &str = "type.googleapis.com/warren.routes.GatewayListeners";
/// Type URL of [`Credential`].
pub const CREDENTIAL: &str = "type.googleapis.com/warren.routes.Credential";

#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceRoutes {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(string, tag = "2")]
    pub hostname: String,
    #[prost(message, repeated, tag = "3")]
    pub ports: Vec<PortRoutes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PortRoutes {
    #[prost(uint32, tag = "1")]
    pub port: u32,
    #[prost(enumeration = "Protocol", tag = "2")]
    pub protocol: i32,
    #[prost(message, repeated, tag = "3")]
    pub scopes: Vec<Scope>,
    #[prost(message, repeated, tag = "4")]
    pub hosts: Vec<NamedHost>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NamedHost {
    #[prost(string, tag = "1")]
    pub host: String,
    #[prost(message, repeated, tag = "2")]
    pub scopes: Vec<Scope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Protocol {
    Unspecified = 0,
    Http = 1,
    Http2 = 2,
    Grpc = 3,
    Tls = 4,
    Tcp = 5,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    #[prost(string, repeated, tag = "1")]
    pub namespaces: Vec<String>,
    #[prost(map = "string, string", tag = "2")]
    pub labels: HashMap<String, String>,
    #[prost(message, repeated, tag = "3")]
    pub http: Vec<HttpRule>,
    #[prost(message, repeated, tag = "4")]
    pub tls: Vec<TlsRule>,
    #[prost(message, repeated, tag = "5")]
    pub tcp: Vec<TcpRule>,
    #[prost(enumeration = "Unmatched", tag = "6")]
    pub unmatched: i32,
    #[prost(message, repeated, tag = "7")]
    pub destinations: Vec<Destination>,
    #[prost(string, repeated, tag = "8")]
    pub policies: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Unmatched {
    NotFound = 0,
    Unimplemented = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpRule {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub origin: String,
    #[prost(message, repeated, tag = "3")]
    pub matches: Vec<HttpMatch>,
    #[prost(oneof = "Action", tags = "4, 5, 6")]
    pub action: Option<Action>,
    #[prost(message, optional, tag = "7")]
    pub request: Option<HeaderChanges>,
    #[prost(message, optional, tag = "8")]
    pub response: Option<HeaderChanges>,
    #[prost(message, optional, tag = "9")]
    pub fault: Option<Fault>,
    #[prost(message, optional, tag = "10")]
    pub cors: Option<Cors>,
    #[prost(message, repeated, tag = "11")]
    pub mirrors: Vec<Mirror>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Action {
    #[prost(message, tag = "4")]
    Forward(Forward),
    #[prost(message, tag = "5")]
    Redirect(Redirect),
    #[prost(message, tag = "6")]
    Respond(DirectResponse),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpMatch {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub path: Option<PathMatch>,
    #[prost(message, optional, tag = "3")]
    pub method: Option<StringMatch>,
    #[prost(message, optional, tag = "4")]
    pub scheme: Option<StringMatch>,
    #[prost(message, optional, tag = "5")]
    pub authority: Option<StringMatch>,
    #[prost(message, repeated, tag = "6")]
    pub headers: Vec<NamedMatch>,
    #[prost(message, repeated, tag = "7")]
    pub without_headers: Vec<NamedMatch>,
    #[prost(message, repeated, tag = "8")]
    pub query: Vec<NamedMatch>,
    #[prost(uint32, tag = "9")]
    pub port: u32,
    #[prost(string, tag = "10")]
    pub source_namespace: String,
    #[prost(map = "string, string", tag = "11")]
    pub source_labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PathMatch {
    #[prost(oneof = "PathKind", tags = "1, 2, 3, 4")]
    pub kind: Option<PathKind>,
    #[prost(bool, tag = "5")]
    pub ignore_case: bool,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum PathKind {
    #[prost(string, tag = "1")]
    Exact(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    SegmentPrefix(String),
    #[prost(string, tag = "4")]
    Regex(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StringMatch {
    #[prost(oneof = "StringKind", tags = "1, 2, 3, 4, 5")]
    pub kind: Option<StringKind>,
    #[prost(bool, tag = "6")]
    pub ignore_case: bool,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StringKind {
    #[prost(string, tag = "1")]
    Exact(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    Suffix(String),
    #[prost(string, tag = "4")]
    Regex(String),
    #[prost(bool, tag = "5")]
    Present(bool),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NamedMatch {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<StringMatch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Forward {
    #[prost(message, repeated, tag = "1")]
    pub destinations: Vec<Weighted>,
    #[prost(message, optional, tag = "2")]
    pub rewrite: Option<Rewrite>,
    #[prost(uint64, tag = "3")]
    pub timeout_ms: u64,
    #[prost(message, optional, tag = "4")]
    pub retry: Option<Retry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Weighted {
    #[prost(oneof = "Target", tags = "1, 2")]
    pub to: Option<Target>,
    #[prost(uint32, tag = "3")]
    pub weight: u32,
    #[prost(message, optional, tag = "4")]
    pub request: Option<HeaderChanges>,
    #[prost(message, optional, tag = "5")]
    pub response: Option<HeaderChanges>,
    #[prost(string, tag = "6")]
    pub authority: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Target {
    #[prost(uint32, tag = "1")]
    Destination(u32),
    #[prost(message, tag = "2")]
    Unroutable(Unroutable),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Unroutable {
    #[prost(uint32, tag = "1")]
    pub status: u32,
    #[prost(string, tag = "2")]
    pub flag: String,
    #[prost(string, tag = "3")]
    pub reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Rewrite {
    #[prost(oneof = "RewritePath", tags = "1, 2, 3, 4")]
    pub path: Option<RewritePath>,
    #[prost(string, tag = "5")]
    pub authority: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RewritePath {
    #[prost(string, tag = "1")]
    Full(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    SegmentPrefix(String),
    #[prost(message, tag = "4")]
    Regex(RegexRewrite),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegexRewrite {
    #[prost(string, tag = "1")]
    pub pattern: String,
    #[prost(string, tag = "2")]
    pub substitution: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Retry {
    #[prost(uint32, tag = "1")]
    pub attempts: u32,
    #[prost(uint64, tag = "2")]
    pub per_try_timeout_ms: u64,
    #[prost(enumeration = "RetryOn", repeated, tag = "3")]
    pub conditions: Vec<i32>,
    #[prost(uint32, repeated, tag = "4")]
    pub statuses: Vec<u32>,
    #[prost(string, repeated, tag = "5")]
    pub headers: Vec<String>,
    #[prost(bool, tag = "6")]
    pub avoid_previous_hosts: bool,
    #[prost(bool, tag = "7")]
    pub other_priorities: bool,
    #[prost(uint64, tag = "8")]
    pub backoff_base_ms: u64,
    #[prost(uint64, tag = "9")]
    pub backoff_max_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RetryOn {
    Unspecified = 0,
    ServerError = 1,
    GatewayError = 2,
    Reset = 3,
    ResetBeforeRequest = 4,
    ConnectFailure = 5,
    EnvoyRatelimited = 6,
    Retriable4xx = 7,
    RefusedStream = 8,
    Http3PostConnectFailure = 9,
    GrpcCancelled = 10,
    GrpcDeadlineExceeded = 11,
    GrpcInternal = 12,
    GrpcResourceExhausted = 13,
    GrpcUnavailable = 14,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Redirect {
    #[prost(oneof = "RedirectPath", tags = "1, 2, 3")]
    pub path: Option<RedirectPath>,
    #[prost(string, tag = "4")]
    pub authority: String,
    #[prost(string, tag = "5")]
    pub scheme: String,
    #[prost(uint32, tag = "6")]
    pub port: u32,
    #[prost(bool, tag = "7")]
    pub request_port: bool,
    #[prost(uint32, tag = "8")]
    pub status: u32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RedirectPath {
    #[prost(string, tag = "1")]
    Full(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    SegmentPrefix(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DirectResponse {
    #[prost(uint32, tag = "1")]
    pub status: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub body: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderChanges {
    #[prost(string, repeated, tag = "1")]
    pub remove: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub changes: Vec<HeaderChange>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderChange {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(bool, tag = "3")]
    pub append: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Fault {
    #[prost(uint32, tag = "1")]
    pub delay_parts: u32,
    #[prost(uint64, tag = "2")]
    pub delay_ms: u64,
    #[prost(uint32, tag = "3")]
    pub abort_parts: u32,
    #[prost(oneof = "Abort", tags = "4, 5")]
    pub abort: Option<Abort>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Abort {
    #[prost(uint32, tag = "4")]
    HttpStatus(u32),
    #[prost(uint32, tag = "5")]
    GrpcStatus(u32),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Cors {
    #[prost(message, repeated, tag = "1")]
    pub allow_origins: Vec<StringMatch>,
    #[prost(string, repeated, tag = "2")]
    pub allow_methods: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub allow_headers: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub expose_headers: Vec<String>,
    #[prost(uint64, optional, tag = "5")]
    pub max_age: Option<u64>,
    #[prost(bool, tag = "6")]
    pub allow_credentials: bool,
    #[prost(bool, tag = "7")]
    pub answer_unmatched_preflights: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Mirror {
    #[prost(uint32, tag = "1")]
    pub destination: u32,
    #[prost(uint32, tag = "2")]
    pub parts: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TlsRule {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub origin: String,
    #[prost(message, repeated, tag = "3")]
    pub matches: Vec<TlsMatch>,
    #[prost(message, repeated, tag = "4")]
    pub destinations: Vec<Weighted>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TlsMatch {
    #[prost(string, repeated, tag = "1")]
    pub sni_hosts: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub connection: Option<ConnectionMatch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TcpRule {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub origin: String,
    #[prost(message, repeated, tag = "3")]
    pub matches: Vec<ConnectionMatch>,
    #[prost(message, repeated, tag = "4")]
    pub destinations: Vec<Weighted>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectionMatch {
    #[prost(message, repeated, tag = "1")]
    pub destination_subnets: Vec<Subnet>,
    #[prost(uint32, tag = "2")]
    pub port: u32,
    #[prost(string, tag = "3")]
    pub source_namespace: String,
    #[prost(map = "string, string", tag = "4")]
    pub source_labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Subnet {
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Destination {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(string, tag = "2")]
    pub hostname: String,
    #[prost(uint32, tag = "3")]
    pub port: u32,
    #[prost(string, tag = "4")]
    pub subset: String,
    #[prost(map = "string, string", tag = "5")]
    pub labels: HashMap<String, String>,
    #[prost(message, optional, tag = "6")]
    pub policy: Option<Policy>,
    #[prost(string, tag = "7")]
    pub origin: String,
    #[prost(bool, tag = "8")]
    pub http2: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Policy {
    #[prost(message, optional, tag = "1")]
    pub load_balancer: Option<LoadBalancer>,
    #[prost(message, optional, tag = "2")]
    pub connection_pool: Option<ConnectionPool>,
    #[prost(message, optional, tag = "3")]
    pub outlier_detection: Option<OutlierDetection>,
    #[prost(message, optional, tag = "4")]
    pub tls: Option<Tls>,
    #[prost(enumeration = "ProxyProtocol", tag = "5")]
    pub proxy_protocol: i32,
    #[prost(message, optional, tag = "6")]
    pub tunnel: Option<Tunnel>,
    #[prost(message, optional, tag = "7")]
    pub retry_budget: Option<RetryBudget>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadBalancer {
    #[prost(enumeration = "Algorithm", tag = "1")]
    pub algorithm: i32,
    #[prost(message, optional, tag = "2")]
    pub consistent_hash: Option<ConsistentHash>,
    #[prost(message, optional, tag = "3")]
    pub warmup: Option<Warmup>,
    #[prost(message, optional, tag = "4")]
    pub locality: Option<Locality>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Algorithm {
    LeastRequest = 0,
    RoundRobin = 1,
    Random = 2,
    Passthrough = 3,
    DynamicDns = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConsistentHash {
    #[prost(oneof = "HashKey", tags = "1, 2, 3, 4")]
    pub key: Option<HashKey>,
    #[prost(uint64, tag = "5")]
    pub minimum_ring_size: u64,
    #[prost(uint64, tag = "6")]
    pub maglev_table_size: u64,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HashKey {
    #[prost(string, tag = "1")]
    Header(String),
    #[prost(message, tag = "2")]
    Cookie(Cookie),
    #[prost(bool, tag = "3")]
    SourceIp(bool),
    #[prost(string, tag = "4")]
    Query(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Cookie {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub path: String,
    #[prost(uint64, optional, tag = "3")]
    pub ttl_ms: Option<u64>,
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Warmup {
    #[prost(uint64, tag = "1")]
    pub duration_ms: u64,
    #[prost(uint32, tag = "2")]
    pub minimum_parts: u32,
    #[prost(double, tag = "3")]
    pub aggression: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Locality {
    #[prost(message, repeated, tag = "1")]
    pub distribute: Vec<Distribute>,
    #[prost(bool, tag = "2")]
    pub failover: bool,
    #[prost(message, repeated, tag = "3")]
    pub failovers: Vec<Failover>,
    #[prost(string, repeated, tag = "4")]
    pub priority: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Distribute {
    #[prost(string, tag = "1")]
    pub from: String,
    #[prost(map = "string, uint32", tag = "2")]
    pub to: HashMap<String, u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Failover {
    #[prost(string, tag = "1")]
    pub from: String,
    #[prost(string, tag = "2")]
    pub to: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectionPool {
    #[prost(uint32, tag = "1")]
    pub max_connections: u32,
    #[prost(uint64, tag = "2")]
    pub connect_timeout_ms: u64,
    #[prost(uint64, tag = "3")]
    pub max_connection_duration_ms: u64,
    #[prost(uint64, tag = "4")]
    pub tcp_idle_timeout_ms: u64,
    #[prost(message, optional, tag = "5")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    #[prost(uint32, tag = "6")]
    pub http1_max_pending_requests: u32,
    #[prost(uint32, tag = "7")]
    pub http2_max_requests: u32,
    #[prost(uint32, tag = "8")]
    pub max_requests_per_connection: u32,
    #[prost(uint32, tag = "9")]
    pub max_retries: u32,
    #[prost(uint64, tag = "10")]
    pub http_idle_timeout_ms: u64,
    #[prost(uint32, tag = "11")]
    pub max_concurrent_streams: u32,
    #[prost(enumeration = "UpstreamProtocol", tag = "12")]
    pub upstream_protocol: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum UpstreamProtocol {
    ByPort = 0,
    AsClient = 1,
    UpgradeToHttp2 = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TcpKeepalive {
    #[prost(uint32, tag = "1")]
    pub probes: u32,
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    #[prost(uint64, tag = "3")]
    pub interval_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OutlierDetection {
    #[prost(uint32, tag = "1")]
    pub consecutive_5xx: u32,
    #[prost(uint32, tag = "2")]
    pub consecutive_gateway_errors: u32,
    #[prost(bool, tag = "3")]
    pub split_local_origin: bool,
    #[prost(uint32, tag = "4")]
    pub consecutive_local_origin_failures: u32,
    #[prost(uint64, tag = "5")]
    pub interval_ms: u64,
    #[prost(uint64, tag = "6")]
    pub base_ejection_ms: u64,
    #[prost(uint32, tag = "7")]
    pub max_ejection_percent: u32,
    #[prost(uint32, tag = "8")]
    pub min_health_percent: u32,
    #[prost(uint32, repeated, tag = "9")]
    pub error_statuses: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Tls {
    #[prost(enumeration = "TlsMode", tag = "1")]
    pub mode: i32,
    #[prost(string, tag = "9")]
    pub credential: String,
    #[prost(string, repeated, tag = "6")]
    pub subject_alt_names: Vec<String>,
    #[prost(string, tag = "7")]
    pub sni: String,
    #[prost(bool, tag = "8")]
    pub insecure_skip_verify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TlsMode {
    Disable = 0,
    Simple = 1,
    Mutual = 2,
    IstioMutual = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ProxyProtocol {
    NoProxyProtocol = 0,
    V1 = 1,
    V2 = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Tunnel {
    #[prost(string, tag = "1")]
    pub method: String,
    #[prost(string, tag = "2")]
    pub host: String,
    #[prost(uint32, tag = "3")]
    pub port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RetryBudget {
    #[prost(uint32, tag = "1")]
    pub parts: u32,
    #[prost(uint32, tag = "2")]
    pub min_retry_concurrency: u32,
    #[prost(uint64, tag = "3")]
    pub interval_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GatewayListeners {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(string, tag = "2")]
    pub pod: String,
    #[prost(message, repeated, tag = "3")]
    pub listeners: Vec<Listener>,
    #[prost(uint32, tag = "4")]
    pub trusted_proxies: u32,
    #[prost(string, repeated, tag = "5")]
    pub conflicts: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Listener {
    #[prost(uint32, tag = "1")]
    pub port: u32,
    #[prost(uint32, tag = "2")]
    pub bind: u32,
    #[prost(bool, tag = "3")]
    pub proxy_protocol: bool,
    #[prost(message, repeated, tag = "4")]
    pub servers: Vec<Server>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Server {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub sni_hosts: Vec<String>,
    #[prost(message, optional, tag = "3")]
    pub tls: Option<ServerTls>,
    #[prost(oneof = "ServerKind", tags = "4, 5")]
    pub kind: Option<ServerKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ServerKind {
    #[prost(message, tag = "4")]
    Http(VirtualHosts),
    #[prost(message, tag = "5")]
    Connections(Scope),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct VirtualHosts {
    #[prost(message, repeated, tag = "1")]
    pub hosts: Vec<VirtualHost>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct VirtualHost {
    #[prost(string, repeated, tag = "1")]
    pub hosts: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub scope: Option<Scope>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerTls {
    #[prost(message, repeated, tag = "1")]
    pub certificates: Vec<ServerCertificate>,
    #[prost(enumeration = "ClientCertificates", tag = "2")]
    pub client_certificates: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub ca_certificates: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub ca_crl: Vec<u8>,
    #[prost(string, repeated, tag = "5")]
    pub subject_alt_names: Vec<String>,
    #[prost(uint32, tag = "6")]
    pub minimum_version: u32,
    #[prost(uint32, tag = "7")]
    pub maximum_version: u32,
    #[prost(string, tag = "8")]
    pub ca_source: String,
    #[prost(bool, tag = "9")]
    pub ca_in_config_map: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerCertificate {
    #[prost(bytes = "vec", tag = "1")]
    pub chain: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub private_key: Vec<u8>,
    #[prost(string, tag = "3")]
    pub secret: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ClientCertificates {
    NotAsked = 0,
    Optional = 1,
    Required = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Credential {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub private_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub ca_certificates: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub ca_crl: Vec<u8>,
    #[prost(string, tag = "6")]
    pub problem: String,
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_and_numbers_are_those_of_the_proto_file() {
        let others = [
            ("Abort", "Fault"),
            ("Action", "HttpRule"),
            ("HashKey", "ConsistentHash"),
            ("PathKind", "PathMatch"),
            ("RedirectPath", "Redirect"),
            ("RewritePath", "Rewrite"),
            ("ServerKind", "Server"),
            ("StringKind", "StringMatch"),
            ("Target", "Weighted"),
        ];
        crate::config::proto::tests::assert_same(&["routes.proto"], include_str!("proto.rs"), &others);
    }
}
