//! Connections to ports that have routes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::outbound::{to_endpoint, Outbound};
use crate::base::{OriginalDst, Refusal, Rng};
use crate::mesh::{Chosen, Eligible, Mesh, Service, TunnelProtocol, Workload};
use crate::routes::{Balancing, Client, Connection, Destination, HashKey, PortRoutes, Scope, Target, Tls};

/// A service's port with the rules that hold for the client.
#[derive(Clone, Debug)]
pub struct Routed {
    /// That the application meant.
    pub service: Arc<Service>,
    pub port: Arc<PortRoutes>,
    /// Of `port`.
    pub scope: Arc<Scope>,
}

/// A connection to a destination whose policy asks for more than to reach any endpoint.
#[derive(Clone, Debug)]
pub struct Governed {
    /// The destination's.
    pub service: Arc<Service>,
    pub destination: Arc<Destination>,
    /// That DNS has the endpoints of; empty: they are the service's.
    pub name: String,
}

/// What a client has said of the server that it means.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hello<'a> {
    /// What its ClientHello names, if it is one and does.
    pub sni: Option<&'a str>,
    /// What DNS has for it, where that matters ([`Scope::name_of`]).
    pub addresses: &'a [IpAddr],
}

impl Routed {
    /// A workload as rules see it.
    pub fn client(source: &Workload) -> Client<'_> {
        Client { namespace: &source.identity.namespace, labels: &source.labels }
    }

    /// What is in force for a connection of `source` to a service; None: nothing, it goes as it is. An address that is a
    /// pod's own means the pod.
    pub fn of(
        mesh: &Mesh,
        source: &Workload,
        service: &Arc<Service>,
        workload: Option<&Arc<Workload>>,
        dst: OriginalDst,
    ) -> Option<Routed> {
        let port = mesh.routes_for(source, service, dst.port())?;
        let to_pod = workload.is_some_and(|workload| workload.is_pod());
        (!to_pod).then(|| Routed {
            service: service.clone(),
            port: port.clone(),
            scope: port.scope(&Routed::client(source)).clone(),
        })
    }

    /// How TLS is asked for, where nothing else is said of connections: then they go as without routes.
    pub fn only_tls(&self) -> Option<&Tls> {
        self.scope.only_tls(self.service.key.text(), self.port.port)
    }

    /// Before anything was read.
    pub fn decide(self, mesh: &Mesh, source: &Workload, dst: OriginalDst, rng: &mut Rng) -> Result<Outbound, Refusal> {
        if self.port.is_http() {
            return Ok(Outbound::Http(self));
        }
        match self.scope.needs_sni() {
            true => Ok(Outbound::Tls(self)),
            false => self.connect(mesh, source, dst, Hello::default(), rng),
        }
    }

    /// By rules for connections.
    pub fn connect(
        &self,
        mesh: &Mesh,
        source: &Workload,
        dst: OriginalDst,
        hello: Hello<'_>,
        rng: &mut Rng,
    ) -> Result<Outbound, Refusal> {
        by_rules(&self.scope, mesh, source, dst, hello, rng)
    }
}

/// By the rules for connections of a scope.
pub fn by_rules(
    scope: &Scope,
    mesh: &Mesh,
    source: &Workload,
    dst: OriginalDst,
    hello: Hello<'_>,
    rng: &mut Rng,
) -> Result<Outbound, Refusal> {
    let connection = Connection { destination: dst.ip(), port: dst.port(), sni: hello.sni };
    let draw = |limit| rng.below(limit).unwrap_or_default();
    match scope.connect(&Routed::client(source), &connection, draw) {
        Some((_, Target::Destination(destination))) if destination.policy.governs_connections() => {
            eligible(mesh, source, destination, dst.address(), hello)?;
            let service = mesh.service(&destination.service).ok_or(Refusal::UnknownService)?.clone();
            let name = hello.sni.and_then(|sni| destination.name_of(sni)).unwrap_or_default();
            Ok(Outbound::Governed(Governed { service, destination: destination.clone(), name }))
        }
        Some((_, Target::Destination(destination))) => {
            to_destination(mesh, source, destination, eligible(mesh, source, destination, dst.address(), hello)?, rng)
        }
        Some((_, Target::Unroutable(_))) | None => Err(Refusal::NoRoute),
    }
}

fn eligible<'a>(
    mesh: &'a Mesh,
    source: &Workload,
    destination: &Destination,
    called: SocketAddr,
    hello: Hello<'_>,
) -> Result<Vec<Eligible<'a>>, Refusal> {
    match destination.policy.balancing {
        Balancing::DynamicDns if hello.sni.and_then(|sni| destination.name_of(sni)).is_none() => Err(Refusal::NoRoute),
        Balancing::DynamicDns => mesh.resolved(source, destination, hello.addresses),
        _ => mesh.eligible(source, destination, called),
    }
}

fn to_destination(
    mesh: &Mesh,
    source: &Workload,
    destination: &Destination,
    mut eligible: Vec<Eligible<'_>>,
    rng: &mut Rng,
) -> Result<Outbound, Refusal> {
    if destination.policy.tls == Some(Tls::IstioMutual) {
        eligible.retain(|one| one.chosen.workload.tunnel == TunnelProtocol::Hbone);
        if eligible.is_empty() {
            return Err(Refusal::NotMutual);
        }
    }
    let first = eligible.iter().map(|one| one.priority).min();
    let nearest: Vec<_> = eligible.iter().filter(|one| Some(one.priority) == first).collect();
    let chosen = match destination.policy.balancing {
        Balancing::Hash { key: HashKey::SourceIp, .. } => own(&nearest, source),
        _ => draw(&nearest, rng),
    };
    let chosen = chosen.ok_or(Refusal::NoEndpoint)?;
    Ok(to_endpoint(chosen, mesh.service(&destination.service)).into())
}

/// The client's own one (a Service's `sessionAffinity: ClientIP`): by rendezvous, so that another endpoint that comes or goes
/// moves only the clients that it gets or had.
fn own<'a>(eligible: &[&Eligible<'a>], source: &Workload) -> Option<Chosen<'a>> {
    let score = |one: &Eligible<'_>| {
        let mut hasher = DefaultHasher::new();
        (source.addresses.first(), &one.chosen.workload.uid, one.chosen.port).hash(&mut hasher);
        let part = ((hasher.finish() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(one.weight) / part.ln()
    };
    let best = eligible.iter().max_by(|one, other| score(one).total_cmp(&score(other)));
    best.map(|one| one.chosen)
}

/// One of them, by weight.
fn draw<'a>(eligible: &[&Eligible<'a>], rng: &mut Rng) -> Option<Chosen<'a>> {
    let mut point = rng.below(eligible.iter().map(|one| u64::from(one.weight)).sum())?;
    let drawn = eligible.iter().find(|one| {
        let found = point < u64::from(one.weight);
        point = point.saturating_sub(u64::from(one.weight));
        found
    });
    drawn.map(|one| one.chosen)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{direct, needed, outbound};
    use super::*;
    use crate::mesh::testing::*;
    use crate::routes::proto::{self, SERVICE_ROUTES};
    use crate::routes::testing::{rule, scope, share};

    /// Routes of the service `web` (10.1.0.1:80), whose destinations are its subsets v1 and v2 and the service `other`.
    fn routed(protocol: proto::Protocol, change: impl FnOnce(&mut proto::Scope)) -> Mesh {
        let (web, other) = (service("web", &["10.1.0.1"]), service("other", &["10.1.0.2"]));
        let labelled = |name: &str, ip, of: &crate::config::proto::Service, version: &str| {
            let labels = [("version".to_owned(), version.to_owned())].into();
            resource(crate::config::proto::Workload { labels, ..pod(name, &[ip]) }.of(of, &[]))
        };
        let mesh = mesh([
            resource(web.clone()),
            resource(other.clone()),
            resource(pod("client", &["10.0.0.1"])),
            labelled("one", "10.0.0.2", &web, "v1"),
            labelled("two", "10.0.0.3", &web, "v2"),
            labelled("third", "10.0.0.4", &other, "v1"),
        ]);
        let to = |hostname: &str, subset: &str, labels: &[(&str, &str)]| proto::Destination {
            namespace: "default".into(),
            hostname: format!("{hostname}.default.svc.cluster.local"),
            port: 80,
            subset: subset.into(),
            labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            ..Default::default()
        };
        let v = |version| to("web", version, &[("version", version)]);
        let mut sent = proto::Scope { destinations: vec![v("v1"), v("v2"), to("other", "", &[])], ..scope(vec![]) };
        change(&mut sent);
        let port = proto::PortRoutes { port: 80, protocol: protocol.into(), scopes: vec![sent], hosts: vec![] };
        let (namespace, hostname) = ("default".into(), web.hostname.clone());
        let routes = proto::ServiceRoutes { namespace, hostname, ports: vec![port] };
        let (mesh, rejected) = mesh.apply(SERVICE_ROUTES, [self::sent(SERVICE_ROUTES, &key(&web), &routes)], &[]);
        assert_eq!(rejected, []);
        mesh
    }

    fn tcp(shares: &[(u32, u32)]) -> proto::TcpRule {
        let destinations = shares.iter().map(|(place, weight)| share(proto::Target::Destination(*place), *weight));
        proto::TcpRule { destinations: destinations.collect(), ..Default::default() }
    }

    fn dst(text: &str) -> OriginalDst {
        OriginalDst::new(text.parse().unwrap())
    }

    fn name(decision: Outbound) -> String {
        match decision {
            Outbound::Hbone(route) => format!("{} of {}", route.destination.name, route.service.unwrap().name),
            Outbound::Http(routed) => format!("http {}", routed.service.name),
            Outbound::Tls(routed) => format!("tls {}", routed.service.name),
            Outbound::Governed(governed) => format!("governed {}", governed.service.name),
            Outbound::Refuse(why) => why.name().to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn decide(mesh: &Mesh, to: &str, rng: &mut Rng) -> String {
        name(outbound(mesh, &mesh.pod("client"), dst(to), rng))
    }

    #[test]
    fn requests_are_routed_by_whoever_reads_them() {
        let mesh = routed(proto::Protocol::Http, |scope| scope.http.push(rule("r", &[])));
        for (to, expected) in [("10.1.0.1:80", "http web"), ("10.1.0.2:80", "third of other")] {
            assert_eq!(decide(&mesh, to, &mut Rng::seeded(1)), expected);
        }
        let source = mesh.pod("client");
        assert!(
            direct(&mesh, &source, dst("10.1.0.2:80")).is_ok() && direct(&mesh, &source, dst("10.1.0.1:80")).is_err()
        );
    }

    #[test]
    fn connections_go_to_subsets_and_other_services_by_weight() {
        let mesh = routed(proto::Protocol::Tcp, |scope| scope.tcp.push(tcp(&[(0, 70), (1, 20), (2, 10)])));
        let (mut rng, mut counts) = (Rng::seeded(1), BTreeMap::new());
        (0..1000).for_each(|_| *counts.entry(decide(&mesh, "10.1.0.1:80", &mut rng)).or_insert(0_i32) += 1);
        let expected = [("one of web", 700), ("third of other", 100), ("two of web", 200)];
        assert_eq!(counts.len(), 3, "{counts:?}");
        for (name, about) in expected {
            assert!((counts[name] - about).abs() < 60, "{counts:?}");
        }
    }

    #[test]
    fn what_is_before_a_destination_is_passed() {
        let at = waypoint("default/proxy.default.svc.cluster.local", 80);
        let other = crate::config::proto::Service { waypoint: Some(at), ..service("other", &["10.1.0.2"]) };
        let proxy = service("proxy", &["10.1.0.9"]);
        let to_other = |scope: &mut proto::Scope| scope.tcp.push(tcp(&[(2, 1)]));
        let mesh = routed(proto::Protocol::Tcp, to_other).and([resource(other), resource(proxy.clone())]);
        let decide = |mesh: &Mesh| outbound(mesh, &mesh.pod("client"), dst("10.1.0.1:80"), &mut Rng::seeded(1));
        assert_eq!(name(decide(&mesh)), "unknown_waypoint", "none is there, and nothing goes past it");
        let mesh = mesh.and([resource(pod("wp", &["10.0.0.9"]).of(&proxy, &[]))]);
        let Outbound::Hbone(route) = decide(&mesh) else { panic!("{:?}", decide(&mesh)) };
        assert_eq!((&*route.destination.name, route.authority.to_string().as_str()), ("wp", "10.1.0.2:80"));
        assert_eq!((route.dial, &*route.service.unwrap().name), ("10.0.0.9:8080".parse().unwrap(), "other"));
        let source = mesh.pod("wp");
        assert_eq!(name(outbound(&mesh, &source, dst("10.1.0.2:80"), &mut Rng::seeded(1))), "third of other");
    }

    #[test]
    fn what_no_rule_takes_or_leads_nowhere_is_refused() {
        let unmatched = routed(proto::Protocol::Tcp, |_| ());
        assert_eq!(decide(&unmatched, "10.1.0.1:80", &mut Rng::seeded(1)), "no_route");
        let empty = routed(proto::Protocol::Tcp, |scope| {
            scope.destinations[0].labels.insert("version".into(), "v9".into());
            scope.tcp.push(tcp(&[(0, 1)]));
        });
        assert_eq!(decide(&empty, "10.1.0.1:80", &mut Rng::seeded(1)), "no_endpoint");
        let unknown = routed(proto::Protocol::Tcp, |scope| {
            scope.destinations[0].hostname = "nobody".into();
            scope.tcp.push(tcp(&[(0, 1)]));
        });
        assert_eq!(decide(&unknown, "10.1.0.1:80", &mut Rng::seeded(1)), "unknown_service");
        let encrypted = routed(proto::Protocol::Tcp, |scope| {
            let tls = proto::Tls { mode: proto::TlsMode::Simple.into(), ..Default::default() };
            scope.destinations[0].policy = Some(proto::Policy { tls: Some(tls), ..Default::default() });
            scope.tcp.push(tcp(&[(0, 1)]));
        });
        assert_eq!(decide(&encrypted, "10.1.0.1:80", &mut Rng::seeded(1)), "governed web");
    }

    #[test]
    fn what_a_policy_asks_of_connections_is_for_whoever_connects() {
        let asked = |policy: proto::Policy| {
            let mesh = routed(proto::Protocol::Tcp, |scope| {
                scope.destinations[2].policy = Some(policy);
                scope.tcp.push(tcp(&[(2, 1)]));
            });
            decide(&mesh, "10.1.0.1:80", &mut Rng::seeded(1))
        };
        let pool = proto::ConnectionPool { max_connections: 1, ..Default::default() };
        let tunnel = proto::Tunnel { method: "CONNECT".into(), host: "a".into(), port: 1 };
        for policy in [
            proto::Policy { connection_pool: Some(pool), ..Default::default() },
            proto::Policy { proxy_protocol: proto::ProxyProtocol::V1.into(), ..Default::default() },
            proto::Policy { tunnel: Some(tunnel), ..Default::default() },
        ] {
            assert_eq!(asked(policy), "governed other");
        }
        assert_eq!(asked(proto::Policy::default()), "third of other");
    }

    #[test]
    fn mutual_tls_leads_to_pods_of_the_mesh_alone() {
        let mutual = || Some(proto::Tls { mode: proto::TlsMode::IstioMutual.into(), ..Default::default() });
        let mesh = routed(proto::Protocol::Tcp, |scope| {
            scope.destinations[0].labels.clear();
            scope.destinations[0].subset.clear();
            scope.destinations[0].policy = Some(proto::Policy { tls: mutual(), ..Default::default() });
            scope.tcp.push(tcp(&[(0, 1)]));
        });
        let source = mesh.pod("client");
        let (mut rng, web) = (Rng::seeded(1), service("web", &["10.1.0.1"]));
        assert!(decide(&mesh, "10.1.0.1:80", &mut rng).ends_with(" of web"));
        let alone = mesh.without(&["Kubernetes//Pod/default/two"]);
        assert!(direct(&alone, &source, dst("10.1.0.1:80")).is_ok(), "nothing else is asked for");
        let mixed = alone.and([resource(pod("plain", &["10.0.0.9"]).plain().of(&web, &[]))]);
        assert!((0..50).all(|_| decide(&mixed, "10.1.0.1:80", &mut rng) == "one of web"));
        let plain = mixed.without(&["Kubernetes//Pod/default/one"]);
        assert_eq!(decide(&plain, "10.1.0.1:80", &mut rng), "not_mutual");
    }

    #[test]
    fn connections_of_a_client_stay_together_where_they_are_to() {
        let affine = || {
            routed(proto::Protocol::Tcp, |scope| {
                let hash = proto::ConsistentHash { key: Some(proto::HashKey::SourceIp(true)), ..Default::default() };
                let load_balancer = Some(proto::LoadBalancer { consistent_hash: Some(hash), ..Default::default() });
                scope.destinations[0].labels.clear();
                scope.destinations[0].policy = Some(proto::Policy { load_balancer, ..Default::default() });
                scope.tcp.push(tcp(&[(0, 1)]));
            })
        };
        let mesh = affine();
        let mut rng = Rng::seeded(1);
        let all =
            |mesh: &Mesh, rng: &mut Rng| -> Vec<_> { (0..50).map(|_| decide(mesh, "10.1.0.1:80", rng)).collect() };
        let first = all(&mesh, &mut rng);
        assert!(first.iter().all(|one| *one == first[0]), "{first:?}");
        assert_eq!(all(&affine(), &mut Rng::seeded(2)), first, "on each node, in each process");
        // Clients are spread.
        let service = mesh.service("default/web.default.svc.cluster.local").unwrap().clone();
        let routed = Routed::of(&mesh, &mesh.pod("client"), &service, None, dst("10.1.0.1:80")).unwrap();
        let mut counts = BTreeMap::new();
        for number in 0..200u8 {
            let ip = format!("10.9.0.{number}");
            let clients = self::mesh([resource(pod("client", &[&ip]))]);
            let decided = routed.connect(&mesh, &clients.pod("client"), dst("10.1.0.1:80"), Hello::default(), &mut rng);
            *counts.entry(name(decided.unwrap())).or_insert(0) += 1;
        }
        assert!(counts.len() == 2 && counts.values().all(|count| (60..140).contains(count)), "{counts:?}");
    }

    #[test]
    fn tls_waits_for_the_name_of_the_server() {
        let mesh = routed(proto::Protocol::Tls, |scope| {
            let matches = vec![proto::TlsMatch { sni_hosts: vec!["b.example.com".into()], ..Default::default() }];
            let destinations = vec![share(proto::Target::Destination(1), 1)];
            scope.tls.push(proto::TlsRule { matches, destinations, ..Default::default() });
            scope.tcp.push(tcp(&[(0, 1)]));
        });
        let source = mesh.pod("client");
        let Outbound::Tls(routed) = outbound(&mesh, &source, dst("10.1.0.1:80"), &mut Rng::seeded(1)) else { panic!() };
        for (sni, expected) in [(Some("b.example.com"), "two of web"), (Some("x"), "one of web"), (None, "one of web")]
        {
            let decided =
                routed.connect(&mesh, &source, dst("10.1.0.1:80"), Hello { sni, addresses: &[] }, &mut Rng::seeded(1));
            assert_eq!(name(decided.unwrap()), expected);
        }
    }

    #[test]
    fn what_dns_is_asked_for_is_what_a_client_hello_names() {
        let dynamic = |limit: u32| {
            let wild = crate::config::proto::Service { hostname: "*.example".into(), ..service("wild", &[]) };
            let mesh = routed(proto::Protocol::Tls, |scope| {
                let balancer =
                    proto::LoadBalancer { algorithm: proto::Algorithm::DynamicDns.into(), ..Default::default() };
                let pool = proto::ConnectionPool { max_connections: limit, ..Default::default() };
                let pool = (limit > 0).then_some(pool);
                let policy =
                    proto::Policy { load_balancer: Some(balancer), connection_pool: pool, ..Default::default() };
                scope.destinations[0] = proto::Destination {
                    namespace: "default".into(),
                    hostname: "*.example".into(),
                    port: 80,
                    policy: Some(policy),
                    ..Default::default()
                };
                scope.tcp.push(tcp(&[(0, 1)]));
            });
            mesh.and([resource(wild)])
        };
        let addresses = ["192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        for (limit, sni, addresses, expected) in [
            (0, Some("API.example"), &addresses[..], "192.0.2.1:8080"),
            (0, Some("api.example"), &[], "no_address"),
            (0, Some("api.other"), &addresses, "no_route"),
            (0, None, &addresses, "no_route"),
            (1, Some("API.example"), &addresses, "governed wild as api.example"),
            (1, Some("api.other"), &addresses, "no_route"),
            (1, Some("api.example"), &addresses[1..], "no_address"),
        ] {
            let mesh = dynamic(limit);
            let source = mesh.pod("client");
            let decided = outbound(&mesh, &source, dst("10.1.0.1:80"), &mut Rng::seeded(1));
            let Outbound::Tls(routed) = decided else { panic!("{decided:?}") };
            let hello = Hello { sni, addresses };
            let decided = routed.connect(&mesh, &source, dst("10.1.0.1:80"), hello, &mut Rng::seeded(1));
            let told = match decided {
                Ok(Outbound::Plain(plain)) => plain.addr.to_string(),
                Ok(Outbound::Governed(to)) => format!("governed {} as {}", to.service.name, to.name),
                Err(refusal) => refusal.name().to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(told, expected, "{limit} {sni:?}");
        }
    }

    #[test]
    fn destinations_are_needed_where_the_mesh_knows_what_was_asked_for() {
        let mesh = routed(proto::Protocol::Http, |scope| scope.destinations[1].hostname = "late".into());
        let needed: Vec<_> = needed(&mesh, &mesh.pod("client"), dst("10.1.0.1:80")).into_iter().skip(1).collect();
        let told: Vec<_> = needed.iter().map(|needed| (&*needed.name, needed.known)).collect();
        let own = "default/web.default.svc.cluster.local";
        assert_eq!(told, [(own, true), ("default/late", false), ("default/other.default.svc.cluster.local", true)]);
    }
}
