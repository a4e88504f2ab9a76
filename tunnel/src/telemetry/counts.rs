//! What is counted without labels of workloads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::lookups::Lookups;
use super::verdicts::Verdicts;
use super::{lock, Direction, Telemetry, WorkerTelemetry};
use crate::base::Refusal;

/// Counters without a label set of their own, by direction.
#[derive(Default)]
pub struct Counts {
    pub connections: [AtomicI64; 2],
    pub tunnels: [AtomicI64; 2],
    /// Tunnels in the pools of this node's pods, by the node that they lead to.
    pub pooled: Mutex<BTreeMap<Arc<str>, usize>>,
    pub handshakes_failed: [ByReason; 2],
    pub tunnels_lost: [ByReason; 2],
    pub refused: [ByReason; 2],
    pub accepts_failed: AtomicU64,
    pub verdicts: Verdicts,
    pub lookups: Lookups,
}

pub struct ByReason(pub Vec<AtomicU64>);

impl Default for ByReason {
    fn default() -> Self {
        ByReason(Refusal::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl ByReason {
    pub fn count(&self, reason: Refusal) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// An open tunnel, as the gauge counts it.
pub struct TunnelUp {
    shared: Arc<Telemetry>,
    direction: Direction,
}

impl TunnelUp {
    /// Which is counted already.
    pub fn new(shared: Arc<Telemetry>, direction: Direction) -> TunnelUp {
        TunnelUp { shared, direction }
    }
}

impl Drop for TunnelUp {
    fn drop(&mut self) {
        self.shared.counts.tunnels[self.direction as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A tunnel in a pod's pool, as the gauge counts it.
pub struct Pooled {
    shared: Arc<Telemetry>,
    node: Arc<str>,
}

impl WorkerTelemetry {
    /// A tunnel to that node is in a pool for as long as the result lives, be it up or not.
    pub fn pooled(&self, node: &Arc<str>) -> Pooled {
        let (shared, node) = (self.0.shared.clone(), node.clone());
        *lock(&shared.counts.pooled).entry(node.clone()).or_default() += 1;
        Pooled { shared, node }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut pooled = lock(&self.shared.counts.pooled);
        if let Some(count) = pooled.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                pooled.remove(&self.node);
            }
        }
    }
}
