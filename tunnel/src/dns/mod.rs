//! Questions of pods for names: what the mesh answers itself. It knows names and does no I/O.
mod message;

#[cfg(fuzzing)]
pub use message::questions;
pub use message::Question;

use crate::mesh::{Mesh, Workload};
use std::net::IpAddr;

/// Seconds for which an answer holds.
const TTL: u32 = 30;

/// The answer to a pod's question, if it is for the addresses of a name that the mesh knows; `stream`: over TCP. Of families
/// that the pod itself has no address of there are none.
pub fn answer(mesh: &Mesh, source: &Workload, question: &[u8], stream: bool) -> Option<Vec<u8>> {
    let question = Question::read(question)?;
    let service = mesh.virtual_host(&question.name, &source.identity.namespace)?;
    let reached = |ip: &IpAddr| source.addresses.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
    let vips: Vec<_> = service.vips.iter().map(|vip| vip.ip).filter(reached).collect();
    Some(question.answer(&vips, TTL, stream))
}
