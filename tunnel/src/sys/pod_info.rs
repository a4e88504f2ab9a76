//! An enrolled pod as its node has it.
use super::budget::Budget;
use super::netns::{NetNs, Raw};
use super::plain::Plain;
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
    pub plain: Arc<Plain>,
}

impl std::fmt::Display for PodInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.key.namespace, self.key.name)
    }
}

impl PodInfo {
    /// One that no other pod has.
    pub fn number(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// What is known of a pod of this identity. Its uid is its name, its network namespace is none.
    pub fn info(identity: &str, name: &str) -> Arc<PodInfo> {
        info_in("/dev/null", identity, name)
    }

    /// The same, of one in this network namespace.
    pub fn info_in(netns: &str, identity: &str, name: &str) -> Arc<PodInfo> {
        let identity: Identity = identity.parse().unwrap();
        let key = PodKey {
            namespace: identity.namespace.clone(),
            name: name.into(),
            service_account: identity.service_account.clone(),
        };
        let netns = NetNs::new(std::fs::File::open(netns).unwrap().into());
        let budget = Budget::pod(&Budget::process());
        let (raw, plain) = (Raw::default(), Arc::default());
        Arc::new(PodInfo { uid: name.into(), key, identity, netns, raw, budget, plain })
    }
}
