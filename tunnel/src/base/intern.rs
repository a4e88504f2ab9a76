//! Sharing of equal values.
use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// A set of values of one type. Values that nobody else holds any more are dropped as the set grows.
#[derive(Debug)]
pub struct Interner<T: ?Sized> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

const SMALLEST_SWEEP: usize = 256;

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Interner { values: HashSet::new(), sweep_at: SMALLEST_SWEEP }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The one copy of a value.
    pub fn share<V: Borrow<T> + Into<Arc<T>>>(&mut self, value: V) -> Arc<T> {
        if let Some(known) = self.values.get(value.borrow()) {
            return known.clone();
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = SMALLEST_SWEEP.max(2 * self.values.len());
        }
        let value: Arc<T> = value.into();
        self.values.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_values_are_swept() {
        let mut set = Interner::<str>::default();
        let kept = set.share("kept");
        for n in 0..10 * SMALLEST_SWEEP {
            set.share(n.to_string().as_str());
        }
        assert!(set.values.len() <= SMALLEST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &set.share("kept")));
    }
}
