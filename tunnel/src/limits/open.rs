//! How many are open at a time, for each key.

use crate::base::{Held, Tally};
use std::num::NonZeroU32;

/// Counts of one limit, for all threads.
#[derive(Debug)]
pub struct Open {
    /// None: any number.
    most: Option<NonZeroU32>,
    tally: Tally<Key>,
}

type Key = Box<[String]>;

/// One that is open, until it is dropped. None: nobody counts it.
pub type Permit = Option<Held<Key>>;

impl Open {
    pub fn new(most: Option<NonZeroU32>) -> Open {
        Open { most, tally: Tally::default() }
    }

    /// None: there are as many already.
    pub fn take(&self, key: &[String]) -> Option<Permit> {
        match self.most {
            None => Some(None),
            Some(most) => self.tally.take(key.into(), most.get()).map(Some),
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
        assert!(open.tally.lock().is_empty());
    }
}
