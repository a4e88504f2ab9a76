//! How many are open at a time, for each key.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts of one limit, for all threads. A key is there as long as something of it is open.
#[derive(Debug)]
pub struct Open {
    /// None: any number.
    most: Option<NonZeroU32>,
    counts: Arc<Counts>,
}

type Key = Box<[String]>;
type Counts = Mutex<HashMap<Key, u32>>;

/// One that is open, until it is dropped.
#[derive(Debug)]
pub struct Permit(Option<(Arc<Counts>, Key)>);

impl Open {
    pub fn new(most: Option<NonZeroU32>) -> Open {
        Open { most, counts: Arc::default() }
    }

    /// None: there are as many already.
    pub fn take(&self, key: &[String]) -> Option<Permit> {
        let Some(most) = self.most else { return Some(Permit(None)) };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.into()).or_default();
        if *count >= most.get() {
            return None;
        }
        *count += 1;
        Some(Permit(Some((self.counts.clone(), key.into()))))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some((counts, key)) = &self.0 else { return };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(key).filter(|count| **count > 1) {
            *count -= 1;
        } else {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_open_of_each_key_and_no_count_stays_behind() {
        let open = Open::new(NonZeroU32::new(2));
        let key = |name: &str| vec![name.to_owned()];
        let (one, two) = (open.take(&key("a")), open.take(&key("a")));
        assert!(one.is_some() && two.is_some() && open.take(&key("a")).is_none());
        assert!(open.take(&key("b")).is_some());
        drop(one);
        assert!(open.take(&key("a")).is_some());
        drop(two);
        assert!(open.counts.lock().unwrap().is_empty());
    }
}
