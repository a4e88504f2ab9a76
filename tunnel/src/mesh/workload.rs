//! A workload: what answers at an address (`istio.workload.Workload`).

use crate::base::PodKey;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use super::egress::OutboundTraffic;
use super::intern::Interners;
use super::service::{decode_ports, target, Gateway, PortMapping, Service, ServiceKey};
use crate::base::{address, Identity};
use crate::config::{proto, Version};
use crate::policy::Guarded;
use crate::routes::Labels;

/// A workload's key, unique in the mesh and never reused, for example `Kubernetes//Pod/default/reviews-v1-5b5d6494f4-2x9kq`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadUid(pub Arc<str>);

impl fmt::Display for WorkloadUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The application that a workload is an instance of, as telemetry names it. Shared by all its replicas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct App {
    pub namespace: Arc<str>,
    pub cluster: Arc<str>,
    /// Name of the deployment, job or pod.
    pub workload: Arc<str>,
    /// `deployment`, `cronjob`, `pod` or `job`.
    pub kind: &'static str,
    pub canonical_name: Arc<str>,
    pub canonical_revision: Arc<str>,
}

/// Where a workload runs. Unknown pieces are empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Locality {
    pub region: Arc<str>,
    pub zone: Arc<str>,
    pub subzone: Arc<str>,
}

/// How a workload is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelProtocol {
    Plain,
    Hbone,
}

/// Where a workload that terminates tunnels of its own wants what was in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplicationTunnel {
    /// Whether it expects a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Overrides the port that was asked for.
    pub port: Option<u16>,
}

/// One workload. Addresses are canonical.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub uid: WorkloadUid,
    pub version: Version,
    pub name: Arc<str>,
    pub identity: Arc<Identity>,
    /// The same as a list of one: whom a client accepts for it, where its service names no one else.
    pub identities: Arc<[Identity]>,
    pub app: Arc<App>,
    pub locality: Arc<Locality>,
    pub node: Arc<str>,
    pub network: Arc<str>,
    pub addresses: Box<[IpAddr]>,
    /// The services that it is an endpoint of, each with the ports that it maps itself.
    pub services: Memberships,
    pub tunnel: TunnelProtocol,
    pub host_network: bool,
    pub health: Health,
    /// Weight among the endpoints of a service.
    pub capacity: u32,
    /// Those that some object of the mesh names.
    pub labels: Arc<Labels>,
    /// The policies that select it, by `namespace/name`, in order.
    selected_by: Arc<[Arc<str>]>,
    rare: Option<Box<Rare>>,
}

/// Whether it takes connections, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Healthy,
    /// It is being deleted and still serves: used where no endpoint is healthy, as kube-proxy does.
    Draining,
    Unhealthy,
}

/// What few workloads have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rare {
    waypoint: Option<Gateway>,
    application_tunnel: Option<ApplicationTunnel>,
    /// By which it is known instead of an address, and whether only the first of the name's addresses counts.
    name: Option<(Arc<str>, bool)>,
    telemetry: Option<Arc<str>>,
    outbound: Option<OutboundTraffic>,
}

/// A workload that is found by its uid.
#[derive(Clone, Debug)]
pub struct ByUid(pub Arc<Workload>);

impl Borrow<str> for ByUid {
    fn borrow(&self) -> &str {
        &self.0.uid.0
    }
}

impl PartialEq for ByUid {
    fn eq(&self, other: &Self) -> bool {
        self.0.uid == other.0.uid
    }
}

impl Eq for ByUid {}

impl Hash for ByUid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uid.0.hash(state);
    }
}

impl Workload {
    /// Checks a resource and fills in its defaults: trust domain `cluster.local`, service account `default`, cluster
    /// `Kubernetes`, capacity 1.
    pub fn decode(message: &proto::Workload, version: Version, names: &mut Interners) -> Result<Workload, String> {
        if message.uid.is_empty() {
            return Err("a workload has no uid".to_owned());
        }
        let identity = identity(message, names)?;
        Ok(Workload {
            uid: WorkloadUid(message.uid.as_str().into()),
            version,
            name: message.name.as_str().into(),
            app: app(message, names)?,
            locality: locality(message, names),
            node: names.string(&message.node),
            network: names.string(&message.network),
            addresses: message.addresses.iter().map(|bytes| address::from_bytes(bytes)).collect::<Result<_, _>>()?,
            services: services(message, names)?,
            tunnel: tunnel(message)?,
            host_network: proto::NetworkMode::try_from(message.network_mode) == Ok(proto::NetworkMode::HostNetwork),
            health: health(message),
            capacity: message.capacity.unwrap_or(1),
            labels: names.labels.share(Labels::from(&message.labels)),
            selected_by: selected_by(message, names),
            rare: rare(message, names)?,
            identities: names.lone_identities.share(vec![Identity::clone(&identity)]),
            identity,
        })
    }

    pub fn key(&self) -> PodKey {
        PodKey {
            namespace: self.identity.namespace.clone(),
            name: self.name.clone(),
            service_account: self.identity.service_account.clone(),
        }
    }

    pub fn guarded(&self) -> Guarded {
        let (namespace, selected_by) = (self.identity.namespace.clone(), self.selected_by.clone());
        Guarded { namespace, selected_by, http_ports: self.http_ports() }
    }

    /// The ports of its own that a service of it declares to be HTTP, in order.
    fn http_ports(&self) -> Box<[u16]> {
        let all = self.services.iter().flat_map(|(_, ports)| &**ports);
        let mut ports: Vec<u16> = all.filter(|port| port.http).map(|port| port.target).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.into()
    }

    pub fn is_pod(&self) -> bool {
        self.uid.0.contains("//Pod/")
    }

    /// Who is at an address of which the mesh knows nothing: reached plainly.
    pub fn outside() -> &'static Arc<Workload> {
        static OUTSIDE: LazyLock<Arc<Workload>> = LazyLock::new(|| {
            let message =
                proto::Workload { uid: "outside".to_owned(), namespace: "outside".to_owned(), ..Default::default() };
            let names = &mut Interners::default();
            Arc::new(Workload::decode(&message, "".into(), names).expect("it has a uid and the rest is optional"))
        });
        &OUTSIDE
    }

    pub fn is_outside(&self) -> bool {
        std::ptr::eq(self, Arc::as_ptr(Workload::outside()))
    }

    pub fn owns(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip)
    }

    /// Whether it is an endpoint of this service.
    pub fn serves(&self, service: &ServiceKey) -> bool {
        self.ports_of(service).is_some()
    }

    /// The ports of a service that this endpoint of it maps itself.
    pub fn ports_of(&self, service: &ServiceKey) -> Option<&Arc<[PortMapping]>> {
        self.services.iter().find(|(key, _)| key == service).map(|(_, ports)| ports)
    }

    /// The port on this workload for a port of a service.
    pub fn target_port(&self, service: &Service, port: u16) -> Option<u16> {
        self.ports_of(&service.key).and_then(|ports| target(ports, port)).or_else(|| service.target_port(port))
    }

    /// What traffic to this workload's own address has to pass first.
    pub fn waypoint(&self) -> Option<&Gateway> {
        self.rare.as_ref()?.waypoint.as_ref()
    }

    /// The name whose addresses it has.
    pub fn dns_name(&self) -> Option<&Arc<str>> {
        self.rare.as_ref()?.name.as_ref().map(|(name, _)| name)
    }

    /// Whether it is at the first address of its name, and not at each.
    pub fn is_logical(&self) -> bool {
        self.rare.as_ref().and_then(|rare| rare.name.as_ref()).is_some_and(|(_, logical)| *logical)
    }

    /// The same at some addresses of its name.
    pub fn at(&self, uid: WorkloadUid, addresses: Box<[IpAddr]>) -> Workload {
        Workload { uid, addresses, ..self.clone() }
    }

    /// The name of the Telemetry that selects it.
    pub fn telemetry(&self) -> Option<&str> {
        self.rare.as_ref()?.telemetry.as_deref()
    }

    /// What a Sidecar that selects it says of what may leave the mesh.
    pub fn outbound(&self) -> Option<OutboundTraffic> {
        self.rare.as_ref()?.outbound
    }

    pub fn application_tunnel(&self) -> Option<ApplicationTunnel> {
        self.rare.as_ref()?.application_tunnel
    }
}

fn health(message: &proto::Workload) -> Health {
    match proto::WorkloadStatus::try_from(message.status) {
        Ok(proto::WorkloadStatus::Healthy) => Health::Healthy,
        _ if message.draining => Health::Draining,
        _ => Health::Unhealthy,
    }
}

fn identity(message: &proto::Workload, names: &mut Interners) -> Result<Arc<Identity>, String> {
    let trust_domain = names.string_or(&message.trust_domain, "cluster.local");
    let service_account = names.string_or(&message.service_account, "default");
    let identity = Identity::new(trust_domain, names.string(&message.namespace), service_account);
    Ok(names.identities.share(identity.map_err(|error| error.to_string())?))
}

fn app(message: &proto::Workload, names: &mut Interners) -> Result<Arc<App>, String> {
    let kind = match proto::WorkloadType::try_from(message.workload_type) {
        Ok(proto::WorkloadType::Deployment) => "deployment",
        Ok(proto::WorkloadType::Cronjob) => "cronjob",
        Ok(proto::WorkloadType::Pod) => "pod",
        Ok(proto::WorkloadType::Job) => "job",
        Err(_) => return Err(format!("workload_type {} is unknown", message.workload_type)),
    };
    let app = App {
        namespace: names.string(&message.namespace),
        cluster: names.string_or(&message.cluster_id, "Kubernetes"),
        workload: names.string(&message.workload_name),
        kind,
        canonical_name: names.string(&message.canonical_name),
        canonical_revision: names.string(&message.canonical_revision),
    };
    Ok(names.apps.share(app))
}

fn locality(message: &proto::Workload, names: &mut Interners) -> Arc<Locality> {
    let sent = message.locality.as_ref();
    let mut piece = |get: fn(&proto::Locality) -> &str| names.string(sent.map_or("", get));
    let locality = Locality {
        region: piece(|locality| &locality.region),
        zone: piece(|locality| &locality.zone),
        subzone: piece(|locality| &locality.subzone),
    };
    names.localities.share(locality)
}

type Memberships = Box<[(ServiceKey, Arc<[PortMapping]>)]>;

fn services(message: &proto::Workload, names: &mut Interners) -> Result<Memberships, String> {
    let mut services = Vec::with_capacity(message.services.len());
    for (key, list) in &message.services {
        let ports = names.ports.share(decode_ports(&list.ports)?);
        services.push((ServiceKey::parse(key, names)?, ports));
    }
    services.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(services.into())
}

fn tunnel(message: &proto::Workload) -> Result<TunnelProtocol, String> {
    match proto::TunnelProtocol::try_from(message.tunnel_protocol) {
        Ok(proto::TunnelProtocol::None) => Ok(TunnelProtocol::Plain),
        Ok(proto::TunnelProtocol::Hbone) => Ok(TunnelProtocol::Hbone),
        _ => Err(format!("tunnel_protocol {} is not supported", message.tunnel_protocol)),
    }
}

fn selected_by(message: &proto::Workload, names: &mut Interners) -> Arc<[Arc<str>]> {
    let mut policies: Vec<_> = message.authorization_policies.iter().map(|name| names.string(name)).collect();
    policies.sort_unstable();
    policies.dedup();
    names.lists.share(policies)
}

fn rare(message: &proto::Workload, names: &mut Interners) -> Result<Option<Box<Rare>>, String> {
    let mut gateway = |sent: &Option<_>| sent.as_ref().map(|sent| Gateway::decode(sent, names)).transpose();
    let named = message.addresses.is_empty() && !message.hostname.is_empty();
    let rare = Rare {
        waypoint: gateway(&message.waypoint)?,
        application_tunnel: message.application_tunnel.as_ref().map(application_tunnel).transpose()?,
        name: named.then(|| (message.hostname.as_str().into(), message.logical_dns)),
        telemetry: (!message.telemetry.is_empty()).then(|| message.telemetry.as_str().into()),
        outbound: outbound(message),
    };
    Ok((rare != Rare::default()).then(|| Box::new(rare)))
}

/// What is not understood must have been meant to restrict.
fn outbound(message: &proto::Workload) -> Option<OutboundTraffic> {
    match proto::OutboundTrafficPolicy::try_from(message.outbound_traffic_policy) {
        Ok(proto::OutboundTrafficPolicy::Unspecified) => None,
        Ok(proto::OutboundTrafficPolicy::AllowAny) => Some(OutboundTraffic::AllowAny),
        _ => Some(OutboundTraffic::RegistryOnly),
    }
}

fn application_tunnel(message: &proto::ApplicationTunnel) -> Result<ApplicationTunnel, String> {
    let proxy_protocol = match proto::ApplicationTunnelProtocol::try_from(message.protocol) {
        Ok(proto::ApplicationTunnelProtocol::None) => false,
        Ok(proto::ApplicationTunnelProtocol::Proxy) => true,
        Err(_) => return Err(format!("application tunnel protocol {} is unknown", message.protocol)),
    };
    let port = u16::try_from(message.port).map_err(|_| format!("port {} is out of range", message.port))?;
    Ok(ApplicationTunnel { proxy_protocol, port: (port != 0).then_some(port) })
}
