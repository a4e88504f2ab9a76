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

/// How every connection of `source` to `dst` could go, policies apart. `outbound` would send each through a tunnel to the
/// same target: a service counts where it leaves no choice, and nothing where something has to look at the requests.
pub fn direct(mesh: &Mesh, source: &Workload, dst: OriginalDst) -> Option<Direct> {
    let workload = mesh.workload_at(&source.network, dst.ip());
    let service = mesh.service_at(&source.network, dst.ip(), &source.identity.namespace);
    let (destination, target) = match (service, workload) {
        (Some(service), workload) => {
            let has_waypoint = service.waypoint.is_some() || !service.weighted_waypoints.is_empty();
            let is_routed = Routed::of(mesh, source, service, workload, dst).is_some();
            if service.balancing == Balancing::Passthrough || has_waypoint && workload.is_none() || is_routed {
                return None;
            }
            let wanted = Wanted { source, service, port: dst.port(), ip: dst.ip(), gateway: false };
            let chosen = mesh.owner(mesh.endpoints(&service.key)?.only(wanted)?);
            (chosen.workload, SocketAddr::new(chosen.ip, chosen.port))
        }
        (None, workload) => (workload.filter(|workload| workload.waypoint().is_none())?, dst.address()),
    };
    let is_other_pod = destination.node == source.node && destination.uid != source.uid && !destination.host_network;
    let takes_as_it_is = destination.tunnel == TunnelProtocol::Hbone && destination.application_tunnel().is_none();
    let is_reached = target.is_ipv4() == dst.ip().is_ipv4() && !is_own_port(target.port());
    (is_other_pod && takes_as_it_is && is_reached).then(|| Direct {
        destination: destination.clone(),
        target,
        service: service.cloned(),
    })
}
