//! How many connections a pod has open to a destination, counted over all threads.
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whose, and to where: the pod's uid; service, port and subset.
pub type Counted = (Arc<str>, Arc<str>, u16, Arc<str>);

/// So many counts are kept before those that are zero go.
const KEPT: usize = 1024;

#[derive(Default)]
pub struct Limits(Mutex<HashMap<Counted, Arc<AtomicU32>>>);

/// One connection, until it is dropped.
pub struct Permit(Arc<AtomicU32>);

impl Limits {
    /// None: there are as many already.
    pub fn take(&self, what: Counted, limit: u32) -> Option<Permit> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= KEPT {
            counts.retain(|_, count| count.load(Ordering::Relaxed) > 0);
        }
        let count = counts.entry(what).or_default();
        let below = |now| (now < limit).then_some(now + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(Permit(count.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_for_each_pod_and_destination() {
        let (limits, of) = (Limits::default(), |pod: &str, port| (pod.into(), "a/b".into(), port, "".into()));
        let (one, two) = (limits.take(of("p", 1), 2), limits.take(of("p", 1), 2));
        assert!(one.is_some() && two.is_some() && limits.take(of("p", 1), 2).is_none());
        assert!(limits.take(of("q", 1), 2).is_some() && limits.take(of("p", 2), 2).is_some());
        drop(one);
        assert!(limits.take(of("p", 1), 2).is_some());
    }

    #[test]
    fn counts_of_what_is_over_go() {
        let limits = Limits::default();
        (0..3000).for_each(|port| drop(limits.take(("p".into(), "a/b".into(), port, "".into()), 1)));
        assert!(limits.0.lock().unwrap().len() <= KEPT);
    }
}
