//! Labels of a workload.

use std::collections::HashMap;
use std::sync::Arc;

/// Keys and values, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    pub fn new(labels: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Labels {
        let mut labels: Vec<_> = labels.into_iter().collect();
        labels.sort_unstable();
        Labels(labels.into())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[place].1)
    }

    /// The first of these that a workload lacks.
    pub fn missing_in(&self, workload: &Labels) -> Option<(&str, &str)> {
        self.iter().find(|(key, value)| workload.get(key) != Some(value))
    }

    /// Whether a workload has all of these.
    pub fn fit(&self, workload: &Labels) -> bool {
        self.missing_in(workload).is_none()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&HashMap<String, String>> for Labels {
    fn from(sent: &HashMap<String, String>) -> Labels {
        Labels::new(sent.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())))
    }
}
