//! Connections to addresses of which nothing is known, at ports where clients name the service that they mean.

use std::sync::Arc;

use super::outbound::{leave, to_service, Outbound};
use crate::base::{OriginalDst, Refusal, Rng};
use crate::mesh::{Mesh, NamedIn, Service, Workload};

/// What a client has said before anybody answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// In lower case, without a port.
    pub name: String,
    pub by: NamedIn,
}

/// Decides for a connection by what it names; None: it names nothing.
pub fn named(
    mesh: &Mesh,
    source: &Workload,
    dst: OriginalDst,
    said: Option<&Said>,
    rng: &mut Rng,
) -> Result<Outbound, Refusal> {
    let Some(service) = said.and_then(|said| meant(mesh, source, dst, said)) else {
        return leave(mesh, source, dst).map(|()| Outbound::Passthrough { addr: dst.address() });
    };
    to_service(mesh, source, service, None, dst, rng)
}

fn meant<'a>(mesh: &'a Mesh, source: &Workload, dst: OriginalDst, said: &Said) -> Option<&'a Arc<Service>> {
    mesh.named_at(&said.name, &source.identity.namespace, dst.port(), said.by)
}

#[cfg(test)]
mod tests {
    use super::super::{outbound, Plain};
    use super::*;
    use crate::config::proto;
    use crate::mesh::testing::*;

    /// `api.example` with an endpoint outside of the mesh, and `*.pass.example`, whose connections go where they went.
    fn a_mesh(policy: proto::OutboundTrafficPolicy) -> Mesh {
        let entry = |host: &str, mode: proto::Mode| proto::Service {
            hostname: host.into(),
            by_name: Some(proto::ByName { http: vec![80], tls: vec![443] }),
            ports: [80, 443]
                .map(|port| proto::Port { service_port: port, target_port: port, ..Default::default() })
                .into(),
            load_balancing: Some(proto::LoadBalancing { mode: mode as i32, ..Default::default() }),
            ..service(host, &[])
        };
        let api = entry("api.example", proto::Mode::Unspecified);
        let mesh = mesh([
            resource(api.clone()),
            resource(entry("*.pass.example", proto::Mode::Passthrough)),
            resource(pod("client", &["10.0.0.1"])),
            resource(pod("server", &["192.0.2.1"]).plain().of(&api, &[])),
        ]);
        mesh.apply(proto::TRAFFIC, [traffic("", policy)], &[]).0
    }

    fn decided(mesh: &Mesh, to: &str, name: Option<&str>, by: NamedIn) -> String {
        let (source, dst) = (mesh.pod("client"), OriginalDst::new(to.parse().unwrap()));
        let mut rng = Rng::from_entropy();
        assert!(matches!(outbound(mesh, &source, dst, &mut rng), Outbound::Named));
        let said = name.map(|name| Said { name: name.into(), by });
        match named(mesh, &source, dst, said.as_ref(), &mut rng) {
            Ok(Outbound::Plain(Plain { addr, service, .. })) => format!("{} {addr}", service.unwrap().key.hostname()),
            Ok(Outbound::Passthrough { addr }) => format!("passes {addr}"),
            Err(refusal) => refusal.name().to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_a_client_names_is_where_it_goes() {
        for (policy, unknown) in [
            (proto::OutboundTrafficPolicy::RegistryOnly, "not_in_registry"),
            (proto::OutboundTrafficPolicy::AllowAny, "passes 198.51.100.1:80"),
        ] {
            let mesh = a_mesh(policy);
            let to = "198.51.100.1:80";
            assert_eq!(decided(&mesh, to, Some("api.example"), NamedIn::Host), "api.example 192.0.2.1:80");
            assert_eq!(decided(&mesh, to, Some("a.pass.example"), NamedIn::Host), "*.pass.example 198.51.100.1:80");
            for name in [Some("evil.example"), Some("pass.example"), None] {
                assert_eq!(decided(&mesh, to, name, NamedIn::Host), unknown);
            }
            assert_eq!(decided(&mesh, to, Some("api.example"), NamedIn::Sni), unknown, "at this port a Host names it");
            let tls = decided(&mesh, "198.51.100.1:443", Some("api.example"), NamedIn::Sni);
            assert_eq!(tls, "api.example 192.0.2.1:443");
        }
    }

    #[test]
    fn elsewhere_nobody_is_asked() {
        let mesh = a_mesh(proto::OutboundTrafficPolicy::AllowAny);
        let source = mesh.pod("client");
        for to in ["198.51.100.1:81", "127.0.0.1:80", "192.0.2.1:80"] {
            let decided = outbound(&mesh, &source, OriginalDst::new(to.parse().unwrap()), &mut Rng::from_entropy());
            assert!(!matches!(decided, Outbound::Named), "{to}");
        }
    }
}
