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
    match to_service(mesh, source, service, None, dst, rng)? {
        Outbound::Tls(routed) => routed.connect(mesh, source, dst, said.map(|said| &*said.name), rng),
        decided => Ok(decided),
    }
}

fn meant<'a>(mesh: &'a Mesh, source: &Workload, dst: OriginalDst, said: &Said) -> Option<&'a Arc<Service>> {
    mesh.named_at(&said.name, &source.identity.namespace, dst.port(), said.by)
}
