//! The resources that the control plane sends: Istio's `istio.workload` and `istio.security` messages and our own
//! `warren.mesh`, with the same field names and numbers. Written by hand, so that a build needs no `protoc`; a field that the tunnel does not read is
//! left out and skipped by the decoder.
//!
//! Longer than other files: one schema, read beside its `.proto`.

use std::collections::HashMap;

/// Type URL of [`Address`].
pub const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of [`Authorization`].
pub const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";
/// Type URL of [`Traffic`].
pub const TRAFFIC: &str = "type.googleapis.com/warren.mesh.Traffic";

/// What is at an address: one workload or one service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    #[prost(oneof = "AddressType", tags = "1, 2")]
    pub r#type: Option<AddressType>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum AddressType {
    #[prost(message, tag = "1")]
    Workload(Box<Workload>),
    #[prost(message, tag = "2")]
    Service(Box<Service>),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Service {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub hostname: String,
    #[prost(message, repeated, tag = "4")]
    pub addresses: Vec<NetworkAddress>,
    #[prost(message, repeated, tag = "5")]
    pub ports: Vec<Port>,
    #[prost(string, repeated, tag = "6")]
    pub subject_alt_names: Vec<String>,
    #[prost(message, optional, tag = "7")]
    pub waypoint: Option<GatewayAddress>,
    #[prost(message, optional, tag = "8")]
    pub load_balancing: Option<LoadBalancing>,
    #[prost(enumeration = "IpFamilies", tag = "9")]
    pub ip_families: i32,
    #[prost(bool, tag = "11")]
    pub canonical: bool,
    #[prost(message, repeated, tag = "13")]
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    #[prost(enumeration = "Visibility", tag = "14")]
    pub visibility: i32,
    /// Of a ServiceEntry.
    #[prost(message, optional, tag = "1000")]
    pub by_name: Option<ByName>,
}

/// The ports at which clients name the service that they mean.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ByName {
    #[prost(uint32, repeated, tag = "1")]
    pub http: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    pub tls: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum IpFamilies {
    Automatic = 0,
    Ipv4Only = 1,
    Ipv6Only = 2,
    Dual = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Visibility {
    Public = 0,
    Namespace = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WeightedWaypoint {
    #[prost(message, optional, tag = "1")]
    pub destination: Option<GatewayAddress>,
    #[prost(uint32, tag = "2")]
    pub weight: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadBalancing {
    #[prost(enumeration = "Scope", repeated, tag = "1")]
    pub routing_preference: Vec<i32>,
    #[prost(enumeration = "Mode", tag = "2")]
    pub mode: i32,
    #[prost(enumeration = "HealthPolicy", tag = "3")]
    pub health_policy: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Scope {
    Unspecified = 0,
    Region = 1,
    Zone = 2,
    Subzone = 3,
    Node = 4,
    Cluster = 5,
    Network = 6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Mode {
    Unspecified = 0,
    Strict = 1,
    Failover = 2,
    Passthrough = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum HealthPolicy {
    OnlyHealthy = 0,
    AllowAll = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Workload {
    #[prost(string, tag = "20")]
    pub uid: String,
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Each 4 or 16 bytes, in network order.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub addresses: Vec<Vec<u8>>,
    #[prost(string, tag = "21")]
    pub hostname: String,
    #[prost(string, tag = "4")]
    pub network: String,
    #[prost(enumeration = "TunnelProtocol", tag = "5")]
    pub tunnel_protocol: i32,
    #[prost(string, tag = "6")]
    pub trust_domain: String,
    #[prost(string, tag = "7")]
    pub service_account: String,
    #[prost(message, optional, tag = "8")]
    pub waypoint: Option<GatewayAddress>,
    #[prost(message, optional, tag = "19")]
    pub network_gateway: Option<GatewayAddress>,
    #[prost(string, tag = "9")]
    pub node: String,
    #[prost(string, tag = "10")]
    pub canonical_name: String,
    #[prost(string, tag = "11")]
    pub canonical_revision: String,
    #[prost(enumeration = "WorkloadType", tag = "12")]
    pub workload_type: i32,
    #[prost(string, tag = "13")]
    pub workload_name: String,
    #[prost(string, repeated, tag = "16")]
    pub authorization_policies: Vec<String>,
    #[prost(enumeration = "WorkloadStatus", tag = "17")]
    pub status: i32,
    #[prost(string, tag = "18")]
    pub cluster_id: String,
    /// Keyed `namespace/hostname`: the services of which this workload is an endpoint.
    #[prost(map = "string, message", tag = "22")]
    pub services: HashMap<String, PortList>,
    #[prost(message, optional, tag = "23")]
    pub application_tunnel: Option<ApplicationTunnel>,
    #[prost(message, optional, tag = "24")]
    pub locality: Option<Locality>,
    #[prost(enumeration = "NetworkMode", tag = "25")]
    pub network_mode: i32,
    /// A `google.protobuf.UInt32Value`.
    #[prost(message, optional, tag = "27")]
    pub capacity: Option<u32>,
    /// Being deleted, and still serving.
    #[prost(bool, tag = "1000")]
    pub draining: bool,
    /// Those that some object of the mesh names.
    #[prost(map = "string, string", tag = "1001")]
    pub labels: HashMap<String, String>,
    /// Of the addresses of `hostname` only the first is used.
    #[prost(bool, tag = "1002")]
    pub logical_dns: bool,
    /// The `warren.telemetry.Telemetry` that selects it.
    #[prost(string, tag = "1003")]
    pub telemetry: String,
    /// Unspecified: its namespace's.
    #[prost(enumeration = "OutboundTrafficPolicy", tag = "1004")]
    pub outbound_traffic_policy: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TunnelProtocol {
    None = 0,
    Hbone = 1,
    LegacyIstioMtls = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum WorkloadType {
    Deployment = 0,
    Cronjob = 1,
    Pod = 2,
    Job = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum WorkloadStatus {
    Healthy = 0,
    Unhealthy = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum NetworkMode {
    Standard = 0,
    HostNetwork = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Locality {
    #[prost(string, tag = "1")]
    pub region: String,
    #[prost(string, tag = "2")]
    pub zone: String,
    #[prost(string, tag = "3")]
    pub subzone: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PortList {
    #[prost(message, repeated, tag = "1")]
    pub ports: Vec<Port>,
}

/// `target_port` 0 in a service: a named port, which each endpoint resolves for itself.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Port {
    #[prost(uint32, tag = "1")]
    pub service_port: u32,
    #[prost(uint32, tag = "2")]
    pub target_port: u32,
    #[prost(enumeration = "AppProtocol", tag = "3")]
    pub app_protocol: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AppProtocol {
    Unknown = 0,
    Http11 = 1,
    Http2 = 2,
    Grpc = 3,
    Tcp = 4,
    Tls = 5,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ApplicationTunnel {
    #[prost(enumeration = "ApplicationTunnelProtocol", tag = "1")]
    pub protocol: i32,
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ApplicationTunnelProtocol {
    None = 0,
    Proxy = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GatewayAddress {
    #[prost(oneof = "GatewayDestination", tags = "1, 2")]
    pub destination: Option<GatewayDestination>,
    #[prost(uint32, tag = "3")]
    pub hbone_mtls_port: u32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum GatewayDestination {
    #[prost(message, tag = "1")]
    Hostname(NamespacedHostname),
    #[prost(message, tag = "2")]
    Address(NetworkAddress),
}

/// `length`, where given and shorter than the address, makes it a prefix.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NetworkAddress {
    #[prost(string, tag = "1")]
    pub network: String,
    #[prost(bytes = "vec", tag = "2")]
    pub address: Vec<u8>,
    #[prost(uint32, optional, tag = "3")]
    pub length: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NamespacedHostname {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(string, tag = "2")]
    pub hostname: String,
}

/// One authorization policy: rules are OR-ed, their clauses AND-ed, a clause's matches OR-ed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Authorization {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(enumeration = "PolicyScope", tag = "3")]
    pub scope: i32,
    #[prost(enumeration = "Action", tag = "4")]
    pub action: i32,
    #[prost(message, repeated, tag = "5")]
    pub rules: Vec<Rule>,
    #[prost(bool, tag = "6")]
    pub dry_run: bool,
    #[prost(string, tag = "1000")]
    pub refused: String,
    #[prost(message, repeated, tag = "1001")]
    pub jwt_rules: Vec<JwtRule>,
    #[prost(message, optional, tag = "1002")]
    pub authorizer: Option<Authorizer>,
}

/// Who is asked in the place of denying.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Authorizer {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub remote: Option<Remote>,
    #[prost(bool, tag = "3")]
    pub fail_open: bool,
    #[prost(uint32, tag = "4")]
    pub status_on_error: u32,
    #[prost(message, optional, tag = "5")]
    pub http: Option<HttpAuthorizer>,
}

/// How it is asked in HTTP.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpAuthorizer {
    #[prost(string, tag = "1")]
    pub path_prefix: String,
    #[prost(message, repeated, tag = "2")]
    pub request_headers: Vec<StringMatch>,
    #[prost(map = "string, string", tag = "3")]
    pub additional_headers: HashMap<String, String>,
    #[prost(message, repeated, tag = "4")]
    pub to_upstream: Vec<StringMatch>,
    #[prost(message, repeated, tag = "5")]
    pub to_downstream_on_deny: Vec<StringMatch>,
    #[prost(message, repeated, tag = "6")]
    pub to_downstream_on_allow: Vec<StringMatch>,
}

/// A port of a service that the tunnel itself calls.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Remote {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(string, tag = "2")]
    pub hostname: String,
    #[prost(uint32, tag = "3")]
    pub port: u32,
    #[prost(uint64, tag = "4")]
    pub timeout_ms: u64,
    #[prost(string, tag = "5")]
    pub problem: String,
}

/// How often what a rule matches may come.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RateLimit {
    #[prost(uint64, tag = "1")]
    pub requests: u64,
    #[prost(enumeration = "Unit", tag = "2")]
    pub unit: i32,
    #[prost(uint64, tag = "3")]
    pub burst: u64,
    #[prost(message, repeated, tag = "4")]
    pub by: Vec<Descriptor>,
    #[prost(message, optional, tag = "5")]
    pub shared: Option<SharedLimit>,
    #[prost(message, optional, tag = "6")]
    pub connections: Option<ConnectionLimit>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectionLimit {
    #[prost(uint32, tag = "1")]
    pub concurrent: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Descriptor {
    #[prost(enumeration = "Subject", tag = "1")]
    pub subject: i32,
    #[prost(string, repeated, tag = "2")]
    pub path: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SharedLimit {
    #[prost(message, optional, tag = "1")]
    pub remote: Option<Remote>,
    #[prost(string, tag = "2")]
    pub domain: String,
    #[prost(bool, tag = "3")]
    pub fail_open: bool,
    #[prost(uint32, tag = "4")]
    pub hits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Unit {
    Unspecified = 0,
    Second = 1,
    Minute = 2,
    Hour = 3,
    Day = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Subject {
    Constant = 0,
    SourcePrincipal = 1,
    SourceNamespace = 2,
    SourceIp = 3,
    RemoteIp = 4,
    RequestHost = 5,
    RequestMethod = 6,
    RequestPath = 7,
    RequestHeader = 8,
    TokenPrincipal = 9,
    TokenClaim = 10,
}

/// Which tokens of requests are valid.
#[derive(Clone, PartialEq, prost::Message)]
pub struct JwtRule {
    #[prost(string, tag = "1")]
    pub issuer: String,
    #[prost(string, repeated, tag = "2")]
    pub audiences: Vec<String>,
    #[prost(string, tag = "3")]
    pub jwks: String,
    #[prost(message, repeated, tag = "4")]
    pub from_headers: Vec<JwtHeader>,
    #[prost(string, repeated, tag = "5")]
    pub from_params: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    pub from_cookies: Vec<String>,
    #[prost(string, tag = "7")]
    pub output_payload_to_header: String,
    #[prost(message, repeated, tag = "8")]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    #[prost(bool, tag = "9")]
    pub forward_original_token: bool,
    #[prost(string, repeated, tag = "10")]
    pub space_delimited_claims: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct JwtHeader {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub prefix: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ClaimToHeader {
    #[prost(string, tag = "1")]
    pub header: String,
    #[prost(string, tag = "2")]
    pub claim: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PolicyScope {
    Global = 0,
    Namespace = 1,
    WorkloadSelector = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Action {
    Allow = 0,
    Deny = 1,
    /// Told of, never enforced.
    Audit = 2,
    /// What matches is counted.
    Limit = 3,
}

impl Action {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
            Action::Audit => "AUDIT",
            Action::Limit => "LIMIT",
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Rule {
    #[prost(message, repeated, tag = "1")]
    pub clauses: Vec<Clause>,
    #[prost(string, tag = "1000")]
    pub unjudged: String,
    #[prost(message, optional, tag = "1001")]
    pub request: Option<RequestRule>,
    #[prost(message, optional, tag = "1002")]
    pub limit: Option<RateLimit>,
}

/// A rule as it is judged where requests are seen.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestRule {
    #[prost(message, repeated, tag = "1")]
    pub clauses: Vec<RequestClause>,
    #[prost(string, tag = "2")]
    pub unjudged: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestClause {
    #[prost(message, repeated, tag = "1")]
    pub matches: Vec<RequestMatch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestMatch {
    #[prost(message, optional, tag = "1")]
    pub connection: Option<Match>,
    #[prost(message, repeated, tag = "2")]
    pub tests: Vec<RequestTest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestTest {
    #[prost(enumeration = "RequestAttribute", tag = "1")]
    pub attribute: i32,
    #[prost(string, repeated, tag = "2")]
    pub path: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub values: Vec<StringMatch>,
    #[prost(message, repeated, tag = "4")]
    pub ranges: Vec<Prefix>,
    #[prost(bool, tag = "5")]
    pub negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RequestAttribute {
    Unspecified = 0,
    Host = 1,
    Method = 2,
    Path = 3,
    Header = 4,
    RemoteAddress = 5,
    RequestPrincipal = 6,
    Audience = 7,
    Presenter = 8,
    Claim = 9,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Clause {
    #[prost(message, repeated, tag = "2")]
    pub matches: Vec<Match>,
}

/// Values of one field are OR-ed, the fields AND-ed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Match {
    #[prost(message, repeated, tag = "1")]
    pub namespaces: Vec<StringMatch>,
    #[prost(message, repeated, tag = "2")]
    pub not_namespaces: Vec<StringMatch>,
    #[prost(message, repeated, tag = "3")]
    pub principals: Vec<StringMatch>,
    #[prost(message, repeated, tag = "4")]
    pub not_principals: Vec<StringMatch>,
    #[prost(message, repeated, tag = "5")]
    pub source_ips: Vec<Prefix>,
    #[prost(message, repeated, tag = "6")]
    pub not_source_ips: Vec<Prefix>,
    #[prost(message, repeated, tag = "7")]
    pub destination_ips: Vec<Prefix>,
    #[prost(message, repeated, tag = "8")]
    pub not_destination_ips: Vec<Prefix>,
    #[prost(uint32, repeated, tag = "9")]
    pub destination_ports: Vec<u32>,
    #[prost(uint32, repeated, tag = "10")]
    pub not_destination_ports: Vec<u32>,
    #[prost(message, repeated, tag = "11")]
    pub service_accounts: Vec<ServiceAccountMatch>,
    #[prost(message, repeated, tag = "12")]
    pub not_service_accounts: Vec<ServiceAccountMatch>,
}

/// `istio.security.Address`: an address and the length of its prefix.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Prefix {
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceAccountMatch {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(string, tag = "2")]
    pub service_account: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StringMatch {
    #[prost(oneof = "MatchType", tags = "1, 2, 3, 4, 1000")]
    pub match_type: Option<MatchType>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum MatchType {
    #[prost(string, tag = "1")]
    Exact(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    Suffix(String),
    #[prost(message, tag = "4")]
    Presence(()),
    #[prost(string, tag = "1000")]
    Template(String),
}

/// What holds for a namespace, for the mesh where it is empty.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Traffic {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(enumeration = "OutboundTrafficPolicy", tag = "2")]
    pub outbound_traffic_policy: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum OutboundTrafficPolicy {
    Unspecified = 0,
    AllowAny = 1,
    RegistryOnly = 2,
}

#[cfg(test)]
pub mod tests {
    use std::collections::{HashMap, HashSet};
    use std::path::Path;

    /// Message or enum, field or value, number. Names are compared without case and underscores.
    type Entry = (String, String, String);

    fn folded(name: &str) -> String {
        name.replace('_', "").to_lowercase()
    }

    /// What the `.proto` files say, which the Python side is generated from. Fields of a oneof are its message's.
    fn in_proto_files(files: &[&str]) -> HashSet<Entry> {
        let (mut entries, mut within) = (HashSet::new(), vec![]);
        for file in files {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocols").join(file);
            for line in std::fs::read_to_string(path).unwrap().lines().map(str::trim) {
                let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
                match words[..] {
                    ["message" | "enum", name, "{"] => within.push(folded(name)),
                    ["oneof", _, "{"] => within.push(within.last().unwrap().clone()),
                    ["}"] => drop(within.pop()),
                    [.., name, "=", number] if !within.is_empty() => {
                        entries.insert((within.last().unwrap().clone(), folded(name), number.to_owned()));
                    }
                    _ => {}
                }
            }
        }
        entries
    }

    /// What a Rust file says; `others` gives the `.proto` file's name for what has another one here.
    fn in_source(source: &str, others: &[(&str, &str)]) -> HashSet<Entry> {
        let others: HashMap<_, _> = others.iter().copied().collect();
        let (mut entries, mut within, mut tag) = (HashSet::new(), String::new(), None);
        let source = source.split("#[cfg(test)]").next().unwrap();
        for line in source.lines().map(str::trim) {
            let words: Vec<&str> = line.split([' ', ':', '(', ',']).filter(|word| !word.is_empty()).collect();
            match words[..] {
                ["pub", "struct" | "enum", name, "{"] => within = folded(others.get(name).unwrap_or(&name)),
                [name, "=", number] => drop(entries.insert((within.clone(), folded(name), number.to_owned()))),
                ["pub", name, ..] | [name, ..] if tag.is_some() => {
                    entries.extend(tag.take().map(|tag| (within.clone(), folded(name), tag)));
                }
                _ => tag = line.split_once(" tag = \"").map(|(_, tag)| tag.trim_end_matches("\")]").to_owned()),
            }
        }
        entries
    }

    /// Fields and numbers in a Rust file are those of the `.proto` files.
    pub fn assert_same(files: &[&str], source: &str, others: &[(&str, &str)]) {
        let (expected, found) = (in_proto_files(files), in_source(source, others));
        assert!(found.len() > 80, "{}", found.len());
        for (within, name, number) in found {
            // `UNSPECIFIED_MODE` is `Unspecified` here.
            let same = |entry: &&Entry| entry.0 == within && entry.1.starts_with(&name) && entry.2 == number;
            assert!(expected.iter().any(|entry| same(&entry)), "{within}.{name} = {number}");
        }
    }

    #[test]
    fn fields_and_numbers_are_those_of_the_proto_files() {
        let others = [
            ("AddressType", "Address"),
            ("ApplicationTunnelProtocol", "Protocol"),
            ("GatewayDestination", "GatewayAddress"),
            ("MatchType", "StringMatch"),
            ("PolicyScope", "Scope"),
            ("Prefix", "Address"),
        ];
        assert_same(&["workload.proto", "security.proto", "mesh.proto"], include_str!("proto.rs"), &others);
    }
}
