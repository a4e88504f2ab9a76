//! The endpoints of a service, and the choice of one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::service::{target, Balancing, PortMapping, Scope, Service};
use super::workload::{Health, Workload, WorkloadUid};
use crate::base::{Refusal, Rng};

/// A workload as an endpoint of one service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub workload: Arc<Workload>,
    /// The ports that it maps itself; they win over the service's.
    pub ports: Arc<[PortMapping]>,
}

/// The endpoints of one service: healthy ones first, then draining ones, each part in the order of their uids.
#[derive(Debug, Default)]
pub struct Endpoints {
    pub(super) all: Box<[Endpoint]>,
    /// Those that are used: the healthy ones, or the draining ones where none is healthy.
    usable: usize,
    /// Sums of the capacities up to and including each endpoint; none where all capacities are 1.
    sums: Option<Box<[u64]>>,
}

/// What a client asks of an endpoint.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub source: &'a Workload,
    pub service: &'a Service,
    /// The service's port.
    pub port: u16,
    /// The address that the client asked for.
    pub ip: IpAddr,
    /// Whether the service is a proxy that is to be passed: one that has an application tunnel takes any port.
    pub gateway: bool,
}

/// An endpoint and the address and port at which it is to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    pub workload: &'a Arc<Workload>,
    pub ip: IpAddr,
    pub port: u16,
    /// Of a waypoint: the address behind it that it is asked for.
    pub behind: Option<SocketAddr>,
}

impl<'a> Chosen<'a> {
    pub fn new(workload: &'a Arc<Workload>, ip: IpAddr, port: u16) -> Chosen<'a> {
        Chosen { workload, ip, port, behind: None }
    }

    /// A waypoint's, for an address that is behind it.
    pub fn before(self, address: SocketAddr) -> Chosen<'a> {
        Chosen { behind: Some(address), ..self }
    }
}

/// Draws made before all endpoints are looked at: enough where most of them fit.
const DRAWS: usize = 4;

impl Endpoints {
    /// These endpoints with some put in, replaced or (`None`) taken out.
    pub fn with(&self, changes: HashMap<WorkloadUid, Option<Endpoint>>) -> Endpoints {
        let kept = self.all.iter().filter(|endpoint| !changes.contains_key(&endpoint.workload.uid)).cloned();
        let mut all: Vec<Endpoint> = kept.collect();
        all.extend(changes.into_values().flatten());
        all.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        Endpoints { usable: usable(&all), sums: sums(&all), all: all.into() }
    }

    /// The healthy ones, and all.
    pub fn count(&self) -> (usize, usize) {
        (self.all.partition_point(|one| one.workload.health == Health::Healthy), self.all.len())
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Chooses an endpoint that fits what is wanted.
    pub fn choose(&self, wanted: Wanted<'_>, rng: &mut Rng) -> Result<Chosen<'_>, Refusal> {
        let usable = self.usable(wanted.service);
        match &wanted.service.balancing {
            Balancing::Nearest { .. } => self.look_at_all(usable, wanted, rng),
            Balancing::Standard | Balancing::Passthrough => {
                let drawn = (0..DRAWS).find_map(|_| self.draw(usable, rng)?.fit(wanted).ok());
                drawn.map_or_else(|| self.look_at_all(usable, wanted, rng), Ok)
            }
        }
    }

    /// The endpoint that `choose` always gives; None where it has a choice.
    pub fn only(&self, wanted: Wanted<'_>) -> Option<Chosen<'_>> {
        let mut best: Option<(usize, Option<Chosen<'_>>)> = None;
        for endpoint in &self.all[..self.usable(wanted.service)] {
            let (Some(rank), Ok(fit)) = (endpoint.rank(wanted), endpoint.fit(wanted)) else { continue };
            best = match best {
                Some((highest, _)) if rank < highest => best,
                Some((highest, _)) if rank == highest => Some((highest, None)),
                _ => Some((rank, Some(fit))),
            };
            if matches!((&best, &wanted.service.balancing), (Some((_, None)), Balancing::Standard)) {
                return None; // all of them have the same rank
            }
        }
        best?.1
    }

    /// Each that may be used: how many scopes nearer others may be, and where it is reached or what it lacks for it.
    pub fn usable_for<'a, 'b>(
        &'a self,
        wanted: Wanted<'b>,
    ) -> impl Iterator<Item = (u32, Result<Chosen<'a>, Refusal>)> + use<'a, 'b> {
        let nearest = match &wanted.service.balancing {
            Balancing::Nearest { scopes, .. } => rank_of_all(scopes),
            Balancing::Standard | Balancing::Passthrough => 0,
        };
        let usable = self.all[..self.usable(wanted.service)].iter();
        usable.filter_map(move |endpoint| {
            let rank = endpoint.rank(wanted)?;
            Some((nearest.saturating_sub(rank) as u32, endpoint.fit(wanted)))
        })
    }

    fn usable(&self, service: &Service) -> usize {
        if service.allow_unhealthy {
            self.all.len()
        } else {
            self.usable
        }
    }

    /// One of the first `usable` endpoints at random, by capacity.
    fn draw(&self, usable: usize, rng: &mut Rng) -> Option<&Endpoint> {
        let index = match &self.sums {
            None => rng.below(usable as u64)? as usize,
            Some(sums) => {
                let point = rng.below(*sums.get(usable.checked_sub(1)?)?)?;
                sums.partition_point(|sum| *sum <= point)
            }
        };
        self.all.get(index)
    }

    /// Weighted reservoir sample over the eligible endpoints of the highest rank; if none, the first endpoint's reason.
    fn look_at_all(&self, usable: usize, wanted: Wanted<'_>, rng: &mut Rng) -> Result<Chosen<'_>, Refusal> {
        let (mut best, mut weight, mut chosen) = (0, 0, Err(Refusal::NoEndpoint));
        let mut missing = None;
        for endpoint in &self.all[..usable] {
            let Some(rank) = endpoint.rank(wanted) else { continue };
            let fit = match endpoint.fit(wanted) {
                Ok(fit) if rank >= best => fit,
                Ok(_) => continue,
                Err(misses) => {
                    missing.get_or_insert(misses);
                    continue;
                }
            };
            if rank > best {
                (best, weight) = (rank, 0);
            }
            let capacity = u64::from(endpoint.workload.capacity);
            weight += capacity;
            if rng.below(weight).is_some_and(|point| point < capacity) {
                chosen = Ok(fit);
            }
        }
        chosen.map_err(|none| missing.unwrap_or(none))
    }
}

fn usable(all: &[Endpoint]) -> usize {
    let up_to = |worst| all.partition_point(|endpoint| endpoint.workload.health <= worst);
    match up_to(Health::Healthy) {
        0 => up_to(Health::Draining),
        healthy => healthy,
    }
}

/// Whether all endpoints weigh the same is the common case, and needs no table.
fn sums(all: &[Endpoint]) -> Option<Box<[u64]>> {
    let add = |sum: &mut u64, endpoint: &Endpoint| {
        *sum += u64::from(endpoint.workload.capacity);
        Some(*sum)
    };
    let weighted = all.iter().any(|endpoint| endpoint.workload.capacity != 1);
    weighted.then(|| all.iter().scan(0, add).collect())
}

impl Endpoint {
    fn order(&self) -> (Health, &WorkloadUid) {
        (self.workload.health, &self.workload.uid)
    }

    /// How near it is, where the service prefers near ones; None where it may not be chosen.
    fn rank(&self, wanted: Wanted<'_>) -> Option<usize> {
        let rank = match &wanted.service.balancing {
            Balancing::Nearest { scopes, strict } => {
                let needed = if *strict { rank_of_all(scopes) } else { 0 };
                Some(rank(scopes, wanted.source, &self.workload)).filter(|rank| *rank >= needed)
            }
            Balancing::Standard | Balancing::Passthrough => Some(0),
        };
        rank.filter(|_| self.workload.capacity > 0)
    }

    /// Where it is reached as wanted, or what it lacks for it.
    fn fit(&self, wanted: Wanted<'_>) -> Result<Chosen<'_>, Refusal> {
        if self.workload.network != wanted.source.network {
            return Err(Refusal::OtherNetwork);
        }
        let port = target(&self.ports, wanted.port).or_else(|| wanted.service.target_port(wanted.port));
        let tunnel = wanted.gateway && self.workload.application_tunnel().is_some();
        let port = port.or(tunnel.then_some(wanted.port)).ok_or(Refusal::UnknownPort)?;
        let ip = self.address(wanted).ok_or(Refusal::NoAddress)?;
        Ok(Chosen::new(&self.workload, ip, port))
    }

    /// The address that was asked for where it is its own, else the first one of a family that the service allows,
    /// rather of the family that was asked for.
    fn address(&self, wanted: Wanted<'_>) -> Option<IpAddr> {
        if self.workload.owns(wanted.ip) {
            return Some(wanted.ip);
        }
        let allowed = || {
            let own = self.workload.addresses.iter();
            own.filter(|ip| wanted.service.allows_family_of(**ip) && self.is_reached_at(**ip, wanted.source))
        };
        let same_family = allowed().find(|ip| ip.is_ipv4() == wanted.ip.is_ipv4());
        same_family.or_else(|| allowed().next()).copied()
    }
}

impl Endpoint {
    /// A name may have addresses of a family that the client has no way to.
    fn is_reached_at(&self, ip: IpAddr, source: &Workload) -> bool {
        let mut own = source.addresses.iter();
        self.workload.dns_name().is_none() || own.len() == 0 || own.any(|own| own.is_ipv4() == ip.is_ipv4())
    }
}

/// How near a workload is to a client: the number of leading scopes that both share. A network in the first place is
/// preferred and does not block: where it differs the other scopes count, where it is shared they count on top of all.
fn rank(scopes: &[Scope], source: &Workload, workload: &Workload) -> usize {
    let shared = |scope: &&Scope| scope.shared(source, workload);
    match scopes {
        [Scope::Network, nearer @ ..] => {
            let network = if Scope::Network.shared(source, workload) { scopes.len() } else { 0 };
            network + nearer.iter().take_while(shared).count()
        }
        _ => scopes.iter().take_while(shared).count(),
    }
}

/// The rank of a workload that shares every scope.
fn rank_of_all(scopes: &[Scope]) -> usize {
    match scopes {
        [Scope::Network, nearer @ ..] => scopes.len() + nearer.len(),
        _ => scopes.len(),
    }
}

impl Scope {
    fn shared(self, one: &Workload, other: &Workload) -> bool {
        match self {
            Scope::Region => one.locality.region == other.locality.region,
            Scope::Zone => one.locality.zone == other.locality.zone,
            Scope::Subzone => one.locality.subzone == other.locality.subzone,
            Scope::Node => one.node == other.node,
            Scope::Cluster => one.app.cluster == other.app.cluster,
            Scope::Network => one.network == other.network,
        }
    }
}
