//! Where a connection that an application makes goes.

use crate::base::OriginalDst;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::routed::{Governed, Hello, Routed};
use super::{is_own_port, Authority, HBONE_PORT};
use crate::base::{Identity, Refusal, Rng};
use crate::mesh::{
    Balancing, Chosen, Gateway, GatewayDestination, Mesh, OutboundTraffic, Service, TunnelProtocol, Wanted, Workload,
};
use crate::routes::Tls;

/// What to do with an outgoing connection.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// Through a tunnel.
    Hbone(Route),
    /// As it is, to a destination that the mesh knows.
    Plain(Plain),
    /// Its requests are routed one by one.
    Http(Routed),
    /// By what its ClientHello names: [`Routed::connect`] decides.
    Tls(Routed),
    /// By the name in what its client says first: [`super::named`] decides.
    Named,
    /// To an endpoint that whoever connects chooses, as its destination's policy has it.
    Governed(Governed),
    /// As it is, to where it was going: nothing is known about the address, and the mesh may be left.
    Passthrough {
        addr: SocketAddr,
    },
    Refuse(Refusal),
}

/// A way through a tunnel.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where the tunnel ends.
    pub dial: SocketAddr,
    /// What is asked for through it.
    pub authority: Authority,
    /// Who may answer at `dial`; never empty.
    pub identities: Arc<[Identity]>,
    /// The workload at `dial`: the destination, or its waypoint.
    pub destination: Arc<Workload>,
    /// The service that the application meant.
    pub service: Option<Arc<Service>>,
}

/// A way without a tunnel.
#[derive(Clone, Debug)]
pub struct Plain {
    pub addr: SocketAddr,
    pub destination: Option<Arc<Workload>>,
    pub service: Option<Arc<Service>>,
}

/// An endpoint that somebody has chosen.
#[derive(Clone, Debug)]
pub struct Target {
    pub workload: Arc<Workload>,
    /// Of the workload's addresses.
    pub ip: IpAddr,
    /// Where the application listens.
    pub port: u16,
    /// Of a waypoint: the address behind it that it is asked for.
    pub behind: Option<SocketAddr>,
    /// The service that was meant.
    pub service: Option<Arc<Service>>,
}

/// How an endpoint is reached, or what is before it.
#[derive(Clone, Debug)]
pub enum Way {
    Hbone(Route),
    Plain(Plain),
}

impl Way {
    /// What is connected to.
    pub fn dials(&self) -> SocketAddr {
        match self {
            Way::Hbone(route) => route.dial,
            Way::Plain(plain) => plain.addr,
        }
    }
}

impl From<Way> for Outbound {
    fn from(way: Way) -> Outbound {
        match way {
            Way::Hbone(route) => Outbound::Hbone(route),
            Way::Plain(plain) => Outbound::Plain(plain),
        }
    }
}

impl Target {
    pub fn way(&self) -> Way {
        let Target { workload, ip, port, behind, service } = self;
        to_endpoint(Chosen { workload, ip: *ip, port: *port, behind: *behind }, service.as_ref())
    }
}

/// The identities of which whoever answers must prove one: its workload's and the further ones of its service.
fn accepted(workload: &Workload, service: Option<&Service>) -> Arc<[Identity]> {
    match service.map(|service| &service.identities).filter(|identities| !identities.is_empty()) {
        Some(further) => workload.identities.iter().chain(further.iter()).cloned().collect(),
        None => workload.identities.clone(),
    }
}

/// Decides for a connection of `source` to `dst`.
pub fn outbound(mesh: &Mesh, source: &Workload, dst: OriginalDst, rng: &mut Rng) -> Outbound {
    decide(mesh, source, dst, rng).unwrap_or_else(Outbound::Refuse)
}

fn decide(mesh: &Mesh, source: &Workload, dst: OriginalDst, rng: &mut Rng) -> Result<Outbound, Refusal> {
    if dst.is_loopback() && is_own_port(dst.port()) {
        return Err(Refusal::IllegalPort);
    }
    let workload = mesh.workload_at(&source.network, dst.ip());
    let service = mesh.service_at(&source.network, dst.ip(), &source.identity.namespace);
    match (service, workload) {
        (Some(service), workload) => to_service(mesh, source, service, workload, dst, rng),
        (None, Some(workload)) => to_workload(mesh, source, workload, dst, rng),
        (None, None) if !dst.is_loopback() && mesh.named_in(dst.port()).next().is_some() => Ok(Outbound::Named),
        (None, None) => leave(mesh, source, dst).map(|()| Outbound::Passthrough { addr: dst.address() }),
    }
}

/// Whether a connection of `source` to `dst` that leaves the mesh may be made, or stay as it was made. Where the mesh has
/// come to know its destination it may. A pod's own loopback is not outside.
pub fn leave(mesh: &Mesh, source: &Workload, dst: OriginalDst) -> Result<(), Refusal> {
    let known = || {
        mesh.workload_at(&source.network, dst.ip()).is_some()
            || mesh.service_at(&source.network, dst.ip(), &source.identity.namespace).is_some()
    };
    match mesh.outbound_traffic(source) {
        OutboundTraffic::RegistryOnly if !dst.is_loopback() && !known() => Err(Refusal::NotInRegistry),
        _ => Ok(()),
    }
}

/// A service's waypoint does not hold for an address that is also a workload's own.
pub fn to_service(
    mesh: &Mesh,
    source: &Workload,
    service: &Arc<Service>,
    workload: Option<&Arc<Workload>>,
    dst: OriginalDst,
    rng: &mut Rng,
) -> Result<Outbound, Refusal> {
    let waypoint =
        waypoint_of(service, rng).filter(|waypoint| workload.is_none() && !waypoint.is_served_by(mesh, source));
    if let Some(waypoint) = waypoint {
        return through(mesh, source, waypoint, Some(service), dst, rng);
    }
    let routed = Routed::of(mesh, source, service, workload, dst);
    let only_tls = routed.as_ref().and_then(|routed| routed.only_tls().cloned());
    let routed = match routed {
        Some(routed) if only_tls.is_none() => return routed.decide(mesh, source, dst, rng),
        routed => routed,
    };
    if service.balancing == Balancing::Passthrough {
        let workload = workload.unwrap_or(Workload::outside());
        return Ok(to_endpoint(Chosen::new(workload, dst.ip(), dst.port()), Some(service)).into());
    }
    let wanted = Wanted { source, service, port: dst.port(), ip: dst.ip(), gateway: false };
    match to_endpoint(mesh.owner(choose(mesh, wanted, rng)?), Some(service)) {
        Way::Plain(_) if only_tls == Some(Tls::IstioMutual) => {
            // One of those that are in the mesh, if any is.
            routed.ok_or(Refusal::NotMutual)?.connect(mesh, source, dst, Hello::default(), rng)
        }
        way => Ok(way.into()),
    }
}

fn to_workload(
    mesh: &Mesh,
    source: &Workload,
    workload: &Arc<Workload>,
    dst: OriginalDst,
    rng: &mut Rng,
) -> Result<Outbound, Refusal> {
    match workload.waypoint().filter(|waypoint| !waypoint.is_served_by(mesh, source)) {
        Some(waypoint) => through(mesh, source, waypoint, None, dst, rng),
        None => Ok(to_endpoint(Chosen::new(workload, dst.ip(), dst.port()), None).into()),
    }
}

/// To an application, or to the waypoint before it.
pub fn to_endpoint(chosen: Chosen<'_>, service: Option<&Arc<Service>>) -> Way {
    let (ip, target) = (chosen.ip, SocketAddr::new(chosen.ip, chosen.port));
    let (destination, service) = (chosen.workload.clone(), service.cloned());
    if let Some(behind) = chosen.behind {
        let (authority, identities) = (Authority::Address(behind), accepted(&destination, None));
        return Way::Hbone(Route { dial: target, authority, identities, destination, service });
    }
    match destination.tunnel {
        TunnelProtocol::Hbone => Way::Hbone(Route {
            dial: SocketAddr::new(ip, HBONE_PORT),
            authority: Authority::Address(target),
            identities: accepted(&destination, service.as_deref()),
            destination,
            service,
        }),
        TunnelProtocol::Plain => {
            let destination = Some(destination).filter(|destination| !destination.is_outside());
            Way::Plain(Plain { addr: target, destination, service })
        }
    }
}

/// Through a waypoint, which gets the destination as the application gave it.
fn through(
    mesh: &Mesh,
    source: &Workload,
    waypoint: &Gateway,
    service: Option<&Arc<Service>>,
    dst: OriginalDst,
    rng: &mut Rng,
) -> Result<Outbound, Refusal> {
    let (chosen, own_service) = resolve(mesh, source, waypoint, dst.ip(), rng)?;
    Ok(Outbound::Hbone(Route {
        dial: SocketAddr::new(chosen.ip, chosen.port),
        authority: Authority::Address(dst.address()),
        identities: accepted(chosen.workload, own_service.map(Arc::as_ref)),
        destination: chosen.workload.clone(),
        service: service.cloned(),
    }))
}

/// A workload of a waypoint, and the waypoint's own service.
fn resolve<'a>(
    mesh: &'a Mesh,
    source: &Workload,
    waypoint: &Gateway,
    ip: IpAddr,
    rng: &mut Rng,
) -> Result<(Chosen<'a>, Option<&'a Arc<Service>>), Refusal> {
    let service = match &waypoint.destination {
        GatewayDestination::Service(key) => mesh.service(key.text()),
        GatewayDestination::Address(at) if at.network != source.network => return Err(Refusal::OtherNetwork),
        GatewayDestination::Address(at) => {
            if let Some(workload) = mesh.workload_at(&at.network, at.ip) {
                return Ok((Chosen::new(workload, at.ip, waypoint.port), None));
            }
            mesh.service_at(&at.network, at.ip, &source.identity.namespace)
        }
    };
    let service = service.ok_or(Refusal::UnknownWaypoint)?;
    let wanted = Wanted { source, service, port: waypoint.port, ip, gateway: true };
    let chosen = choose(mesh, wanted, rng).map_err(|misses| match misses {
        Refusal::OtherNetwork => misses,
        _ => Refusal::UnknownWaypoint,
    })?;
    Ok((chosen, Some(service)))
}

fn choose<'a>(mesh: &'a Mesh, wanted: Wanted<'_>, rng: &mut Rng) -> Result<Chosen<'a>, Refusal> {
    mesh.endpoints(&wanted.service.key).ok_or(Refusal::NoEndpoint)?.choose(wanted, rng)
}

/// The waypoint for one connection: one of the weighted ones, where any has a weight.
fn waypoint_of<'a>(service: &'a Service, rng: &mut Rng) -> Option<&'a Gateway> {
    let total = service.weighted_waypoints.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let Some(mut point) = rng.below(total) else { return service.waypoint.as_ref() };
    let drawn = service.weighted_waypoints.iter().find(|(_, weight)| {
        let found = point < u64::from(*weight);
        point = point.saturating_sub(u64::from(*weight));
        found
    });
    drawn.map(|(gateway, _)| gateway)
}
