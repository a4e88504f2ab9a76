//! What is counted without labels of workloads.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::Arc;

use super::lookups::Lookups;
use super::verdicts::Verdicts;
use super::{Direction, Telemetry, WorkerTelemetry};
use crate::base::{Held, Refusal, Tally};

/// Counters without a label set of their own, by direction.
#[derive(Default)]
pub struct Counts {
    pub connections: [AtomicI64; 2],
    pub tunnels: [AtomicI64; 2],
    /// Tunnels in the pools of this node's pods, by the node that they lead to.
    pub pooled: Tally<Arc<str>>,
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
pub type Pooled = Held<Arc<str>>;

impl WorkerTelemetry {
    /// A tunnel to that node is in a pool for as long as the result lives, be it up or not.
    pub fn pooled(&self, node: &Arc<str>) -> Pooled {
        self.0.shared.counts.pooled.hold(node.clone())
    }
}
