//! A pod by name.
use std::sync::Arc;

/// A pod as its node's agent names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub service_account: Arc<str>,
}
