//! Destinations whose handshakes fail: a client that tries again and again would keep both ends busy with them.
use crate::base::Failure;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Handshakes that may fail with one destination in a span of time. Further connections get the last one's answer, at once:
/// nobody waits, and the right peer, when it comes, is refused for no longer than that.
const MOST: u32 = 5;
const SPAN: Duration = Duration::from_millis(250);

/// By destination, those of the last moment.
pub struct Failures<K>(HashMap<K, Recent>);

struct Recent {
    since: Instant,
    count: u32,
    last: Failure,
}

impl Recent {
    fn lasts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < SPAN
    }
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Failures(HashMap::default())
    }
}

impl<K: Eq + Hash> Failures<K> {
    /// The answer for a new connection, if there have been enough.
    pub fn answer(&self, key: &K, now: Instant) -> Option<Failure> {
        let recent = self.0.get(key).filter(|recent| recent.count >= MOST && recent.lasts(now));
        recent.map(|recent| recent.last.clone())
    }

    pub fn add(&mut self, key: K, last: Failure, now: Instant) {
        self.0.retain(|_, recent| recent.lasts(now));
        let recent = self.0.entry(key).or_insert_with(|| Recent { since: now, count: 0, last: last.clone() });
        (recent.count, recent.last) = (recent.count + 1, last);
    }

    /// It has worked.
    pub fn remove(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Something else is different: what failed may work.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Refusal;

    fn failed(failures: &mut Failures<u8>, times: u32, at: Instant) {
        for time in 1..=times {
            let last = Failure { refusal: Refusal::PeerIdentity, detail: format!("the {time}.") };
            failures.add(1, last, at);
        }
    }

    #[test]
    fn a_few_failures_are_answered_for_by_the_last_one_for_a_moment() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failed(&mut failures, MOST - 1, now);
        assert!(failures.answer(&1, now).is_none());
        failed(&mut failures, 1, now);
        let answer = failures.answer(&1, now + SPAN / 2).unwrap();
        assert_eq!((answer.refusal, &*answer.detail), (Refusal::PeerIdentity, "the 1."));
        assert!(failures.answer(&2, now).is_none());
        assert!(failures.answer(&1, now + SPAN).is_none());
    }

    #[test]
    fn what_is_long_ago_or_has_worked_since_does_not_count() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failed(&mut failures, MOST - 1, now);
        failed(&mut failures, MOST - 1, now + SPAN);
        assert!(failures.answer(&1, now + SPAN).is_none());
        failed(&mut failures, 1, now + SPAN);
        assert!(failures.answer(&1, now + SPAN).is_some(), "another span has begun");
        failures.remove(&1);
        failed(&mut failures, MOST - 1, now + SPAN);
        assert!(failures.answer(&1, now + SPAN).is_none());
        failed(&mut failures, MOST, now + SPAN);
        failures.clear();
        assert!(failures.answer(&1, now + SPAN).is_none());
    }
}
