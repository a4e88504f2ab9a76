//! What policies have said of connections and requests, counted for each policy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::series::KEPT;
use super::{lock, WorkerTelemetry};
use crate::mesh::Mesh;
use crate::policy::{Judgement, Verdict};

#[derive(Default)]
pub struct Verdicts(Mutex<BTreeMap<Key, Count>>);

/// A policy, and what it said.
type Key = (Arc<str>, &'static str);

struct Count {
    times: u64,
    last: Instant,
}

impl Verdicts {
    /// Does nothing for a connection to which no policy has anything to say.
    pub fn count(&self, judgement: &Judgement) {
        let denied = match &judgement.verdict {
            Verdict::Denied(policy) => Some(policy),
            _ => None,
        };
        let said =
            [(denied, "denied"), (judgement.would_refuse.as_ref(), "dry_run"), (judgement.audited.as_ref(), "audit")];
        for (policy, verdict) in said {
            if let Some(policy) = policy {
                self.say(policy, verdict);
            }
        }
    }

    fn say(&self, policy: &Arc<str>, verdict: &'static str) {
        let mut counts = lock(&self.0);
        let new = Count { times: 0, last: Instant::now() };
        let count = counts.entry((policy.clone(), verdict)).or_insert(new);
        *count = Count { times: count.times + 1, last: Instant::now() };
    }

    /// Forgets policies that are gone and have said nothing for as long as series are kept.
    pub fn expire(&self, mesh: &Mesh, now: Instant) {
        let recent = |count: &Count| now.saturating_duration_since(count.last) < KEPT;
        lock(&self.0).retain(|(policy, _), count| mesh.has_policy(policy) || recent(count));
    }

    /// Tells each policy's name, what it said, and how often.
    pub fn each(&self, mut tell: impl FnMut(&str, &str, u64)) {
        lock(&self.0).iter().for_each(|((policy, verdict), count)| tell(policy, verdict, count.times));
    }
}

impl WorkerTelemetry {
    /// What policies say of a request.
    pub fn judged(&self, judgement: &Judgement) {
        self.0.shared.counts.verdicts.count(judgement);
    }

    /// What came of a request that a policy had counted, or somebody asked about.
    pub fn said(&self, policy: &Arc<str>, verdict: &'static str) {
        self.0.shared.counts.verdicts.say(policy, verdict);
    }
}
