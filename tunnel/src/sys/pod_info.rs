//! An enrolled pod as its node has it.
use super::budget::Budget;
use super::sockets::{NetNs, Raw};
use crate::base::{Identity, PodKey};
use std::sync::Arc;

/// What all workers know of a pod.
pub struct PodInfo {
    pub uid: Arc<str>,
    /// Under which the mesh knows it.
    pub key: PodKey,
    pub identity: Identity,
    pub netns: NetNs,
    /// Tells its applications that they are refused.
    pub raw: Raw,
    /// Of what waits for it and for its peers.
    pub budget: Arc<Budget>,
}

impl std::fmt::Display for PodInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.key.namespace, self.key.name)
    }
}
