//! What has to be passed on the way to a service, where routes lead there.

use std::net::{IpAddr, SocketAddr};

use super::eligible::Eligible;
use super::endpoints::{Chosen, Wanted};
use super::{Gateway, GatewayDestination, Mesh, Service, Workload};
use crate::base::Refusal;

impl Service {
    /// What is before it: of several the first one that has a weight.
    pub fn waypoint(&self) -> Option<&Gateway> {
        let weighted = self.weighted_waypoints.iter().find(|(_, weight)| *weight > 0);
        weighted.map(|(waypoint, _)| waypoint).or(self.waypoint.as_ref())
    }

    /// Where a client calls it, of the family of `ip` if it can be.
    pub(super) fn address(&self, source: &Workload, port: u16, ip: IpAddr) -> Option<SocketAddr> {
        let own = || self.vips.iter().filter(|vip| vip.network == source.network).map(|vip| vip.ip);
        let found = own().find(|own| own.is_ipv4() == ip.is_ipv4()).or_else(|| own().next());
        found.map(|ip| SocketAddr::new(ip, port))
    }
}

impl Mesh {
    /// The endpoints of a waypoint, for a destination behind it. A destination without an address cannot be asked for.
    pub(super) fn before(
        &self,
        source: &Workload,
        waypoint: &Gateway,
        behind: Option<SocketAddr>,
    ) -> Result<Vec<Eligible<'_>>, Refusal> {
        let behind = behind.ok_or(Refusal::UnknownWaypoint)?;
        let service = match &waypoint.destination {
            GatewayDestination::Service(key) => self.service(key.text()),
            GatewayDestination::Address(at) => match self.workload_at(&at.network, at.ip) {
                Some(workload) => {
                    let chosen = Chosen::new(workload, at.ip, waypoint.port).before(behind);
                    return Ok(vec![Eligible { chosen, weight: 1, priority: 0 }]);
                }
                None => self.service_at(&at.network, at.ip, &source.identity.namespace),
            },
        };
        let service = service.ok_or(Refusal::UnknownWaypoint)?;
        let endpoints = self.endpoints(&service.key).ok_or(Refusal::UnknownWaypoint)?;
        let wanted = Wanted { source, service, port: waypoint.port, ip: behind.ip(), gateway: true };
        let usable = endpoints.usable_for(wanted).filter_map(|(priority, fit)| {
            let chosen = fit.ok()?.before(behind);
            Some(Eligible { weight: chosen.workload.capacity, chosen, priority })
        });
        let eligible: Vec<_> = usable.collect();
        (!eligible.is_empty()).then_some(eligible).ok_or(Refusal::UnknownWaypoint)
    }
}
