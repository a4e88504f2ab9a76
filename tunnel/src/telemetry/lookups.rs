//! What became of questions for names that pods have asked.

use super::WorkerTelemetry;
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// By the mesh.
    Answered,
    /// To the server that was asked, which has answered.
    PassedOn,
    /// The same, and it has not.
    Unanswered,
    /// The pod has too many that wait.
    Dropped,
}

impl WorkerTelemetry {
    /// A pod's question for a name is done with.
    pub fn lookup(&self, lookup: Lookup) {
        self.0.shared.counts.lookups.0[lookup as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub struct Lookups([AtomicU64; 4]);

impl Lookups {
    const NAMES: [&str; 4] = ["answered", "passed_on", "unanswered", "dropped"];

    /// By the names that metrics have.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Self::NAMES.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}
