//! Which connections need no tunnel at all: those between two pods of one node.

use crate::base::OriginalDst;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{is_own_port, Routed};
use crate::mesh::{Balancing, Mesh, Service, TunnelProtocol, Wanted, Workload};

/// A way straight to another pod of the node.
#[derive(Clone, Debug)]
pub struct Direct {
    pub destination: Arc<Workload>,
    /// Of the destination's addresses, and where its application listens.
    pub target: SocketAddr,
    /// The service that the application meant.
    pub service: Option<Arc<Service>>,
}

/// Why connections go another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDirect {
    Unknown,
    Waypoint,
    Routed,
    Passthrough,
    Choice,
    Itself,
    OtherNode,
    HostNetwork,
    Plain,
    ApplicationTunnel,
    OtherFamily,
    OwnPort,
}

impl NotDirect {
    /// For people, after "through the tunnel: ".
    pub fn text(self) -> &'static str {
        match self {
            NotDirect::Unknown => "the destination is no pod of the mesh",
            NotDirect::Waypoint => "a waypoint stands before the destination",
            NotDirect::Routed => "routes apply to the port",
            NotDirect::Passthrough => "the service leaves the address as it is",
            NotDirect::Choice => "the service has no endpoint, or several to choose from",
            NotDirect::Itself => "the destination is the source itself",
            NotDirect::OtherNode => "the destination is on another node",
            NotDirect::HostNetwork => "the destination is in its host's network",
            NotDirect::Plain => "the destination is not captured",
            NotDirect::ApplicationTunnel => "the destination is reached through an application tunnel",
            NotDirect::OtherFamily => "the destination's address is of another IP family",
            NotDirect::OwnPort => "the port is one of the tunnel's own",
        }
    }
}

/// How every connection of `source` to `dst` could go, policies apart, or why none may. `outbound` would send each through a
/// tunnel to the same target: a service counts where it leaves no choice, and nothing where something has to look at the
/// requests.
pub fn direct(mesh: &Mesh, source: &Workload, dst: OriginalDst) -> Result<Direct, NotDirect> {
    let workload = mesh.workload_at(&source.network, dst.ip());
    let service = mesh.service_at(&source.network, dst.ip(), &source.identity.namespace);
    let (destination, target) = match (service, workload) {
        (Some(service), workload) => {
            let has_waypoint = service.waypoint.is_some() || !service.weighted_waypoints.is_empty();
            let routed = Routed::of(mesh, source, service, workload, dst);
            let is_routed = routed.is_some_and(|routed| routed.only_tls().is_none());
            never([
                (service.balancing == Balancing::Passthrough, NotDirect::Passthrough),
                (has_waypoint && workload.is_none(), NotDirect::Waypoint),
                (is_routed, NotDirect::Routed),
            ])?;
            let wanted = Wanted { source, service, port: dst.port(), ip: dst.ip(), gateway: false };
            let only = mesh.endpoints(&service.key).and_then(|endpoints| endpoints.only(wanted));
            let chosen = mesh.owner(only.ok_or(NotDirect::Choice)?);
            (chosen.workload, SocketAddr::new(chosen.ip, chosen.port))
        }
        (None, Some(workload)) if workload.waypoint().is_some() => return Err(NotDirect::Waypoint),
        (None, workload) => (workload.ok_or(NotDirect::Unknown)?, dst.address()),
    };
    never([
        (destination.uid == source.uid, NotDirect::Itself),
        (destination.node != source.node, NotDirect::OtherNode),
        (destination.host_network, NotDirect::HostNetwork),
        (destination.tunnel != TunnelProtocol::Hbone, NotDirect::Plain),
        (destination.application_tunnel().is_some(), NotDirect::ApplicationTunnel),
        (target.is_ipv4() != dst.ip().is_ipv4(), NotDirect::OtherFamily),
        (is_own_port(target.port()), NotDirect::OwnPort),
    ])?;
    Ok(Direct { destination: destination.clone(), target, service: service.cloned() })
}

/// The first that holds.
fn never<const N: usize>(obstacles: [(bool, NotDirect); N]) -> Result<(), NotDirect> {
    match obstacles.into_iter().find(|(holds, _)| *holds) {
        Some((_, why)) => Err(why),
        None => Ok(()),
    }
}
