//! The state of the mesh as the tunnel knows it. A [`Mesh`] never changes: a push makes a new one, which shares all that
//! the push did not touch, and is swapped in whole.

mod credentials;
mod egress;
mod eligible;
mod endpoints;
mod exchange;
mod guards;
mod hosts;
mod index;
mod intern;
mod listeners;
mod names;
mod prune;
mod routes;
mod service;
mod telemetry;
mod waypoints;
mod workload;

use crate::base::PodKey;
use prost::bytes::Bytes;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{proto, Resource, Version};
use prost::Message;

use crate::observability::proto::TELEMETRY;
use crate::policy::{Policies, Policy, Unreadable};
use crate::routes::proto::{CREDENTIAL, GATEWAY_LISTENERS, SERVICE_ROUTES};
use crate::routes::{Credential, Listeners, PortRoutes, ServiceRoutes};
use credentials::Credentials;
use egress::EgressPolicies;
pub use egress::OutboundTraffic;
pub use eligible::Eligible;
use endpoints::Endpoint;
pub use endpoints::{Chosen, Endpoints, Wanted};
pub use exchange::Rejected;
use exchange::{check_name, exchange, reject_all};
use hosts::Hosts;
pub use hosts::NamedIn;
use index::{Index, Network, Pods};
use intern::Interners;
use listeners::GatewayListeners;
use names::Names;
use routes::Routes;
pub use service::{Balancing, Gateway, GatewayDestination, Service, ServiceKey, BLACK_HOLE};
pub use telemetry::Scopes;
use workload::ByUid;
pub use workload::{App, Health, Locality, TunnelProtocol, Workload, WorkloadUid};

/// All workloads, services and policies, and what may leave the mesh. Cheap to clone.
#[derive(Clone, Default)]
pub struct Mesh {
    /// Only the pods of this node are found by name; of all nodes where it is empty.
    node: Arc<str>,
    workloads: imbl::HashMap<ByUid, ()>,
    services: imbl::HashMap<ServiceKey, Arc<Service>>,
    /// Also of services that are not known yet: a push may bring a workload before its service.
    endpoints: imbl::HashMap<ServiceKey, Arc<Endpoints>>,
    networks: imbl::HashMap<Arc<str>, Network>,
    hosts: Index<Arc<str>, Service>,
    pods: Pods,
    names: Names,
    named: Hosts,
    policies: Policies,
    policy_versions: imbl::HashMap<Arc<str>, Version>,
    routes: Routes,
    listeners: GatewayListeners,
    credentials: Credentials,
    egress: EgressPolicies,
    telemetry: Scopes,
    /// Shared by all versions: the strings in the resources, each kept once.
    interners: Arc<Mutex<Interners>>,
}

type EndpointChanges = HashMap<ServiceKey, HashMap<WorkloadUid, Option<Endpoint>>>;

impl Mesh {
    /// An empty mesh, seen from a node.
    pub fn new(node: &str) -> Mesh {
        Mesh { node: node.into(), ..Mesh::default() }
    }

    /// The mesh after one push: `removed` names go first, then `resources` come. Good resources are taken in even where
    /// others of the same push are rejected.
    pub fn apply(
        &self,
        type_url: &str,
        resources: impl IntoIterator<Item = Resource>,
        removed: &[String],
    ) -> (Mesh, Vec<Rejected>) {
        let mut next = self.clone();
        let resources = resources.into_iter();
        let rejected = match type_url {
            proto::ADDRESS => next.apply_addresses(resources, removed),
            proto::AUTHORIZATION => next.apply_policies(resources, removed),
            SERVICE_ROUTES => exchange(&mut next.routes, Routes::insert, Routes::remove, resources, removed),
            GATEWAY_LISTENERS => {
                let (insert, remove) = (GatewayListeners::insert, GatewayListeners::remove);
                let rejected = exchange(&mut next.listeners, insert, remove, resources, removed);
                next.recompile_policies(); // its ports are where requests are seen
                rejected
            }
            CREDENTIAL => exchange(&mut next.credentials, Credentials::insert, Credentials::remove, resources, removed),
            proto::TRAFFIC => {
                exchange(&mut next.egress, EgressPolicies::insert, EgressPolicies::remove, resources, removed)
            }
            TELEMETRY => exchange(&mut next.telemetry, Scopes::insert, Scopes::remove, resources, removed),
            _ => reject_all(resources, |_| Err("resources of this type are not known".to_owned())),
        };
        (next, rejected)
    }

    /// Tells the name and version of each resource of a type.
    pub fn held(&self, type_url: &str, mut tell: impl FnMut(&str, &Version)) {
        match type_url {
            proto::ADDRESS => {
                self.workloads().for_each(|workload| tell(&workload.uid.0, &workload.version));
                self.services().for_each(|service| tell(service.key.text(), &service.version));
            }
            SERVICE_ROUTES => self.routes.each(|routes, version| tell(&routes.service, version)),
            GATEWAY_LISTENERS => self.listeners.each(tell),
            CREDENTIAL => self.credentials.each(tell),
            TELEMETRY => self.telemetry.each(tell),
            proto::TRAFFIC => self.egress.each(|namespace, _, version| tell(namespace, version)),
            proto::AUTHORIZATION => self.policy_versions.iter().for_each(|(name, version)| tell(name, version)),
            _ => {}
        }
    }

    /// The local pod that its agent announced under this name.
    pub fn local(&self, key: &PodKey) -> Option<&Arc<Workload>> {
        self.pods.get(key).first()
    }

    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get_key_value(uid).map(|(ByUid(workload), ())| workload)
    }

    pub fn workloads(&self) -> impl ExactSizeIterator<Item = &Arc<Workload>> {
        self.workloads.keys().map(|ByUid(workload)| workload)
    }

    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// By `namespace/hostname`.
    pub fn service(&self, key: &str) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    pub fn endpoints(&self, service: &ServiceKey) -> Option<&Endpoints> {
        self.endpoints.get(service).map(Arc::as_ref)
    }

    /// The workload at an address. A node's own address has none: it counts as unknown.
    pub fn workload_at(&self, network: &str, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.networks.get(network)?.workload(ip)
    }

    /// The endpoint as whoever owns its address, which decides how it is reached: an EndpointSlice, a ServiceEntry and a
    /// WorkloadEntry may name the address of an enrolled pod.
    pub fn owner<'a>(&'a self, chosen: Chosen<'a>) -> Chosen<'a> {
        match self.workload_at(&chosen.workload.network, chosen.ip) {
            Some(workload) if !chosen.workload.is_pod() => Chosen { workload, ..chosen },
            _ => chosen,
        }
    }

    /// The service that a client in `namespace` means by an address.
    pub fn service_at(&self, network: &str, ip: IpAddr, namespace: &str) -> Option<&Arc<Service>> {
        self.networks.get(network)?.service(ip, namespace)
    }

    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.all()
    }

    pub fn has_policy(&self, name: &str) -> bool {
        self.policies.has(name)
    }

    /// What becomes of a connection of a workload to an address of which nothing is known.
    pub fn outbound_traffic(&self, source: &Workload) -> OutboundTraffic {
        source.outbound().unwrap_or_else(|| self.egress.outbound(&source.identity.namespace))
    }

    /// What may leave the mesh: tells each namespace that has a word of its own, the empty one being the mesh.
    pub fn traffic(&self, mut tell: impl FnMut(&str, OutboundTraffic)) {
        self.egress.each(|namespace, outbound, _| tell(namespace, outbound));
    }

    /// What is told of whose traffic.
    pub fn telemetry(&self) -> &Scopes {
        &self.telemetry
    }

    /// What happens to connections to a port of a service (`namespace/hostname`); None: they are forwarded as they are.
    pub fn routes(&self, service: &str, port: u16) -> Option<&Arc<PortRoutes>> {
        self.routes.get(service)?.port(port)
    }

    /// What TLS that we begin needs; None: the agent has not told of it.
    pub fn credential(&self, name: &str) -> Option<&Arc<Credential>> {
        self.credentials.get(name)
    }

    /// Those of all services.
    pub fn all_routes(&self, mut tell: impl FnMut(&Arc<ServiceRoutes>)) {
        self.routes.each(|routes, _| tell(routes));
    }

    /// What this process listens on, where it is a gateway.
    pub fn listeners(&self) -> Option<&Arc<Listeners>> {
        self.listeners.get()
    }

    fn apply_addresses(&mut self, resources: impl Iterator<Item = Resource>, removed: &[String]) -> Vec<Rejected> {
        let mut endpoints = EndpointChanges::new();
        for name in removed {
            self.remove_workload(name, &mut endpoints);
            self.remove_service(name);
        }
        let names = self.interners.clone();
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        let rejected = reject_all(resources, |sent| match decode(sent.of(proto::ADDRESS)?)? {
            proto::AddressType::Workload(message) => {
                let workload = Workload::decode(&message, sent.version.as_str().into(), &mut names)?;
                check_name(&sent.name, &workload.uid.0)?;
                self.insert_workload(workload, &mut endpoints);
                Ok(())
            }
            proto::AddressType::Service(message) => {
                let service = Service::decode(&message, sent.version.as_str().into(), &mut names)?;
                check_name(&sent.name, service.key.text())?;
                self.insert_service(service);
                Ok(())
            }
        });
        self.update_endpoints(endpoints);
        self.recompile_policies();
        rejected
    }

    fn insert_workload(&mut self, workload: Workload, endpoints: &mut EndpointChanges) {
        if self.workload(&workload.uid.0).is_some_and(|known| **known == workload) {
            return;
        }
        self.remove_workload(&workload.uid.0, endpoints);
        let workload = Arc::new(workload);
        self.names.insert(&workload);
        self.change_endpoints(&workload, true, endpoints);
        if !workload.host_network {
            self.networks.entry(workload.network.clone()).or_default().insert_workload(&workload);
        }
        if self.is_local(&workload) {
            self.pods.insert(workload.key(), &workload);
        }
        self.workloads.insert(ByUid(workload), ());
    }

    fn remove_workload(&mut self, uid: &str, endpoints: &mut EndpointChanges) {
        let Some((ByUid(workload), ())) = self.workloads.remove_with_key(uid) else { return };
        self.change_endpoints(&workload, false, endpoints);
        self.names.remove(&workload);
        if !workload.host_network {
            self.change_network(&workload.network, |network| network.remove_workload(&workload));
        }
        if self.is_local(&workload) {
            self.pods.remove(workload.key(), &workload);
        }
    }

    fn is_local(&self, workload: &Workload) -> bool {
        self.node.is_empty() || self.node == workload.node
    }

    fn insert_service(&mut self, service: Service) {
        self.remove_service(service.key.text());
        let service = Arc::new(service);
        for vip in &service.vips {
            self.networks.entry(vip.network.clone()).or_default().insert_vip(vip.ip, &service);
        }
        for (network, prefix) in &service.prefixes {
            self.networks.entry(network.clone()).or_default().insert_prefix(*prefix, &service);
        }
        self.hosts.insert(service.key.hostname().into(), &service);
        self.named.insert(&service);
        self.services.insert(service.key.clone(), service);
    }

    fn remove_service(&mut self, key: &str) {
        let Some(service) = self.services.remove(key) else { return };
        for vip in &service.vips {
            self.change_network(&vip.network, |network| network.remove_vip(vip.ip, &service));
        }
        for (network, prefix) in &service.prefixes {
            self.change_network(network, |network| network.remove_prefix(*prefix, &service));
        }
        self.hosts.remove(service.key.hostname().into(), &service);
        self.named.remove(&service);
    }

    fn change_network(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Network)) {
        if let Some(network) = self.networks.get_mut(name) {
            change(network);
            if network.is_empty() {
                self.networks.remove(name);
            }
        }
    }

    /// Once per touched service and push.
    fn update_endpoints(&mut self, changes: EndpointChanges) {
        for (key, changes) in changes {
            let updated = match self.endpoints.get(&key) {
                Some(known) => known.with(changes),
                None => Endpoints::default().with(changes),
            };
            match updated.is_empty() {
                true => self.endpoints.remove(&key),
                false => self.endpoints.insert(key, Arc::new(updated)),
            };
        }
    }

    fn apply_policies(&mut self, resources: impl Iterator<Item = Resource>, removed: &[String]) -> Vec<Rejected> {
        for name in removed {
            self.policies.remove(name);
            self.policy_versions.remove(name.as_str());
        }
        let rejected = reject_all(resources, |sent| {
            if sent.name.is_empty() {
                return Err("is no resource with a name".to_owned());
            }
            let bytes = sent.of(proto::AUTHORIZATION).map_err(Unreadable::lost);
            let taken = self.policies.insert(&sent.name, bytes.and_then(|bytes| Policy::decode(&sent.name, bytes)));
            let name = sent.name.as_str().into();
            match taken {
                Ok(()) => drop(self.policy_versions.insert(name, sent.version.as_str().into())),
                // We hold it, whatever it is: only so are we told when it is gone.
                Err(_) => drop(self.policy_versions.entry(name).or_insert_with(|| Version::from(""))),
            }
            taken
        });
        self.recompile_policies();
        rejected
    }
}

fn decode(bytes: &Bytes) -> Result<proto::AddressType, String> {
    let address = proto::Address::decode(bytes.clone()).map_err(|error| error.to_string())?;
    address.r#type.ok_or_else(|| "neither a workload nor a service".to_owned())
}

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
