//! The last connections and requests that have ended, for those who look back. Bounded, in memory only.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

use super::lock;

/// How many are kept at most, and about how many bytes of them.
const MOST: usize = 8192;
const BYTES_MAX: usize = 4 << 20;

/// The newest is the last; each has a number, one more than that before it.
pub struct Recent<T>(Mutex<Kept<T>>);

pub struct Kept<T> {
    /// With the bytes that each takes, about.
    entries: VecDeque<(usize, T)>,
    bytes: usize,
    /// Of the next one; the first is 1.
    next: u64,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        // All at once, as it is not touched before it is needed: as it grew, each copy would leave a hole.
        Recent(Mutex::new(Kept { entries: VecDeque::with_capacity(MOST + 1), bytes: 0, next: 1 }))
    }
}

impl<T> Kept<T> {
    /// The oldest make room.
    pub fn push(&mut self, size: usize, entry: T) {
        self.entries.push_back((size, entry));
        self.bytes += size;
        self.next += 1;
        while self.entries.len() > MOST || self.bytes > BYTES_MAX {
            let Some((size, _)) = self.entries.pop_front() else { return };
            self.bytes -= size;
        }
    }
}

impl<T> Recent<T> {
    /// As `Kept::push`.
    pub fn push(&self, size: usize, entry: T) {
        lock(&self.0).push(size, entry);
    }

    /// For who must not wait: None while somebody looks.
    pub fn at_once(&self) -> Option<MutexGuard<'_, Kept<T>>> {
        self.0.try_lock().ok()
    }

    /// Those after a number, with the number of the last one. A number of the future is that of another process, and means 0;
    /// the greatest that there is means none.
    pub fn after(&self, number: u64, tell: impl Fn(&T) -> Value) -> (u64, Vec<Value>) {
        let kept = lock(&self.0);
        let last = kept.next - 1;
        let wanted = match number {
            u64::MAX => 0,
            number if number > last => u64::MAX,
            number => last - number,
        };
        let skipped = kept.entries.len().saturating_sub(usize::try_from(wanted).unwrap_or(usize::MAX));
        (last, kept.entries.iter().skip(skipped).map(|(_, entry)| tell(entry)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(recent: &Recent<u64>, after: u64) -> (u64, Vec<Value>) {
        recent.after(after, |entry| Value::from(*entry))
    }

    #[test]
    fn entries_are_told_once_to_who_asks_for_what_came_after() {
        let recent = Recent::default();
        assert_eq!(told(&recent, 0), (0, vec![]));
        (1..=3).for_each(|entry| recent.push(1, entry));
        assert_eq!(told(&recent, 0), (3, vec![1.into(), 2.into(), 3.into()]));
        assert_eq!(told(&recent, 2), (3, vec![3.into()]));
        assert_eq!(told(&recent, 3), (3, vec![]));
        assert_eq!(told(&recent, 99).1.len(), 3, "another process gave that number");
        assert_eq!(told(&recent, u64::MAX), (3, vec![]));
    }

    #[test]
    fn who_must_not_wait_is_not_let_in_while_somebody_looks() {
        let recent = Recent::default();
        recent.at_once().unwrap().push(1, 1);
        let looking = lock(&recent.0);
        assert!(recent.at_once().is_none());
        drop(looking);
        assert_eq!(told(&recent, 0), (1, vec![1.into()]));
    }

    #[test]
    fn both_bounds_hold_and_the_oldest_go() {
        let recent = Recent::default();
        (0..2 * MOST as u64).for_each(|entry| recent.push(1, entry));
        assert_eq!(told(&recent, 0).1.len(), MOST);
        recent.push(BYTES_MAX, 7);
        assert_eq!(told(&recent, 0).1, [Value::from(7)]);
        recent.push(BYTES_MAX + 1, 8);
        assert_eq!(told(&recent, 0).1.len(), 0, "one alone does not fit");
    }
}
