//! How many there are of each key, as long as they are held.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts for all threads. A key is there as long as something of it is held.
#[derive(Debug)]
pub struct Tally<K: Ord>(Arc<Mutex<BTreeMap<K, u32>>>);

/// One that counts, until it is dropped.
#[derive(Debug)]
pub struct Held<K: Ord> {
    tally: Tally<K>,
    key: K,
}

impl<K: Ord> Default for Tally<K> {
    fn default() -> Self {
        Tally(Arc::default())
    }
}

impl<K: Ord + Clone> Tally<K> {
    /// One more.
    pub fn hold(&self, key: K) -> Held<K> {
        self.add(&mut self.lock(), key)
    }

    /// None: there are as many already.
    pub fn take(&self, key: K, most: u32) -> Option<Held<K>> {
        let mut counts = self.lock();
        let has_room = counts.get(&key).is_none_or(|count| *count < most);
        has_room.then(|| self.add(&mut counts, key))
    }

    fn add(&self, counts: &mut BTreeMap<K, u32>, key: K) -> Held<K> {
        *counts.entry(key.clone()).or_default() += 1;
        Held { tally: Tally(self.0.clone()), key }
    }
}

impl<K: Ord> Tally<K> {
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<K, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord> Drop for Held<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.lock();
        if let Some(count) = counts.get_mut(&self.key).filter(|count| **count > 1) {
            *count -= 1;
        } else {
            counts.remove(&self.key);
        }
    }
}
