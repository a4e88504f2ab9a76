//! Who is at the ends of a connection.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{Identity, Refusal};
use crate::decision::{Authority, Direct, Governed, Inbound, Outbound, Plain, Route, Target};
use crate::mesh::{App, Locality, Mesh, Service, TunnelProtocol, Workload, BLACK_HOLE};

/// One end.
#[derive(Clone, Debug, Default)]
pub enum Party {
    #[default]
    Unknown,
    Workload(Arc<Workload>),
    /// In no resource that we have; what it says of itself.
    Baggage(Arc<Baggage>),
}

impl Party {
    pub fn app(&self) -> Option<&Arc<App>> {
        match self {
            Party::Unknown => None,
            Party::Workload(workload) => Some(&workload.app),
            Party::Baggage(baggage) => Some(&baggage.app),
        }
    }

    pub fn locality(&self) -> Option<&Arc<Locality>> {
        match self {
            Party::Unknown => None,
            Party::Workload(workload) => Some(&workload.locality),
            Party::Baggage(baggage) => Some(&baggage.locality),
        }
    }

    /// Name of the workload (of the pod).
    pub fn name(&self) -> Option<&str> {
        match self {
            Party::Workload(workload) => Some(&workload.name),
            Party::Unknown | Party::Baggage(_) => None,
        }
    }
}

/// How the bytes of a connection travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// It was refused before that was known.
    #[default]
    Unknown,
    /// Inside mutual TLS.
    Tunnel,
    /// From pod to pod of one node, past the tunnel; the kernel has proven both identities.
    Direct,
    Plain,
    /// Each of its requests its own way.
    Requests,
}

impl Path {
    /// Empty: unknown.
    pub fn name(self) -> &'static str {
        match self {
            Path::Unknown => "",
            Path::Tunnel => "tunnel",
            Path::Direct => "direct",
            Path::Plain => "plain",
            Path::Requests => "requests",
        }
    }
}

/// Both ends, and what was meant.
#[derive(Clone, Debug, Default)]
pub struct Parties {
    pub source: Party,
    /// As proven by mutual TLS, or by the kernel.
    pub source_identity: Option<Arc<Identity>>,
    pub destination: Party,
    /// As proven by mutual TLS, or by the kernel.
    pub destination_identity: Option<Arc<Identity>>,
    pub service: Option<Arc<Service>>,
    /// What was asked for through the tunnel.
    pub hbone: Option<Authority>,
    pub path: Path,
}

/// `connection_security_policy`: Istio's word where both ends are proven by mutual TLS, ours where the kernel has proven them
/// and nothing is encrypted; empty: one of them is not proven.
pub fn security(proven: bool, direct: bool) -> &'static str {
    match (proven, direct) {
        (false, _) => "",
        (true, true) => "direct",
        (true, false) => "mutual_tls",
    }
}

impl Parties {
    pub fn security(&self) -> &'static str {
        security(self.source_identity.is_some() && self.destination_identity.is_some(), self.path == Path::Direct)
    }

    /// Of a connection that a local pod makes.
    pub fn outbound(source: &Arc<Workload>, decision: &Outbound) -> Parties {
        let of_source = Parties { source: Party::Workload(source.clone()), ..Parties::default() };
        match decision {
            Outbound::Hbone(Route { authority, destination, service, .. }) => Parties {
                source_identity: Some(source.identity.clone()),
                destination: Party::Workload(destination.clone()),
                destination_identity: Some(destination.identity.clone()),
                service: service.clone(),
                hbone: Some(authority.clone()),
                path: Path::Tunnel,
                ..of_source
            },
            Outbound::Plain(Plain { destination, service, .. }) => Parties {
                destination: destination.clone().map_or(Party::Unknown, Party::Workload),
                service: service.clone(),
                path: Path::Plain,
                ..of_source
            },
            Outbound::Http(routed) | Outbound::Tls(routed) => {
                Parties { service: Some(routed.service.clone()), path: Path::Requests, ..of_source }
            }
            Outbound::Governed(Governed { service, .. }) => Parties { service: Some(service.clone()), ..of_source },
            Outbound::Refuse(Refusal::NotInRegistry) => Parties { service: Some(BLACK_HOLE.clone()), ..of_source },
            Outbound::Passthrough { .. } => Parties { path: Path::Plain, ..of_source },
            Outbound::Named | Outbound::Refuse(_) => of_source,
        }
    }

    /// Of a connection that came through a tunnel: `peer` is the other end's proven identity, `ip` its address. The
    /// address names the workload only where that has this identity; a proxy on the way has another one.
    pub fn inbound(
        mesh: &Mesh,
        local: &Arc<Workload>,
        peer: &Arc<Identity>,
        ip: IpAddr,
        baggage: Option<Arc<Baggage>>,
        decision: &Inbound,
    ) -> Parties {
        let source = mesh.workload_at(&local.network, ip.to_canonical()).filter(|source| source.identity == *peer);
        Parties {
            source_identity: Some(source.map_or(peer, |source| &source.identity).clone()),
            source: match source {
                Some(source) => Party::Workload(source.clone()),
                None => baggage.map_or(Party::Unknown, Party::Baggage),
            },
            destination: Party::Workload(local.clone()),
            destination_identity: Some(local.identity.clone()),
            service: decision.service.clone(),
            hbone: Some(decision.authority.clone()),
            path: Path::Tunnel,
        }
    }

    /// Of a direct connection between two local pods; the same at both ends.
    pub fn direct(source: &Arc<Workload>, to: &Direct) -> Parties {
        Parties {
            source: Party::Workload(source.clone()),
            source_identity: Some(source.identity.clone()),
            destination: Party::Workload(to.destination.clone()),
            destination_identity: Some(to.destination.identity.clone()),
            service: to.service.clone(),
            hbone: None,
            path: Path::Direct,
        }
    }

    /// Of a local pod's request or connection, as far as its target is known.
    pub fn to_target(source: &Arc<Workload>, target: Option<&Target>, service: Option<&Arc<Service>>) -> Parties {
        let workload = target.map(|target| &target.workload).filter(|workload| !workload.is_outside());
        let proven = workload.filter(|workload| workload.tunnel == TunnelProtocol::Hbone);
        Parties {
            source: Party::Workload(source.clone()),
            source_identity: proven.map(|_| source.identity.clone()),
            destination: workload.cloned().map_or(Party::Unknown, Party::Workload),
            destination_identity: proven.map(|workload| workload.identity.clone()),
            service: service.cloned(),
            ..Parties::default()
        }
    }

    /// Of a plain connection from `ip` to a local pod.
    pub fn inbound_plain(mesh: &Mesh, local: &Arc<Workload>, ip: IpAddr) -> Parties {
        let source = mesh.workload_at(&local.network, ip.to_canonical());
        Parties {
            source: source.cloned().map_or(Party::Unknown, Party::Workload),
            destination: Party::Workload(local.clone()),
            path: Path::Plain,
            ..Parties::default()
        }
    }
}

/// What a workload says of itself in the `baggage` header: comma-separated `key=value`, nothing quoted.
#[derive(Debug, PartialEq, Eq)]
pub struct Baggage {
    pub app: Arc<App>,
    pub locality: Arc<Locality>,
}

/// Bytes of a header that is looked at: all that a workload has to say fits.
const HEADER_MAX: usize = 4 << 10;
/// Bytes of a value that is believed: no name of Kubernetes is longer.
const VALUE_MAX: usize = 253;

const KINDS: [&str; 4] = ["deployment", "cronjob", "pod", "job"];

impl Baggage {
    /// Unknown keys are skipped, and values of more than 253 bytes; `None` when there is none that is known, and for a
    /// header of more than 4 KiB.
    pub fn parse(header: &[u8]) -> Option<Baggage> {
        let header = std::str::from_utf8(header).ok().filter(|header| header.len() <= HEADER_MAX)?;
        let pairs = || header.split(',').filter_map(|pair| pair.trim().split_once('='));
        let pairs = || pairs().filter(|(_, value)| value.len() <= VALUE_MAX);
        let value = |wanted: &str| pairs().find(|(key, _)| *key == wanted).map(|(_, value)| value);
        let named = |kind: &'static str| Some((kind, value(&format!("k8s.{kind}.name"))?));
        let workload = KINDS.into_iter().find_map(named);
        let piece = |key| Arc::<str>::from(value(key).unwrap_or_default());
        let app = App {
            namespace: piece("k8s.namespace.name"),
            cluster: piece("k8s.cluster.name"),
            workload: workload.map_or("", |(_, name)| name).into(),
            kind: workload.map_or(KINDS[0], |(kind, _)| kind),
            canonical_name: piece("service.name"),
            canonical_revision: piece("service.version"),
        };
        let locality =
            Locality { region: piece("cloud.region"), zone: piece("cloud.availability_zone"), subzone: Arc::default() };
        let baggage = Baggage { app: Arc::new(app), locality: Arc::new(locality) };
        (!baggage.to_string().is_empty()).then_some(baggage)
    }

    /// Of a workload.
    pub fn of(workload: &Workload) -> Baggage {
        Baggage { app: workload.app.clone(), locality: workload.locality.clone() }
    }
}

impl std::fmt::Display for Baggage {
    /// The header's value: only keys that have one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (app, locality) = (&self.app, &self.locality);
        let pairs = [
            ("k8s.cluster.name", &app.cluster),
            ("k8s.namespace.name", &app.namespace),
            (workload_key(app.kind), &app.workload),
            ("service.name", &app.canonical_name),
            ("service.version", &app.canonical_revision),
            ("cloud.region", &locality.region),
            ("cloud.availability_zone", &locality.zone),
        ];
        let present = pairs.iter().filter(|(_, value)| !value.is_empty());
        present.enumerate().try_for_each(|(index, (key, value))| {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{key}={value}")
        })
    }
}

fn workload_key(kind: &str) -> &'static str {
    match kind {
        "cronjob" => "k8s.cronjob.name",
        "pod" => "k8s.pod.name",
        "job" => "k8s.job.name",
        _ => "k8s.deployment.name",
    }
}
