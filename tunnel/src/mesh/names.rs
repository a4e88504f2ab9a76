//! Sharing of equal values: thousands of workloads have the same namespace, owner and locality.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::identity::Identity;
use super::service::PortMapping;
use super::workload::{App, Locality};

/// The values that the resources of a mesh have in common, each kept once.
#[derive(Debug, Default)]
pub struct Names {
    pub strings: Shared<str>,
    pub identities: Shared<Identity>,
    pub lone_identities: Shared<[Identity]>,
    pub apps: Shared<App>,
    pub localities: Shared<Locality>,
    pub ports: Shared<[PortMapping]>,
    pub lists: Shared<[Arc<str>]>,
}

impl Names {
    pub fn string(&mut self, text: &str) -> Arc<str> {
        self.strings.share(text)
    }

    /// As [`Names::string`], with a default for the empty string.
    pub fn string_or(&mut self, text: &str, default: &str) -> Arc<str> {
        self.strings.share(if text.is_empty() { default } else { text })
    }
}

/// A set of values of one type. Values that nobody else holds any more are dropped as the set grows.
#[derive(Debug)]
pub struct Shared<T: ?Sized> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

const SMALLEST_SWEEP: usize = 256;

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Shared { values: HashSet::new(), sweep_at: SMALLEST_SWEEP }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
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
    fn equal_strings_are_one() {
        let mut names = Names::default();
        let (one, two) = (names.string("default"), names.string("default"));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(&*names.string_or("", "Kubernetes"), "Kubernetes");
    }

    #[test]
    fn forgotten_values_are_swept() {
        let mut set = Shared::<str>::default();
        let kept = set.share("kept");
        for n in 0..10 * SMALLEST_SWEEP {
            set.share(n.to_string().as_str());
        }
        assert!(set.values.len() <= SMALLEST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &set.share("kept")));
    }
}
