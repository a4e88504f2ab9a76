//! Certificates and keys for TLS that we begin (`warren.routes.Credential`).

use std::sync::Arc;

use super::check_name;
use crate::config::{Resource, Version};
use crate::routes::proto::CREDENTIAL;
use crate::routes::Credential;

/// By name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Credentials(imbl::HashMap<Arc<str>, (Arc<Credential>, Version)>);

impl Credentials {
    pub fn get(&self, name: &str) -> Option<&Arc<Credential>> {
        self.0.get(name).map(|(credential, _)| credential)
    }

    pub fn each(&self, mut tell: impl FnMut(&str, &Version)) {
        self.0.iter().for_each(|(name, (_, version))| tell(name, version));
    }

    /// Takes in a resource. Of one that is not understood the last good version stays.
    pub fn insert(&mut self, sent: &Resource) -> Result<(), String> {
        let credential = Credential::decode(sent.of(CREDENTIAL)?)?;
        check_name(&sent.name, &credential.name)?;
        self.0.insert(sent.name.as_str().into(), (Arc::new(credential), sent.version.as_str().into()));
        Ok(())
    }

    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}
