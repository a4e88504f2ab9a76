//! Services by their hostnames; those of ServiceEntries also by wildcards, as clients name them.

use std::sync::Arc;

use super::index::preferred;
use super::service::{Service, ServiceKey};
use super::Mesh;

/// In what a client names the service that it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedIn {
    /// A request's Host, or its authority.
    Host,
    /// A ClientHello.
    Sni,
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Hosts {
    /// Those with virtual addresses: DNS knows nothing of these.
    virtual_hosts: imbl::OrdSet<ServiceKey>,
    /// How many services clients name at a port, in a Host and in a ClientHello.
    ports: imbl::HashMap<u16, [u32; 2]>,
}

impl Hosts {
    pub fn insert(&mut self, service: &Service) {
        let Some(ports) = &service.named else { return };
        if !service.vips.is_empty() {
            self.virtual_hosts.insert(service.key.clone());
        }
        for (port, by) in ports {
            self.ports.entry(*port).or_default()[*by as usize] += 1;
        }
    }

    pub fn remove(&mut self, service: &Service) {
        let Some(ports) = &service.named else { return };
        self.virtual_hosts.remove(&service.key);
        for (port, by) in ports {
            if let Some(counts) = self.ports.get_mut(port) {
                counts[*by as usize] -= 1;
                if *counts == [0, 0] {
                    self.ports.remove(port);
                }
            }
        }
    }
}

impl Mesh {
    /// The service that a client in `namespace` means by a host name.
    pub fn service_named(&self, hostname: &str, namespace: &str) -> Option<&Arc<Service>> {
        preferred(self.hosts.get(&hostname.into()), namespace)
    }

    /// Whether names that a client in a namespace may use have addresses that only the mesh knows.
    pub fn has_virtual_hosts(&self, namespace: &str) -> bool {
        let mut services = self.named.virtual_hosts.iter().filter_map(|key| self.service(key.text()));
        services.any(|service| service.visible_from(namespace))
    }

    /// The service with virtual addresses that a client in a namespace means by a hostname, in lower case.
    pub fn virtual_host(&self, hostname: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.named(hostname, namespace).filter(|service| !service.vips.is_empty())
    }

    /// In what clients name services at a port; none: nobody is asked to say anything.
    pub fn named_in(&self, port: u16) -> impl Iterator<Item = NamedIn> + use<> {
        let [hosts, hellos] = self.named.ports.get(&port).copied().unwrap_or_default();
        [(hosts, NamedIn::Host), (hellos, NamedIn::Sni)].into_iter().filter(|(count, _)| *count > 0).map(|(_, by)| by)
    }

    /// The service that a client in a namespace means by a hostname, in lower case, at a port.
    pub fn named_at(&self, hostname: &str, namespace: &str, port: u16, by: NamedIn) -> Option<&Arc<Service>> {
        let has_port =
            |service: &&Arc<Service>| service.named.as_deref().is_some_and(|ports| ports.contains(&(port, by)));
        self.named(hostname, namespace).filter(has_port)
    }

    /// Of a ServiceEntry: by its own hostname, else by the wildcard that says most of it. A Service's hostname is its own.
    pub fn named(&self, hostname: &str, namespace: &str) -> Option<&Arc<Service>> {
        let suffixes = || hostname.match_indices('.').map(|(dot, _)| &hostname[dot..]);
        let wildcard = || suffixes().find_map(|suffix| self.service_named(&format!("*{suffix}"), namespace));
        self.service_named(hostname, namespace).or_else(wildcard).filter(|service| service.named.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{proto, Mesh};
    use super::*;

    fn entry(host: &str, vips: &[&str], http: &[u32], tls: &[u32]) -> proto::Service {
        let by_name = proto::ByName { http: http.into(), tls: tls.into() };
        proto::Service { hostname: host.into(), by_name: Some(by_name), ..service(host, vips) }
    }

    fn a_mesh() -> Mesh {
        mesh([
            resource(service("web", &["10.1.0.1"])),
            resource(entry("api.example", &["240.240.0.1"], &[80], &[443])),
            resource(entry("*.example", &["240.240.0.2"], &[80], &[])),
            resource(entry("*.b.example", &[], &[80], &[])),
            resource(entry("*.svc.cluster.local", &[], &[80], &[])),
            resource(in_namespace(entry("api.example", &["240.240.0.3"], &[], &[443]), "shop")),
        ])
    }

    fn named(mesh: &Mesh, host: &str, namespace: &str, port: u16, by: NamedIn) -> Option<String> {
        mesh.named_at(host, namespace, port, by).map(|service| service.key.to_string())
    }

    #[test]
    fn a_hostname_comes_before_wildcards_and_longer_ones_before_shorter_ones() {
        let mesh = a_mesh();
        for (host, namespace, port, by, expected) in [
            ("api.example", "default", 80, NamedIn::Host, Some("default/api.example")),
            ("api.example", "default", 443, NamedIn::Sni, Some("default/api.example")),
            ("api.example", "shop", 443, NamedIn::Sni, Some("shop/api.example")),
            ("api.example", "shop", 80, NamedIn::Host, None),
            ("api.example", "default", 443, NamedIn::Host, None),
            ("other.example", "default", 80, NamedIn::Host, Some("default/*.example")),
            ("x.y.b.example", "default", 80, NamedIn::Host, Some("default/*.b.example")),
            ("example", "default", 80, NamedIn::Host, None),
            ("badexample", "default", 80, NamedIn::Host, None),
            ("web.default.svc.cluster.local", "default", 80, NamedIn::Host, None),
            ("gone.default.svc.cluster.local", "default", 80, NamedIn::Host, Some("default/*.svc.cluster.local")),
        ] {
            assert_eq!(named(&mesh, host, namespace, port, by).as_deref(), expected, "{host} {namespace} {port}");
        }
    }

    #[test]
    fn names_without_addresses_are_left_to_dns() {
        let mesh = a_mesh();
        let vip = |host: &str| mesh.virtual_host(host, "default").map(|service| service.vips[0].ip.to_string());
        assert_eq!(vip("api.example").as_deref(), Some("240.240.0.1"));
        assert_eq!(vip("other.example").as_deref(), Some("240.240.0.2"));
        assert_eq!(vip("web.default.svc.cluster.local"), None);
        assert_eq!(vip("x.b.example"), None);
    }

    #[test]
    fn it_is_known_whether_there_are_any() {
        let mesh = a_mesh();
        assert_eq!(mesh.named_in(80).collect::<Vec<_>>(), [NamedIn::Host]);
        assert_eq!(mesh.named_in(443).collect::<Vec<_>>(), [NamedIn::Sni]);
        assert!(mesh.has_virtual_hosts("anywhere"));
        let private = |host, vips: &[&str]| proto::Service { visibility: 1, ..entry(host, vips, &[81], &[]) };
        let (mesh, _) = mesh.apply(
            proto::ADDRESS,
            [resource(private("own.example", &["240.240.0.9"]))],
            &[
                "default/api.example",
                "default/*.example",
                "default/*.b.example",
                "default/*.svc.cluster.local",
                "shop/api.example",
            ]
            .map(str::to_owned),
        );
        assert!(mesh.has_virtual_hosts("default") && !mesh.has_virtual_hosts("shop"));
        assert_eq!((mesh.named_in(80).count(), mesh.named_in(443).count(), mesh.named_in(81).count()), (0, 0, 1));
    }
}
