//! The tours: from an application into a tunnel, from a tunnel to the application, and from outside through a gateway.
mod arriving;
pub mod caller;
mod calls;
mod connector;
mod consulting;
mod delivery;
pub mod gateway;
mod governed;
mod here;
pub mod inbound;
mod judging;
mod layers;
mod named;
pub mod outbound;
mod proxy_protocol;
pub mod questions;
mod reached;
mod requests;
mod routers;
#[cfg(test)]
mod sizes;
mod tls;
mod upstream;

use crate::base::OriginalDst;
use crate::mesh::{Mesh, Workload};
use crate::node::{Context, Pod};
use crate::policy::Admission;
use crate::telemetry::{ConnectionRecord, Direction, Observed};
use crate::{decision, direct, http, pending};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// What serves the connections of one thread: the node, and the ways past the tunnel.
pub struct Proxy {
    context: Rc<Context>,
    /// Where connections between pods of this node may go without the tunnel.
    direct: Option<direct::Handle>,
    /// Where connect() waits until the other end has answered.
    pending: Option<Arc<pending::Handle>>,
    /// For requests.
    pub routers: routers::Routers,
    /// For questions for names, where these are answered.
    servers: Option<questions::Servers>,
    tls_configs: layers::Configs,
    called: calls::Called,
}

impl Deref for Proxy {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl Proxy {
    pub fn new(
        context: Rc<Context>,
        direct: Option<direct::Handle>,
        pending: Option<Arc<pending::Handle>>,
        dns: Option<PathBuf>,
        http: http::Settings,
    ) -> Rc<Proxy> {
        let servers = dns.map(questions::Servers::new);
        let routers = routers::Routers::new(http);
        Rc::new(Proxy {
            context,
            direct,
            pending,
            routers,
            servers,
            tls_configs: Default::default(),
            called: Default::default(),
        })
    }

    /// Whether the requests on a connection that was let in are looked at, to be judged or traced.
    fn reads_requests(&self, pod: &Pod, by: &Admission) -> bool {
        let mesh = self.shared.mesh.load();
        let traced = |local: &Arc<Workload>| mesh.traces_requests(local, by.attempt.destination.port());
        by.requests || mesh.local(&pod.key).is_some_and(traced)
    }

    /// A request of a pod, or one that comes to it, begins.
    fn observe(&self, pod: &Pod, direction: Direction, request: &mut http::Request) -> Observed {
        let mesh = self.shared.mesh.load();
        let Some(scope) = mesh.observed(&pod.key) else { return Observed::default() };
        Observed::request(scope, direction, &mut request.headers, &mut self.rng.borrow_mut())
    }

    /// A connection of a pod, or one that comes to it, begins.
    fn accept(&self, pod: &Pod, direction: Direction, source: SocketAddr, to: SocketAddr) -> ConnectionRecord {
        let record = self.thread.telemetry.accept(direction, source, to);
        if let Some(scope) = self.shared.mesh.load().observed(&pod.key) {
            record.observe(scope);
        }
        record
    }

    /// Whether connections of this client to a pod may come that are not in a tunnel.
    fn may_be_direct(&self, mesh: &Mesh, local: &Workload, client: IpAddr) -> bool {
        let near = |client: &Arc<Workload>| client.node == local.node;
        self.direct.is_some() && mesh.workload_at(&local.network, client.to_canonical()).is_some_and(near)
    }

    /// A connection of a pod was let in at the other end: further ones to there may not need the tunnel.
    fn offer_direct(&self, pod: &Pod, source: &Workload, to: OriginalDst, destination: &Workload) {
        let Some(direct) = &self.direct else { return };
        let is_near = destination.node == source.node;
        if is_near && decision::direct(&self.shared.mesh.load(), source, to).is_ok() {
            direct.send(direct::Command::Offer(pod.info().clone(), to));
        }
    }

    /// Whether the far end has answered a pod's connection: if so, the next connect() to there need not wait for it.
    fn answered(&self, pod: &Pod, to: OriginalDst, accepted: bool) {
        match &self.pending {
            Some(pending) if accepted => pending.remember(pod, to),
            Some(pending) => pending.forget(pod, to),
            None => {}
        }
    }
}

#[cfg(test)]
mod testing;
