//! Destinations with the policies under which they are reached.
//!
//! Longer than other files: each policy is decoded beside what it is.

use std::sync::Arc;
use std::time::Duration;

use super::labels::Labels;
use super::proto;
use super::within::{each, Within};
use crate::base::dns_name;

/// A service's port, or a subset of its endpoints, as clients of a scope reach it. Equal ones may share connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// `namespace/hostname:port`, with `|subset` where it is one: by this what is known of it is found.
    pub name: Arc<str>,
    /// `namespace/hostname`.
    pub service: Arc<str>,
    pub port: u16,
    /// Empty: all endpoints.
    pub subset: Arc<str>,
    /// Endpoints have all of them.
    pub labels: Labels,
    pub policy: Policy,
    /// "DestinationRule default/reviews"; empty: no object's.
    pub origin: Arc<str>,
    /// Its port speaks HTTP/2.
    pub http2: bool,
}

/// What a DestinationRule says of a destination, its defaults filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    pub balancing: Balancing,
    pub warmup: Option<Warmup>,
    pub locality: Option<Locality>,
    pub pool: ConnectionPool,
    /// None: no endpoint is ejected.
    pub outliers: Option<OutlierDetection>,
    /// None: HBONE where the endpoint is in the mesh, else plain text.
    pub tls: Option<Tls>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub tunnel: Option<Tunnel>,
    pub retry_budget: Option<RetryBudget>,
}

impl Policy {
    /// Whether it asks more of a connection than to be made to one of the endpoints.
    pub fn governs_connections(&self) -> bool {
        let limited = self.pool != ConnectionPool::default();
        self.has_layers() || limited || self.outliers.is_some() || self.warmup.is_some()
    }

    /// Whether something comes between an endpoint and what is sent to it.
    pub fn has_layers(&self) -> bool {
        self.originate().is_some() || self.proxy_protocol.is_some() || self.tunnel.is_some()
    }

    /// Whether connections made under another policy may serve this one.
    pub fn has_layers_of(&self, other: &Policy) -> bool {
        (&self.tls, self.proxy_protocol, &self.tunnel) == (&other.tls, other.proxy_protocol, &other.tunnel)
    }

    /// How TLS is begun, where it is.
    pub fn originate(&self) -> Option<&Originate> {
        match &self.tls {
            Some(Tls::Originate(originate)) => Some(originate),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balancing {
    /// Power of two choices.
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    /// The address that the client called.
    Passthrough,
    /// The addresses of the host that the client names.
    DynamicDns,
    Hash {
        key: HashKey,
        table: HashTable,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    Header(http::HeaderName),
    Cookie(Cookie),
    SourceIp,
    Query(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    /// With so many points at least.
    Ring(u64),
    /// A prime.
    Maglev(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    pub name: Arc<str>,
    pub path: Arc<str>,
    /// None: none is made where it is missing; zero: one of the session.
    pub ttl: Option<Duration>,
    /// Names, with values where they have one.
    pub attributes: Arc<[(Box<str>, Box<str>)]>,
}

/// A new endpoint's share after a time t is max(minimum, (t / duration) ^ (1 / aggression)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    pub duration: Duration,
    /// Of a million.
    pub minimum_parts: u32,
    pub aggression: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    pub distribute: Arc<[Distribute]>,
    pub failover: bool,
    /// A region and the one that follows it.
    pub failovers: Arc<[(Box<str>, Box<str>)]>,
    pub priority: Arc<[PriorityKey]>,
}

/// A label that an endpoint has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorityKey {
    pub key: Box<str>,
    /// None: the client's own.
    pub value: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribute {
    pub from: Box<str>,
    /// Localities with percents, sorted by name.
    pub to: Box<[(Box<str>, u32)]>,
}

/// Limits are None where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    pub max_connections: Option<u32>,
    pub connect_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub tcp_idle_timeout: Option<Duration>,
    pub keepalive: Option<Keepalive>,
    pub http1_max_pending_requests: Option<u32>,
    pub http2_max_requests: Option<u32>,
    pub max_requests_per_connection: Option<u32>,
    pub max_retries: Option<u32>,
    pub http_idle_timeout: Option<Duration>,
    pub max_concurrent_streams: Option<u32>,
    pub upstream_protocol: UpstreamProtocol,
}

pub use proto::UpstreamProtocol;

/// None: the system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// Counts are None where they are off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    pub consecutive_5xx: Option<u32>,
    pub consecutive_gateway_errors: Option<u32>,
    /// Some: failures to connect count by themselves.
    pub consecutive_local_origin_failures: Option<u32>,
    pub interval: Duration,
    pub base_ejection: Duration,
    pub max_ejection_percent: u32,
    pub min_health_percent: u32,
    /// What counts as a failure in place of 5xx; empty: 5xx.
    pub error_statuses: Arc<[u16]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    Disable,
    /// HBONE, which is how the mesh speaks anyway.
    IstioMutual,
    Originate(Arc<Originate>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Originate {
    /// Whether we show a certificate.
    pub mutual: bool,
    /// The [`super::Credential`]'s name; empty: none is needed, the system's roots count.
    credential: Box<str>,
    /// Empty: the server's own name.
    pub subject_alt_names: Box<[Box<str>]>,
    /// Empty: the request's host, or the destination's.
    pub sni: Box<str>,
    pub insecure_skip_verify: bool,
}

impl Originate {
    /// The name of the credential that clients of a namespace use; None: none.
    pub fn credential(&self, namespace: &str) -> Option<String> {
        match self.credential.strip_prefix("Secret/") {
            Some(name) => Some(format!("Secret/{namespace}/{name}")),
            None => Some(self.credential.to_string()).filter(|name| !name.is_empty()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    V1,
    V2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub method: Box<str>,
    pub host: Box<str>,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of a million active requests.
    pub parts: u32,
    pub min_retry_concurrency: u32,
    pub interval: Duration,
}

/// 0 is none.
pub(super) fn milliseconds(sent: u64) -> Option<Duration> {
    (sent != 0).then(|| Duration::from_millis(sent))
}

fn limit(sent: u32) -> Option<u32> {
    (sent != 0).then_some(sent)
}

pub(super) fn parts(sent: u32) -> Result<u32, String> {
    (sent <= super::MILLION).then_some(sent).ok_or_else(|| format!("{sent} parts are more than a million"))
}

fn percent(sent: u32) -> Result<u32, String> {
    (sent <= 100).then_some(sent).ok_or_else(|| format!("{sent} percent are more than 100"))
}

pub(super) fn port(sent: u32) -> Result<u16, String> {
    super::matching::port(sent)?.ok_or_else(|| "no port".to_owned())
}

impl Destination {
    /// All endpoints of a service, without any policy.
    pub fn of(service: Arc<str>, port: u16) -> Destination {
        Destination {
            name: name(&service, port, ""),
            service,
            port,
            subset: Arc::default(),
            labels: Labels::default(),
            policy: Policy::default(),
            origin: Arc::default(),
            http2: false,
        }
    }

    /// What DNS is to be asked for clients that name a host, in lower case. None: this is not for DNS, or the host is not one
    /// of its service's.
    pub fn name_of(&self, host: &str) -> Option<String> {
        if self.policy.balancing != Balancing::DynamicDns {
            return None;
        }
        let suffix = self.service.split_once("/*")?.1;
        dns_name(host).filter(|name| name.len() > suffix.len() && name.ends_with(suffix))
    }

    pub fn decode(sent: &proto::Destination) -> Result<Destination, String> {
        if sent.namespace.is_empty() || sent.hostname.is_empty() {
            return Err("no namespace or no hostname".to_owned());
        }
        let service: Arc<str> = format!("{}/{}", sent.namespace, sent.hostname).into();
        let port = port(sent.port)?;
        Ok(Destination {
            name: name(&service, port, &sent.subset),
            service,
            port,
            subset: sent.subset.as_str().into(),
            labels: Labels::from(&sent.labels),
            policy: sent.policy.as_ref().map(Policy::decode).transpose().within("policy")?.unwrap_or_default(),
            origin: sent.origin.as_str().into(),
            http2: sent.http2,
        })
    }
}

fn name(service: &str, port: u16, subset: &str) -> Arc<str> {
    match subset {
        "" => format!("{service}:{port}").into(),
        subset => format!("{service}:{port}|{subset}").into(),
    }
}

impl Policy {
    fn decode(sent: &proto::Policy) -> Result<Policy, String> {
        let balancer = sent.load_balancer.clone().unwrap_or_default();
        Ok(Policy {
            balancing: balancing(&balancer).within("load_balancer")?,
            warmup: balancer.warmup.as_ref().map(warmup).transpose().within("warmup")?,
            locality: balancer.locality.as_ref().map(locality).transpose().within("locality")?,
            pool: sent.connection_pool.as_ref().map(pool).transpose().within("connection_pool")?.unwrap_or_default(),
            outliers: sent.outlier_detection.as_ref().map(outliers).transpose().within("outlier_detection")?,
            tls: sent.tls.as_ref().map(tls).transpose().within("tls")?,
            proxy_protocol: proxy_protocol(sent.proxy_protocol)?,
            tunnel: sent.tunnel.as_ref().map(tunnel).transpose().within("tunnel")?,
            retry_budget: sent.retry_budget.as_ref().map(retry_budget).transpose().within("retry_budget")?,
        })
    }
}

fn balancing(sent: &proto::LoadBalancer) -> Result<Balancing, String> {
    if let Some(hash) = &sent.consistent_hash {
        return Ok(Balancing::Hash { key: hash_key(hash).within("consistent_hash")?, table: hash_table(hash)? });
    }
    let algorithm = proto::Algorithm::try_from(sent.algorithm);
    Ok(match algorithm.map_err(|_| format!("algorithm {} is unknown", sent.algorithm))? {
        proto::Algorithm::LeastRequest => Balancing::LeastRequest,
        proto::Algorithm::RoundRobin => Balancing::RoundRobin,
        proto::Algorithm::Random => Balancing::Random,
        proto::Algorithm::Passthrough => Balancing::Passthrough,
        proto::Algorithm::DynamicDns => Balancing::DynamicDns,
    })
}

fn hash_key(sent: &proto::ConsistentHash) -> Result<HashKey, String> {
    Ok(match sent.key.as_ref().ok_or("no key")? {
        proto::HashKey::Header(name) => {
            HashKey::Header(name.as_str().try_into().map_err(|_| format!("'{name}' is no name of a header"))?)
        }
        proto::HashKey::Cookie(cookie) => HashKey::Cookie(Cookie {
            name: cookie.name.as_str().into(),
            path: cookie.path.as_str().into(),
            ttl: cookie.ttl_ms.map(Duration::from_millis),
            attributes: cookie
                .attributes
                .iter()
                .map(|one| (one.name.as_str().into(), one.value.as_str().into()))
                .collect(),
        }),
        proto::HashKey::SourceIp(_) => HashKey::SourceIp,
        proto::HashKey::Query(name) => HashKey::Query(name.as_str().into()),
    })
}

/// Both are held in memory by each tunnel.
const LARGEST_RING: u64 = 8 << 20;
const LARGEST_MAGLEV: u64 = 5_000_011;

fn hash_table(sent: &proto::ConsistentHash) -> Result<HashTable, String> {
    match (sent.minimum_ring_size, sent.maglev_table_size) {
        (0, 0) => Ok(HashTable::Ring(1024)),
        (size @ 1..=LARGEST_RING, 0) => Ok(HashTable::Ring(size)),
        (0, size @ 2..=LARGEST_MAGLEV) if is_prime(size) => Ok(HashTable::Maglev(size)),
        (ring, maglev) => Err(format!("sizes {ring} (ring) and {maglev} (maglev) are out of range")),
    }
}

fn is_prime(number: u64) -> bool {
    (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| number % divisor != 0)
}

fn warmup(sent: &proto::Warmup) -> Result<Warmup, String> {
    let aggression = Some(sent.aggression).filter(|aggression| *aggression > 0.0 && aggression.is_finite());
    Ok(Warmup {
        duration: milliseconds(sent.duration_ms).ok_or("no duration")?,
        minimum_parts: parts(sent.minimum_parts)?,
        aggression: aggression.ok_or_else(|| format!("aggression {} is out of range", sent.aggression))?,
    })
}

fn locality(sent: &proto::Locality) -> Result<Locality, String> {
    let key = |sent: &String| match sent.split_once('=') {
        Some((key, value)) => PriorityKey { key: key.into(), value: Some(value.into()) },
        None => PriorityKey { key: sent.as_str().into(), value: None },
    };
    Ok(Locality {
        distribute: each::<_, _, Vec<_>>("distribute", &sent.distribute, distribute)?.into(),
        failover: sent.failover,
        failovers: sent.failovers.iter().map(|one| (one.from.as_str().into(), one.to.as_str().into())).collect(),
        priority: sent.priority.iter().map(key).collect(),
    })
}

fn distribute(sent: &proto::Distribute) -> Result<Distribute, String> {
    let sum: u64 = sent.to.values().map(|share| u64::from(*share)).sum();
    if sum != 100 {
        return Err(format!("shares sum to {sum}, not 100"));
    }
    let mut to: Vec<_> = sent.to.iter().map(|(locality, share)| (locality.as_str().into(), *share)).collect();
    to.sort_unstable();
    Ok(Distribute { from: sent.from.as_str().into(), to: to.into() })
}

fn pool(sent: &proto::ConnectionPool) -> Result<ConnectionPool, String> {
    let upstream_protocol = UpstreamProtocol::try_from(sent.upstream_protocol);
    Ok(ConnectionPool {
        max_connections: limit(sent.max_connections),
        connect_timeout: milliseconds(sent.connect_timeout_ms),
        max_connection_duration: milliseconds(sent.max_connection_duration_ms),
        tcp_idle_timeout: milliseconds(sent.tcp_idle_timeout_ms),
        keepalive: sent.tcp_keepalive.as_ref().map(|sent| Keepalive {
            probes: limit(sent.probes),
            time: milliseconds(sent.time_ms),
            interval: milliseconds(sent.interval_ms),
        }),
        http1_max_pending_requests: limit(sent.http1_max_pending_requests),
        http2_max_requests: limit(sent.http2_max_requests),
        max_requests_per_connection: limit(sent.max_requests_per_connection),
        max_retries: limit(sent.max_retries),
        http_idle_timeout: milliseconds(sent.http_idle_timeout_ms),
        max_concurrent_streams: limit(sent.max_concurrent_streams),
        upstream_protocol: upstream_protocol.map_err(|_| format!("protocol {} is unknown", sent.upstream_protocol))?,
    })
}

fn outliers(sent: &proto::OutlierDetection) -> Result<OutlierDetection, String> {
    let statuses = each::<_, _, Vec<_>>("error_statuses", &sent.error_statuses, |status| super::rule::status(*status));
    Ok(OutlierDetection {
        consecutive_5xx: limit(sent.consecutive_5xx),
        consecutive_gateway_errors: limit(sent.consecutive_gateway_errors),
        consecutive_local_origin_failures: sent.split_local_origin.then_some(sent.consecutive_local_origin_failures),
        interval: milliseconds(sent.interval_ms).ok_or("no interval")?,
        base_ejection: milliseconds(sent.base_ejection_ms).ok_or("no base ejection time")?,
        max_ejection_percent: percent(sent.max_ejection_percent)?,
        min_health_percent: percent(sent.min_health_percent)?,
        error_statuses: statuses?.iter().map(|status| status.as_u16()).collect(),
    })
}

fn tls(sent: &proto::Tls) -> Result<Tls, String> {
    let originate = |mutual| {
        Tls::Originate(Arc::new(Originate {
            mutual,
            credential: sent.credential.as_str().into(),
            subject_alt_names: sent.subject_alt_names.iter().map(|name| name.as_str().into()).collect(),
            sni: sent.sni.as_str().into(),
            insecure_skip_verify: sent.insecure_skip_verify,
        }))
    };
    match proto::TlsMode::try_from(sent.mode).map_err(|_| format!("mode {} is unknown", sent.mode))? {
        proto::TlsMode::Disable => Ok(Tls::Disable),
        proto::TlsMode::IstioMutual => Ok(Tls::IstioMutual),
        proto::TlsMode::Simple => Ok(originate(false)),
        proto::TlsMode::Mutual if sent.credential.is_empty() => Err("mode MUTUAL without a certificate".to_owned()),
        proto::TlsMode::Mutual => Ok(originate(true)),
    }
}

fn proxy_protocol(sent: i32) -> Result<Option<ProxyProtocol>, String> {
    Ok(match proto::ProxyProtocol::try_from(sent).map_err(|_| format!("proxy protocol {sent} is unknown"))? {
        proto::ProxyProtocol::NoProxyProtocol => None,
        proto::ProxyProtocol::V1 => Some(ProxyProtocol::V1),
        proto::ProxyProtocol::V2 => Some(ProxyProtocol::V2),
    })
}

fn tunnel(sent: &proto::Tunnel) -> Result<Tunnel, String> {
    match &*sent.method {
        "CONNECT" | "POST" if !sent.host.is_empty() => {
            Ok(Tunnel { method: sent.method.as_str().into(), host: sent.host.as_str().into(), port: port(sent.port)? })
        }
        method => Err(format!("method '{method}' is neither CONNECT nor POST, or there is no host")),
    }
}

fn retry_budget(sent: &proto::RetryBudget) -> Result<RetryBudget, String> {
    Ok(RetryBudget {
        parts: parts(sent.parts)?,
        min_retry_concurrency: sent.min_retry_concurrency,
        interval: Duration::from_millis(sent.interval_ms),
    })
}
