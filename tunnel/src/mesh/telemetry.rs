//! What is told of whose traffic (`warren.telemetry.Telemetry`): an object's that selects a workload, else its namespace's,
//! else the mesh's.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{check_name, Mesh, Service, Wanted, Workload};
use crate::base::{PodKey, Rng};
use crate::config::{Resource, Version};
use crate::observability::{Provider, Scope};
use crate::routes::PortRoutes;

impl Mesh {
    /// What is told of a local pod's traffic; None: nobody has said anything.
    pub fn observed(&self, pod: &PodKey) -> Option<&Arc<Scope>> {
        self.telemetry.of(self.local(pod).filter(|_| !self.telemetry.is_empty())?)
    }

    /// What happens to what a workload sends to a service's port: its routes, and where none are its requests are traced,
    /// those that take them where they would go. None: connections are forwarded as they are.
    pub fn routes_for(&self, source: &Workload, service: &Service, port: u16) -> Option<&Arc<PortRoutes>> {
        let traced = || {
            self.telemetry.of(source)?.client.tracing.as_ref()?;
            let passes_waypoint = service.waypoint.is_some() || !service.weighted_waypoints.is_empty();
            self.services.get(&service.key).filter(|_| !passes_waypoint)?.forwarding(port)
        };
        self.routes(service.key.text(), port).or_else(traced)
    }

    /// Whether requests that come to a workload at a port are looked at, one by one.
    pub fn traces_requests(&self, local: &Workload, port: u16) -> bool {
        self.telemetry.of(local).is_some_and(|scope| scope.server.tracing.is_some()) && self.is_http(local, port)
    }

    /// Whether a service says that its requests at a workload's port are HTTP.
    fn is_http(&self, local: &Workload, port: u16) -> bool {
        local.services.iter().any(|(key, own)| {
            let of_service = self.service(key.text()).map_or(&[][..], |service| &service.ports);
            own.iter().chain(of_service).any(|mapped| mapped.http && mapped.target == port)
        })
    }

    /// Where a collector is, for a workload; None: it is no service of the mesh, or has no endpoint.
    pub fn collector(&self, provider: &Provider, source: &Workload) -> Option<SocketAddr> {
        let own = &source.identity.namespace;
        let (namespace, host) = provider.service.split_once('/').unwrap_or((own, &provider.service));
        let service = self.service_named(host, namespace)?;
        let ip = source.addresses.first().copied()?;
        let wanted = Wanted { source, service, port: provider.port, ip, gateway: false };
        let chosen = self.endpoints(&service.key)?.choose(wanted, &mut Rng::from_entropy()).ok()?;
        Some(SocketAddr::new(chosen.ip, chosen.port))
    }
}

/// By name: a namespace, `namespace/name` of an object, or empty for the mesh. Cheap to clone.
#[derive(Clone, Default)]
pub struct Scopes(imbl::HashMap<Arc<str>, (Arc<Scope>, Version)>);

/// Whether nothing was exchanged in between.
impl PartialEq for Scopes {
    fn eq(&self, other: &Scopes) -> bool {
        self.0.ptr_eq(&other.0) || self.is_empty() && other.is_empty()
    }
}

impl Scopes {
    /// What holds for a workload; None: nobody has said anything.
    pub fn of(&self, workload: &Workload) -> Option<&Arc<Scope>> {
        if self.is_empty() {
            return None;
        }
        let own = workload.telemetry().and_then(|name| self.0.get(name));
        let found = own.or_else(|| self.0.get(&*workload.app.namespace)).or_else(|| self.0.get(""));
        found.map(|(scope, _)| scope)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn each(&self, mut tell: impl FnMut(&str, &Version)) {
        self.0.iter().for_each(|(name, (_, version))| tell(name, version));
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Scope>)> {
        self.0.iter().map(|(name, (scope, _))| (name, scope))
    }

    /// Takes in a resource. Of one that is not understood the last good version stays.
    pub fn insert(&mut self, sent: &Resource) -> Result<(), String> {
        let (name, scope) = Scope::decode(sent)?;
        check_name(&sent.name, &name)?;
        self.0.insert(name.into(), (Arc::new(scope), sent.version.as_str().into()));
        Ok(())
    }

    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}
