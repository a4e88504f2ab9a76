//! What an attack may send, and what became of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes a second for all threads of the process, in bursts of a tenth of a second.
pub struct Budget {
    per_second: f64,
    paid_until: Mutex<Instant>,
    sent: AtomicU64,
}

const BURST: Duration = Duration::from_millis(100);

impl Budget {
    pub fn new(per_second: f64) -> Self {
        Budget { per_second, paid_until: Mutex::new(Instant::now()), sent: AtomicU64::new(0) }
    }

    /// Waits until `bytes` may be sent.
    pub fn take(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        let due = {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            *paid_until = (*paid_until).max(now - BURST) + Duration::from_secs_f64(bytes as f64 / self.per_second);
            paid_until.saturating_duration_since(now)
        };
        std::thread::sleep(due);
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// How often each thing happened.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub fn count(&self, what: &str) {
        self.add(what, 1);
    }

    pub fn add(&self, what: &str, times: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(what) {
            Some(count) => *count += times,
            None => _ = counts.insert(what.to_owned(), times),
        }
    }

    /// A JSON object. Names are ours: letters, digits and blanks.
    pub fn to_json(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<String> = counts.iter().map(|(name, count)| format!(r#""{name}":{count}"#)).collect();
        format!("{{{}}}", pairs.join(","))
    }
}
