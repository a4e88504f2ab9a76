//! Sharing of equal values: thousands of workloads have the same namespace, owner and locality.

use std::sync::Arc;

use super::service::PortMapping;
use super::workload::{App, Locality};
use crate::base::intern::Interner;
use crate::base::Identity;
use crate::routes::Labels;

/// The values that the resources of a mesh have in common, each kept once.
#[derive(Debug, Default)]
pub struct Interners {
    pub strings: Interner<str>,
    pub identities: Interner<Identity>,
    pub lone_identities: Interner<[Identity]>,
    pub apps: Interner<App>,
    pub localities: Interner<Locality>,
    pub ports: Interner<[PortMapping]>,
    pub lists: Interner<[Arc<str>]>,
    pub labels: Interner<Labels>,
}

impl Interners {
    pub fn string(&mut self, text: &str) -> Arc<str> {
        self.strings.share(text)
    }

    /// As [`Interners::string`], with a default for the empty string.
    pub fn string_or(&mut self, text: &str, default: &str) -> Arc<str> {
        self.strings.share(if text.is_empty() { default } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_are_one() {
        let mut names = Interners::default();
        let (one, two) = (names.string("default"), names.string("default"));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(&*names.string_or("", "Kubernetes"), "Kubernetes");
    }
}
