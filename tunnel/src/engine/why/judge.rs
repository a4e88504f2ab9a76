//! What becomes of a connection to a port: where it may go, and what is said to it there.
use super::super::question::{self, name, one_family};
use super::super::routing::{Asked, RouteQuestion};
use super::answer::{Destination, Endpoint, Port};
use super::{Node, WhyQuestion, OUTSIDE};
use crate::base::{OriginalDst, Refusal, Rng};
use crate::decision::{self, Outbound, Plain, Route, Said, Way};
use crate::mesh::{Balancing, Mesh, NamedIn, Service, TunnelProtocol, Workload};
use crate::policy::Attempt;
use crate::routes;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Whoever asks, and in which mesh.
pub(super) struct Judge<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) node: &'a Node<'a>,
    pub(super) source: &'a Arc<Workload>,
    pub(super) served: bool,
    pub(super) question: &'a WhyQuestion,
    pub(super) request: question::Asked,
}

/// A way that may be taken, by what gets there. `used`: now, and not only once nearer ends are gone.
struct Chance {
    way: Way,
    used: bool,
    request: question::Asked,
}

/// `elsewhere`: a share goes to addresses that only DNS or the client knows. `missing`: why a share goes nowhere.
struct Chances {
    all: Vec<Chance>,
    elsewhere: bool,
    missing: Option<Refusal>,
}

impl Judge<'_> {
    pub(super) fn port(&self, told: &Destination, port: u16) -> Result<Port, String> {
        let Judge { mesh, source, .. } = self;
        let service = (told.kind == "service").then(|| mesh.service(&told.name)).flatten();
        let pods_own = match service {
            // Headless.
            Some(service) if told.addresses.is_empty() && service.named.is_none() => self.addresses_of(service, port),
            _ => told.addresses.clone(),
        };
        // Only DNS knows the addresses of a ServiceEntry without any.
        let outside =
            told.kind == "outside" || service.is_some_and(|service| service.named.is_some()) && pods_own.is_empty();
        let ip = one_family(&source.addresses, &pods_own).map(|(_, ip)| ip);
        let ip = ip.or(outside.then_some(OUTSIDE));
        let Some(ip) = ip else {
            let empty = service.is_some() && pods_own.is_empty();
            return Ok(Port::refused(port, if empty { Refusal::NoEndpoint } else { Refusal::NoAddress }));
        };
        let dst = OriginalDst::new(SocketAddr::new(ip, port));
        let mut found = self.connection(told, dst)?;
        found.address = (!outside).then(|| dst.address());
        Ok(found)
    }

    fn connection(&self, told: &Destination, dst: OriginalDst) -> Result<Port, String> {
        let Judge { mesh, source, .. } = self;
        let found = Port::new(dst.port());
        if !self.served {
            return Ok(self.not_captured(found, dst));
        }
        let decision = match decision::outbound(mesh, source, dst, &mut Rng::seeded(1)) {
            Outbound::Named => decision::named(mesh, source, dst, self.said(dst).as_ref(), &mut Rng::seeded(1))
                .unwrap_or_else(Outbound::Refuse),
            decided => decided,
        };
        let direct = self.node.direct.then(|| decision::direct(mesh, source, dst));
        let not_direct = match &direct {
            None => "the tunnel runs without --direct",
            Some(Ok(_)) => "",
            Some(Err(why)) => why.text(),
        };
        let found = Port { not_direct, ..found };
        let asked = matches!(decision, Outbound::Http(_) | Outbound::Tls(_)) || self.is_routed(dst);
        let asked = if asked { Some(self.asked(told, dst)?) } else { None };
        let routes = asked.as_ref().map(|asked| asked.explain(mesh, source));
        let (path, waypoint, ways) = match decision {
            Outbound::Refuse(why) if asked.is_none() => {
                return Ok(Port { not_direct, ..Port::refused(dst.port(), why) })
            }
            Outbound::Passthrough { .. } => return Ok(Port { path: "plain", ..found }),
            Outbound::Plain(Plain { destination: None, .. }) => return Ok(Port { path: "plain", ..found }),
            Outbound::Hbone(route) if route.authority != decision::Authority::Address(at_endpoint(&route)) => {
                ("tunnel", true, Ok(self.only(Way::Hbone(route))))
            }
            Outbound::Http(_) => ("requests", false, self.ways(asked.as_ref(), dst)),
            decided => {
                let single = match decided {
                    Outbound::Hbone(route) => Some(Way::Hbone(route)),
                    Outbound::Plain(plain) => Some(Way::Plain(plain)),
                    _ => None,
                };
                let ways = match (self.is_balanced(dst), single) {
                    (false, Some(way)) => Ok(self.only(way)),
                    _ => self.ways(asked.as_ref(), dst),
                };
                ("", false, ways)
            }
        };
        let found = Port { waypoint, routes, ..found };
        let ways = match ways {
            Ok(ways) if ways.all.is_empty() && !ways.elsewhere => return Ok(found.without_forward(asked.is_some())),
            Ok(ways) => ways,
            Err(why) => return Ok(Port { path, ..found.because(why) }),
        };
        let path = if path.is_empty() && ways.elsewhere { "plain" } else { path };
        let is_direct = matches!(direct, Some(Ok(_)));
        let endpoints = ways.all.iter().map(|one| self.endpoint(one, is_direct)).collect();
        Ok(Port { path, endpoints, ..found }.judged().unless_missing(ways.missing))
    }

    /// Nothing is chosen, and nothing changed.
    fn only(&self, way: Way) -> Chances {
        Chances {
            all: vec![Chance { way, used: true, request: self.request.clone() }],
            elsewhere: false,
            missing: None,
        }
    }

    /// It goes as if there were no mesh: whoever is captured at the other end sees plain text.
    fn not_captured(&self, found: Port, dst: OriginalDst) -> Port {
        let Judge { mesh, source, .. } = self;
        let path = "plain";
        let way = |workload: &Arc<Workload>, addr| {
            Way::Plain(Plain { addr, destination: Some(workload.clone()), service: None })
        };
        let service = mesh.service_at(&source.network, dst.ip(), &source.identity.namespace);
        let ways = match (service, mesh.workload_at(&source.network, dst.ip())) {
            (Some(_), _) => self.ways(None, dst).map(|ways| {
                let plain = |found: Chance| {
                    let (workload, addr) = end_of(&found.way);
                    let way = workload.map(|workload| way(workload, addr));
                    Chance { way: way.unwrap_or(found.way), ..found }
                };
                ways.all.into_iter().map(plain).collect()
            }),
            (None, Some(workload)) => Ok(self.only(way(workload, dst.address())).all),
            (None, None) => Ok(vec![]),
        };
        match ways {
            Ok(ways) if ways.is_empty() => Port { path, ..found },
            Ok(ways) => {
                let endpoints = ways.iter().map(|one| self.endpoint(one, false)).collect();
                Port { path, endpoints, ..found }.judged()
            }
            Err(why) => found.because(why),
        }
    }

    fn asked(&self, told: &Destination, dst: OriginalDst) -> Result<Asked<'_>, String> {
        let WhyQuestion { from, to, method, path, headers, .. } = self.question;
        let host = match (told.kind, to.contains('/')) {
            ("service", true) => told.name.rsplit('/').next().unwrap_or(to),
            ("service", false) => to,
            _ => &dst.ip().to_string(),
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("http://{host}:{}{path}", dst.port());
        let question = RouteQuestion { from, method, url: &url, headers: headers.clone() };
        question.asked(self.mesh, self.source, self.node.paths)
    }

    /// What the client would name of what this node knows by its name.
    fn said(&self, dst: OriginalDst) -> Option<Said> {
        let Judge { mesh, source, question, .. } = self;
        let name = question.to.rsplit('/').next().unwrap_or(&question.to).to_ascii_lowercase();
        let known = |by: &NamedIn| mesh.named_at(&name, &source.identity.namespace, dst.port(), *by).is_some();
        let by = mesh.named_in(dst.port()).find(known)?;
        Some(Said { name, by })
    }

    /// By its address, else by the name that the client gives.
    fn service(&self, dst: OriginalDst) -> Option<&Arc<Service>> {
        let Judge { mesh, source, .. } = self;
        let namespace = &source.identity.namespace;
        let named = || self.said(dst).and_then(|said| mesh.named_at(&said.name, namespace, dst.port(), said.by));
        let service = mesh.service_at(&source.network, dst.ip(), namespace);
        service.or_else(|| named().filter(|_| dst.ip() == OUTSIDE))
    }

    fn is_routed(&self, dst: OriginalDst) -> bool {
        let Judge { mesh, source, .. } = self;
        let workload = mesh.workload_at(&source.network, dst.ip());
        self.service(dst).is_some_and(|service| decision::Routed::of(mesh, source, service, workload, dst).is_some())
    }

    /// Whether an endpoint is chosen.
    fn is_balanced(&self, dst: OriginalDst) -> bool {
        self.service(dst).is_some_and(|service| service.balancing != Balancing::Passthrough)
    }

    /// To all endpoints that may be chosen; none where no rule forwards.
    fn ways(&self, asked: Option<&Asked<'_>>, dst: OriginalDst) -> Result<Chances, Refusal> {
        let Judge { mesh, source, .. } = self;
        let service = self.service(dst);
        let own = || {
            let destination = |service: &Arc<Service>| routes::Destination::of(service.key.text().clone(), dst.port());
            let target = |service| routes::Target::Destination(Arc::new(destination(service)));
            service.map(|service| (target(service), self.request.clone())).into_iter().collect()
        };
        let (mut all, mut elsewhere, mut missing) = (vec![], false, None);
        for (target, request) in asked.map_or_else(own, |asked| asked.targets(source, &self.request)) {
            match target {
                routes::Target::Destination(destination) if is_elsewhere(&destination, dst) => elsewhere = true,
                routes::Target::Destination(destination) => match mesh.eligible(source, &destination, dst.address()) {
                    Ok(eligible) => {
                        let nearest = eligible.iter().map(|one| one.priority).min();
                        let service = mesh.service(&destination.service);
                        all.extend(eligible.iter().map(|one| Chance {
                            way: decision::to_endpoint(one.chosen, service),
                            used: Some(one.priority) == nearest,
                            request: request.clone(),
                        }));
                    }
                    Err(why) => missing = Some(why),
                },
                routes::Target::Unroutable(_) => missing = Some(Refusal::NoRoute),
            }
        }
        match missing {
            Some(why) if all.is_empty() && !elsewhere => Err(why),
            _ => Ok(Chances { all, elsewhere, missing }),
        }
    }

    /// What this node knows of the other end.
    fn endpoint(&self, chance: &Chance, direct: bool) -> Endpoint {
        let Chance { way, used, request } = chance;
        let (workload, address) = end_of(way);
        let node = workload.map_or("", |workload| &workload.node).to_owned();
        let encrypted = matches!(way, Way::Hbone(_));
        let path = match way {
            Way::Hbone(_) if direct => "direct",
            Way::Hbone(_) => "tunnel",
            Way::Plain(_) => "plain",
        };
        let told = Endpoint {
            name: workload.map(|workload| name(workload)).unwrap_or_default(),
            address,
            node,
            identity: workload.filter(|_| encrypted).map(|one| one.identity.to_string()).unwrap_or_default(),
            path,
            used: *used,
            verdict: "allowed",
            text: "allowed".into(),
            policy: None,
            policies_known: true,
        };
        let Some(workload) = workload.filter(|workload| workload.tunnel == TunnelProtocol::Hbone) else { return told };
        let attempt = Attempt {
            peer: encrypted.then(|| self.source.identity.clone()),
            source: one_family(&self.source.addresses, &[address.ip()]).map_or(OUTSIDE, |(ip, _)| ip),
            destination: address,
            door: None,
        };
        let explanation = self.mesh.guard_of(workload).explain(&attempt, Some(request.request(attempt.source)));
        let outcome = explanation.of_port(address.port());
        let (verdict, text) = match self.lacks_certificate(encrypted) {
            true => (Refusal::NoIdentity.name(), Refusal::NoIdentity.explain("")),
            false => outcome.verdict(),
        };
        let policy = serde_json::to_value(&outcome).ok();
        Endpoint { verdict, text, policy, policies_known: *workload.node == *self.node.name, ..told }
    }

    fn lacks_certificate(&self, encrypted: bool) -> bool {
        encrypted && self.node.certificates.get(&self.source.identity).is_none_or(|until| *until < self.node.now)
    }

    /// Of its endpoints, to which the pod's resolver leads where a service has no address of its own.
    fn addresses_of(&self, service: &Arc<Service>, port: u16) -> Vec<IpAddr> {
        let destination = routes::Destination::of(service.key.text().clone(), port);
        let called = SocketAddr::new(self.source.addresses[0], port);
        let eligible = self.mesh.eligible(self.source, &destination, called).unwrap_or_default();
        eligible.iter().map(|one| one.chosen.ip).collect()
    }
}

/// Whether its endpoints are addresses that only DNS has, or the client.
fn is_elsewhere(destination: &routes::Destination, dst: OriginalDst) -> bool {
    match destination.policy.balancing {
        routes::Balancing::DynamicDns => true,
        routes::Balancing::Passthrough => dst.ip() == OUTSIDE,
        _ => false,
    }
}

fn at_endpoint(route: &Route) -> SocketAddr {
    match &route.authority {
        decision::Authority::Address(address) if address.ip() == route.dial.ip() => *address,
        _ => route.dial,
    }
}

/// Who is there, and where its application listens.
pub(super) fn end_of(way: &Way) -> (Option<&Arc<Workload>>, SocketAddr) {
    match way {
        Way::Hbone(route) => (Some(&route.destination), at_endpoint(route)),
        Way::Plain(plain) => (plain.destination.as_ref(), plain.addr),
    }
}
