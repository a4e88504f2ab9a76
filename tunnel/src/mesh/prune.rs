//! A mesh of which only a part is wanted.

use std::sync::Arc;

use super::{proto, Mesh, Service, Workload};

impl Mesh {
    /// Without what nobody has asked for, be it by its own name or by an address: of workloads those stay that are
    /// endpoints of a service that stays. Gives the names of what went, too.
    pub fn retain_subscribed(&self, asked: impl Fn(&str) -> bool) -> (Mesh, Vec<Arc<str>>) {
        let by_address = |network: &str, ip| asked(&format!("{network}/{ip}"));
        let service_stays = |service: &Service| {
            asked(service.key.text()) || service.vips.iter().any(|vip| by_address(&vip.network, vip.ip))
        };
        let workload_stays = |workload: &Workload| {
            let serves = |key| self.service(key).is_some_and(|service| service_stays(service));
            asked(&workload.uid.0)
                || workload.addresses.iter().any(|ip| by_address(&workload.network, *ip))
                || workload.services.iter().any(|(key, _)| serves(key.text()))
        };
        let services = self.services().filter(|service| !service_stays(service)).map(|s| s.key.text().clone());
        let workloads = self.workloads().filter(|workload| !workload_stays(workload)).map(|w| w.uid.0.clone());
        let gone: Vec<Arc<str>> = services.chain(workloads).collect();
        let names: Vec<String> = gone.iter().map(|name| name.to_string()).collect();
        (self.apply(proto::ADDRESS, [], &names).0, gone)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    #[test]
    fn what_nobody_asked_for_goes_and_endpoints_stay_with_their_service() {
        let (web, db) = (service("web", &["10.1.0.1"]), service("db", &["10.1.0.2"]));
        let mesh = mesh([
            resource(web.clone()),
            resource(db.clone()),
            resource(pod("a", &["10.0.0.1"]).of(&web, &[])),
            resource(pod("b", &["10.0.0.2"]).of(&db, &[])),
            resource(pod("c", &["10.0.0.3"])),
            resource(pod("d", &["10.0.0.4"])),
        ]);
        let of_c = "Kubernetes//Pod/default/c";
        let (part, gone) = mesh.retain_subscribed(|name| ["/10.1.0.1", of_c].contains(&name));
        let mut gone: Vec<_> = gone.iter().map(|name| &**name).collect();
        gone.sort_unstable();
        assert_eq!(gone, ["Kubernetes//Pod/default/b", "Kubernetes//Pod/default/d", key(&db).as_str()]);
        assert_eq!((part.at("10.0.0.1"), part.at("10.0.0.3"), part.at("10.0.0.4")), (Some("a"), Some("c"), None));
        assert_eq!(part.vip("10.1.0.2", "default"), None);
        let (by_name, _) = mesh.retain_subscribed(|name| name == key(&db));
        assert_eq!((by_name.at("10.0.0.2"), by_name.workloads().len()), (Some("b"), 1));
    }
}
