//! What is enforced at the pods of this node, and at the listeners of a gateway.

use std::sync::Arc;

use super::{Mesh, Workload};
use crate::base::PodKey;
use crate::policy::{Guard, Guarded};

impl Mesh {
    /// All policies have come, be it none: until then no connection is let in.
    pub fn know_all_policies(&mut self) {
        self.policies.mark_synced();
        self.recompile_policies();
    }

    /// The policies that hold for a local pod.
    pub fn guard(&self, key: &PodKey) -> Option<&Arc<Guard>> {
        self.guard_at(key, &[])
    }

    /// The same with further ones, which a gateway's listener names.
    pub fn guard_at(&self, key: &PodKey, further: &[Arc<str>]) -> Option<&Arc<Guard>> {
        self.policies.guard(&self.guarded(self.local(key)?, further))
    }

    /// The policies that hold for a workload of any node, as far as they are known here.
    pub fn guard_of(&self, workload: &Workload) -> Arc<Guard> {
        self.policies.guard_of(&workload.guarded())
    }

    fn guarded(&self, pod: &Workload, further: &[Arc<str>]) -> Guarded {
        match self.listeners.of(pod) {
            Some(listeners) => pod.guarded().at(further, listeners.http_binds()),
            None => pod.guarded(),
        }
    }

    pub(super) fn recompile_policies(&mut self) {
        let mut all: Vec<_> = self.pods.preferred().map(|pod| self.guarded(pod, &[])).collect();
        for pod in self.pods.preferred() {
            let further = self.listeners.of(pod).into_iter().flat_map(|own| own.policies());
            all.extend(further.map(|policies| self.guarded(pod, policies)));
        }
        self.policies.recompile(all.into_iter());
    }
}
