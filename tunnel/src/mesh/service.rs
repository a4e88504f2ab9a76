//! A service: a name and addresses for a group of workloads (`istio.workload.Service`).

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, OnceLock};

use super::hosts::NamedIn;
use super::intern::Interners;
use super::{Mesh, Workload};
use crate::base::address::{from_bytes, NetworkAddress, Prefix};
use crate::base::Identity;
use crate::config::{proto, Version};
use crate::routes::PortRoutes;

/// A service's key, `<namespace>/<hostname>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey(Arc<str>);

impl ServiceKey {
    pub fn parse(text: &str, names: &mut Interners) -> Result<ServiceKey, String> {
        match text.split_once('/') {
            Some((_, host)) if !host.is_empty() && !host.contains('/') => Ok(ServiceKey(names.string(text))),
            _ => Err(format!("{text:?} is not of the form namespace/hostname")),
        }
    }

    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn hostname(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, hostname)| hostname)
    }

    pub fn text(&self) -> &Arc<str> {
        &self.0
    }
}

impl Borrow<str> for ServiceKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A port of a service and what it is on an endpoint; target 0: each endpoint says so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortMapping {
    pub service: u16,
    pub target: u16,
    /// Whether its application protocol is HTTP/1.1, HTTP/2 or gRPC.
    pub http: bool,
}

/// A proxy that traffic has to pass: a waypoint, or the gateway of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub destination: GatewayDestination,
    /// Port at which it takes HBONE, of the service where the destination is one.
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayDestination {
    Service(ServiceKey),
    Address(NetworkAddress),
}

impl Gateway {
    pub fn decode(message: &proto::GatewayAddress, names: &mut Interners) -> Result<Gateway, String> {
        let destination = match &message.destination {
            Some(proto::GatewayDestination::Hostname(host)) => {
                let key = format!("{}/{}", host.namespace, host.hostname);
                GatewayDestination::Service(ServiceKey::parse(&key, names)?)
            }
            Some(proto::GatewayDestination::Address(sent)) => GatewayDestination::Address(NetworkAddress {
                network: names.string(&sent.network),
                ip: from_bytes(&sent.address)?,
            }),
            None => return Err("a gateway has no destination".to_owned()),
        };
        match port(message.hbone_mtls_port)? {
            0 => Err("a gateway has no hbone_mtls_port".to_owned()),
            port => Ok(Gateway { destination, port }),
        }
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balancing {
    /// At random, by capacity.
    Standard,
    /// The connection keeps the address that it asked for.
    Passthrough,
    /// Among those that share most of these scopes with the client, in this order.
    Nearest { scopes: Box<[Scope]>, strict: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Region,
    Zone,
    Subzone,
    Node,
    Cluster,
    Network,
}

/// One service.
#[derive(Debug, PartialEq)]
pub struct Service {
    pub key: ServiceKey,
    pub version: Version,
    pub name: Arc<str>,
    pub vips: Box<[NetworkAddress]>,
    /// Prefixes of more than one address, each with its network.
    pub prefixes: Box<[(Arc<str>, Prefix)]>,
    /// In the order of the service's port.
    pub ports: Box<[PortMapping]>,
    /// Identities accepted besides the endpoint's own.
    pub identities: Arc<[Identity]>,
    pub waypoint: Option<Gateway>,
    /// With their weights; takes precedence over `waypoint` where a weight is not 0.
    pub weighted_waypoints: Box<[(Gateway, u32)]>,
    pub balancing: Balancing,
    /// Whether unhealthy endpoints are used too.
    pub allow_unhealthy: bool,
    pub ip_families: proto::IpFamilies,
    pub canonical: bool,
    /// Hidden from other namespaces.
    pub private: bool,
    /// Of a ServiceEntry: its ports at which clients name it, and in what.
    pub named: Option<Box<[(u16, NamedIn)]>>,
    forwarding: Forwarding,
}

/// For requests that nobody routes and somebody looks at: made when the first comes.
#[derive(Debug, Default)]
struct Forwarding(OnceLock<Box<[Arc<PortRoutes>]>>);

impl PartialEq for Forwarding {
    /// It is made of the rest.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Where connections are said to end that must not leave the mesh: Istio's name for it, a service without endpoints.
pub static BLACK_HOLE: LazyLock<Arc<Service>> = LazyLock::new(|| {
    let name = "BlackHoleCluster".to_owned();
    let message = proto::Service { hostname: name.clone(), name, ..Default::default() };
    Arc::new(Service::decode(&message, "".into(), &mut Interners::default()).expect("it has a hostname and no address"))
});

impl Service {
    pub fn decode(message: &proto::Service, version: Version, names: &mut Interners) -> Result<Service, String> {
        let key = ServiceKey::parse(&format!("{}/{}", message.namespace, message.hostname), names)?;
        let (vips, prefixes) = addresses(message, names)?;
        let balancing = message.load_balancing.clone().unwrap_or_default();
        Ok(Service {
            key,
            version,
            name: names.string(&message.name),
            vips,
            prefixes,
            ports: decode_ports(&message.ports)?.into(),
            identities: identities(message),
            waypoint: message.waypoint.as_ref().map(|sent| Gateway::decode(sent, names)).transpose()?,
            weighted_waypoints: weighted_waypoints(message, names)?,
            allow_unhealthy: proto::HealthPolicy::try_from(balancing.health_policy)
                == Ok(proto::HealthPolicy::AllowAll),
            balancing: Balancing::decode(&balancing)?,
            ip_families: proto::IpFamilies::try_from(message.ip_families)
                .map_err(|_| format!("ip_families {} is unknown", message.ip_families))?,
            canonical: message.canonical,
            private: proto::Visibility::try_from(message.visibility) == Ok(proto::Visibility::Namespace),
            named: message.by_name.as_ref().map(named).transpose()?,
            forwarding: Forwarding::default(),
        })
    }

    /// The port on an endpoint for a port of this service; `None`: not a port of it, or each endpoint's own.
    pub fn target_port(&self, port: u16) -> Option<u16> {
        target(&self.ports, port)
    }

    /// Routes of a port of HTTP that take each request where its connection would go.
    pub fn forwarding(&self, port: u16) -> Option<&Arc<PortRoutes>> {
        let of_http = self.ports.iter().filter(|port| port.http);
        let make = |port: &PortMapping| PortRoutes::forwarding(self.key.namespace(), self.key.hostname(), port.service);
        let all = self.forwarding.0.get_or_init(|| of_http.map(make).map(Arc::new).collect());
        all.iter().find(|routes| routes.port == port)
    }

    pub fn visible_from(&self, namespace: &str) -> bool {
        !self.private || self.key.namespace() == namespace
    }

    pub fn allows_family_of(&self, ip: IpAddr) -> bool {
        match self.ip_families {
            proto::IpFamilies::Ipv4Only => ip.is_ipv4(),
            proto::IpFamilies::Ipv6Only => ip.is_ipv6(),
            proto::IpFamilies::Automatic | proto::IpFamilies::Dual => true,
        }
    }
}

/// The target of a port in a list; 0 is none.
pub fn target(ports: &[PortMapping], port: u16) -> Option<u16> {
    ports.iter().find(|mapping| mapping.service == port).map(|mapping| mapping.target).filter(|target| *target != 0)
}

/// Ports in order.
pub fn decode_ports(sent: &[proto::Port]) -> Result<Vec<PortMapping>, String> {
    let decoded = sent.iter().map(|sent| {
        let (service, target) = (port(sent.service_port)?, port(sent.target_port)?);
        Ok(PortMapping { service, target, http: is_http(sent.app_protocol) })
    });
    let mut ports = decoded.collect::<Result<Vec<_>, String>>()?;
    ports.sort_unstable();
    Ok(ports)
}

fn named(sent: &proto::ByName) -> Result<Box<[(u16, NamedIn)]>, String> {
    let hosts = sent.http.iter().map(|number| (*number, NamedIn::Host));
    let hellos = sent.tls.iter().map(|number| (*number, NamedIn::Sni));
    hosts.chain(hellos).map(|(number, by)| Ok((port(number)?, by))).collect()
}

/// What the control plane does not know, and what it has added since, is not HTTP.
fn is_http(protocol: i32) -> bool {
    use proto::AppProtocol::{Grpc, Http11, Http2};
    matches!(proto::AppProtocol::try_from(protocol), Ok(Http11 | Http2 | Grpc))
}

fn port(number: u32) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("port {number} is out of range"))
}

type Addresses = (Box<[NetworkAddress]>, Box<[(Arc<str>, Prefix)]>);

fn addresses(message: &proto::Service, names: &mut Interners) -> Result<Addresses, String> {
    let (mut vips, mut prefixes) = (Vec::new(), Vec::new());
    for sent in &message.addresses {
        let network = names.string(&sent.network);
        let prefix = sent.length.map(|length| Prefix::new(&sent.address, length)).transpose()?;
        match prefix.filter(|prefix| !prefix.is_single()) {
            Some(prefix) => prefixes.push((network, prefix)),
            None => vips.push(NetworkAddress { network, ip: from_bytes(&sent.address)? }),
        }
    }
    Ok((vips.into(), prefixes.into()))
}

/// Interners that are not identities of the mesh can not match a peer's and are left out.
fn identities(message: &proto::Service) -> Arc<[Identity]> {
    message.subject_alt_names.iter().filter_map(|name| name.parse().ok()).collect()
}

fn weighted_waypoints(message: &proto::Service, names: &mut Interners) -> Result<Box<[(Gateway, u32)]>, String> {
    let decode = |sent: &proto::WeightedWaypoint| {
        let destination = sent.destination.as_ref().ok_or("a weighted waypoint has no destination")?;
        Ok((Gateway::decode(destination, names)?, sent.weight))
    };
    message.weighted_waypoints.iter().map(decode).collect()
}

impl Balancing {
    fn decode(message: &proto::LoadBalancing) -> Result<Balancing, String> {
        let scopes = message.routing_preference.iter().map(|scope| Scope::decode(*scope)).collect::<Result<_, _>>()?;
        match proto::Mode::try_from(message.mode) {
            Ok(proto::Mode::Unspecified) => Ok(Balancing::Standard),
            Ok(proto::Mode::Strict) => Ok(Balancing::Nearest { scopes, strict: true }),
            Ok(proto::Mode::Failover) => Ok(Balancing::Nearest { scopes, strict: false }),
            Ok(proto::Mode::Passthrough) => Ok(Balancing::Passthrough),
            Err(_) => Err(format!("load balancing mode {} is unknown", message.mode)),
        }
    }
}

impl Scope {
    fn decode(scope: i32) -> Result<Scope, String> {
        match proto::Scope::try_from(scope) {
            Ok(proto::Scope::Region) => Ok(Scope::Region),
            Ok(proto::Scope::Zone) => Ok(Scope::Zone),
            Ok(proto::Scope::Subzone) => Ok(Scope::Subzone),
            Ok(proto::Scope::Node) => Ok(Scope::Node),
            Ok(proto::Scope::Cluster) => Ok(Scope::Cluster),
            Ok(proto::Scope::Network) => Ok(Scope::Network),
            Ok(proto::Scope::Unspecified) | Err(_) => Err(format!("load balancing scope {scope} is unknown")),
        }
    }
}
impl Gateway {
    /// Whether this workload is of the proxy that is meant.
    pub fn is_served_by(&self, mesh: &Mesh, workload: &Workload) -> bool {
        match &self.destination {
            GatewayDestination::Service(key) => workload.serves(key),
            GatewayDestination::Address(at) => match mesh.workload_at(&at.network, at.ip) {
                Some(owner) => owner.uid == workload.uid,
                None => mesh
                    .service_at(&at.network, at.ip, &workload.identity.namespace)
                    .is_some_and(|service| workload.serves(&service.key)),
            },
        }
    }
}
