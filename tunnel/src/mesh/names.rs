//! Endpoints that are known by a DNS name: one for each address that it has, or one at the first of them, as Envoy's
//! STRICT_DNS and LOGICAL_DNS.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::endpoints::Endpoint;
use super::workload::{Workload, WorkloadUid};
use super::{EndpointChanges, Mesh};

/// What DNS has answered, and whose endpoints it makes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Names {
    answers: imbl::HashMap<Arc<str>, Arc<[IpAddr]>>,
    workloads: imbl::HashMap<Arc<str>, imbl::OrdSet<WorkloadUid>>,
}

impl Names {
    pub fn insert(&mut self, workload: &Workload) {
        if let Some(name) = workload.dns_name() {
            self.workloads.entry(name.clone()).or_default().insert(workload.uid.clone());
        }
    }

    pub fn remove(&mut self, workload: &Workload) {
        let Some(name) = workload.dns_name() else { return };
        if let Some(uids) = self.workloads.get_mut(name) {
            uids.remove(&workload.uid);
            if uids.is_empty() {
                self.workloads.remove(name);
            }
        }
    }

    /// The workload at each place where it is reached; without an address as long as there is no answer.
    fn expand(&self, workload: &Arc<Workload>) -> Vec<Arc<Workload>> {
        let answer = workload.dns_name().and_then(|name| self.answers.get(name));
        let Some(addresses) = answer.filter(|addresses| !addresses.is_empty()) else { return vec![workload.clone()] };
        if workload.is_logical() {
            let first = |v4| addresses.iter().find(|ip| ip.is_ipv4() == v4).copied();
            let addresses = [first(true), first(false)].into_iter().flatten().collect();
            return vec![Arc::new(workload.at(workload.uid.clone(), addresses))];
        }
        let at = |ip: &IpAddr| {
            let uid = WorkloadUid(format!("{}/{ip}", workload.uid).into());
            Arc::new(workload.at(uid, [*ip].into()))
        };
        addresses.iter().map(at).collect()
    }
}

impl Mesh {
    /// The mesh after an answer of DNS: a name's addresses in the order of the answer; None: nobody asks for it any more. Gives
    /// None where that changes nothing.
    pub fn resolve(&self, name: &str, addresses: Option<&[IpAddr]>) -> Option<Mesh> {
        let named = self.names.workloads.get(name).into_iter().flatten();
        let named: Vec<_> = named.filter_map(|uid| self.workload(&uid.0)).collect();
        let places = |mesh: &Mesh| {
            let all = named.iter().flat_map(|workload| mesh.names.expand(workload));
            all.map(|place| (place.uid.clone(), place.addresses.clone())).collect::<HashSet<_>>()
        };
        let mut next = self.clone();
        match addresses {
            Some(addresses) => drop(next.names.answers.insert(name.into(), addresses.into())),
            None => drop(next.names.answers.remove(name)),
        }
        if next.names.answers.get(name).is_some() == self.names.answers.get(name).is_some()
            && places(self) == places(&next)
        {
            return None;
        }
        let mut changes = EndpointChanges::new();
        for workload in named {
            self.change_endpoints(workload, false, &mut changes);
            next.change_endpoints(workload, true, &mut changes);
        }
        next.update_endpoints(changes);
        Some(next)
    }

    /// The names of endpoints of services that clients in one of these namespaces may use.
    pub fn names(&self, namespaces: &HashSet<Arc<str>>) -> Vec<Arc<str>> {
        let visible = |uid: &WorkloadUid| {
            let services = self.workload(&uid.0).into_iter().flat_map(|workload| workload.services.iter());
            let mut known = services.filter_map(|(key, _)| self.service(key.text()));
            known.any(|service| namespaces.iter().any(|namespace| service.visible_from(namespace)))
        };
        let wanted = self.names.workloads.iter().filter(|(name, _)| !name.starts_with('*'));
        let wanted = wanted.filter(|(_, uids)| uids.iter().any(visible));
        wanted.map(|(name, _)| name.clone()).collect()
    }

    pub fn has_name(&self, name: &str) -> bool {
        self.names.workloads.contains_key(name)
    }

    /// What DNS has answered for each name.
    pub fn answers(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<[IpAddr]>)> {
        self.names.answers.iter()
    }

    /// Notes a workload's places among the endpoints of its services, or that they are gone.
    pub(super) fn change_endpoints(&self, workload: &Arc<Workload>, present: bool, changes: &mut EndpointChanges) {
        for place in self.names.expand(workload) {
            for (key, ports) in &workload.services {
                let endpoint = present.then(|| Endpoint { workload: place.clone(), ports: ports.clone() });
                changes.entry(key.clone()).or_default().insert(place.uid.clone(), endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{proto, Wanted};
    use super::*;
    use crate::base::{Refusal, Rng};

    fn named(name: &str, hostname: &str, logical_dns: bool) -> proto::Workload {
        proto::Workload { hostname: hostname.into(), logical_dns, ..pod(name, &[]).plain() }
    }

    /// A service `api` whose endpoint is `api.example`.
    fn a_mesh(logical: bool) -> Mesh {
        let api = service("api", &["240.240.0.1"]);
        mesh([
            resource(api.clone()),
            resource(pod("client", &["10.0.0.1"])),
            resource(pod("dual", &["10.0.0.2", "fd00::2"])),
            resource(named("api", "api.example", logical).of(&api, &[])),
        ])
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Where connections of a pod go.
    fn places(mesh: &Mesh, client: &str) -> Result<Vec<String>, Refusal> {
        let service = mesh.services().next().unwrap().clone();
        let (source, mut rng) = (mesh.pod(client), Rng::from_entropy());
        let wanted =
            Wanted { source: &source, service: &service, port: 80, ip: "240.240.0.1".parse().unwrap(), gateway: false };
        let mut found = HashSet::new();
        for _ in 0..200 {
            let chosen = mesh.endpoints(&service.key).unwrap().choose(wanted, &mut rng)?;
            found.insert(format!("{}:{}", chosen.ip, chosen.port));
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable();
        Ok(found)
    }

    #[test]
    fn every_address_is_an_endpoint() {
        let before = a_mesh(false);
        assert_eq!(places(&before, "client"), Err(Refusal::NoAddress));
        let mesh = before.resolve("api.example", Some(&ips(&["192.0.2.2", "192.0.2.1", "2001:db8::1"]))).unwrap();
        assert_eq!(places(&mesh, "client").unwrap(), ["192.0.2.1:8080", "192.0.2.2:8080"], "of the client's family");
        assert_eq!(places(&mesh, "dual").unwrap().len(), 3);
        let mesh = mesh.resolve("api.example", Some(&ips(&["192.0.2.3"]))).unwrap();
        assert_eq!(places(&mesh, "client").unwrap(), ["192.0.2.3:8080"]);
        let mesh = mesh.resolve("api.example", Some(&[])).unwrap();
        assert_eq!(places(&mesh, "client"), Err(Refusal::NoAddress));
    }

    #[test]
    fn of_a_logical_name_the_first_address_is_the_endpoint() {
        let mesh = a_mesh(true).resolve("api.example", Some(&ips(&["192.0.2.2", "192.0.2.1"]))).unwrap();
        assert_eq!(places(&mesh, "client").unwrap(), ["192.0.2.2:8080"]);
        assert!(mesh.resolve("api.example", Some(&ips(&["192.0.2.2", "192.0.2.9"]))).is_none());
        let mesh = mesh.resolve("api.example", Some(&ips(&["192.0.2.1", "192.0.2.2"]))).unwrap();
        assert_eq!(places(&mesh, "client").unwrap(), ["192.0.2.1:8080"]);
    }

    #[test]
    fn an_answer_in_another_order_is_no_other_answer() {
        let mesh = a_mesh(false).resolve("api.example", Some(&ips(&["192.0.2.2", "192.0.2.1"]))).unwrap();
        assert!(mesh.resolve("api.example", Some(&ips(&["192.0.2.1", "192.0.2.2"]))).is_none());
        assert!(mesh.resolve("other.example", None).is_none());
    }

    #[test]
    fn an_answer_outlives_versions_of_its_workload() {
        let mesh = a_mesh(false).resolve("api.example", Some(&ips(&["192.0.2.1"]))).unwrap();
        let api = service("api", &["240.240.0.1"]);
        let newer = proto::Workload { capacity: Some(5), ..named("api", "api.example", false) };
        let mesh = mesh.and([resource(newer.of(&api, &[]))]);
        assert_eq!(places(&mesh, "client").unwrap(), ["192.0.2.1:8080"]);
        let (mesh, _) = mesh.apply(proto::ADDRESS, [], &["Kubernetes//Pod/default/api".to_owned()]);
        assert!(mesh.endpoints(&mesh.services().next().unwrap().key).is_none());
        let mesh = mesh.resolve("api.example", None).unwrap();
        assert_eq!(mesh.answers().count(), 0);
    }

    #[test]
    fn its_addresses_are_nobodys_to_who_dials_them() {
        let mesh = a_mesh(false).resolve("api.example", Some(&ips(&["192.0.2.1"]))).unwrap();
        assert!(mesh.workload_at("", "192.0.2.1".parse().unwrap()).is_none());
    }

    #[test]
    fn names_are_those_of_services_that_a_namespace_sees() {
        let private = proto::Service { visibility: 1, ..in_namespace(service("own", &[]), "shop") };
        let mesh = a_mesh(false)
            .and([resource(private.clone()), resource(named("own", "own.example", false).of(&private, &[]))]);
        let names = |namespaces: &[&str]| {
            let mut names = mesh.names(&namespaces.iter().map(|name| Arc::from(*name)).collect());
            names.sort_unstable();
            names
        };
        assert_eq!(names(&["default"]), ["api.example".into()]);
        assert_eq!(names(&["shop", "default"]), ["api.example".into(), "own.example".into()]);
        assert!(names(&[]).is_empty());
    }
}
