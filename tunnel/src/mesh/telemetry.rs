//! What is told of whose traffic (`warren.telemetry.Telemetry`): an object's that selects a workload, else its namespace's,
//! else the mesh's.

use std::sync::Arc;

use super::{check_name, Workload};
use crate::config::{Resource, Version};
use crate::observability::Scope;

/// By name: a namespace, `namespace/name` of an object, or empty for the mesh. Cheap to clone.
#[derive(Clone, Default)]
pub struct Scopes(imbl::HashMap<Arc<str>, (Arc<Scope>, Version)>);

impl Scopes {
    /// What holds for a workload; None: nobody has said anything.
    #[allow(dead_code)] // read by `telemetry` from the next commits on
    pub fn of(&self, workload: &Workload) -> Option<&Arc<Scope>> {
        if self.0.is_empty() {
            return None;
        }
        let own = workload.telemetry().and_then(|name| self.0.get(name));
        let found = own.or_else(|| self.0.get(&*workload.app.namespace)).or_else(|| self.0.get(""));
        found.map(|(scope, _)| scope)
    }

    pub fn each(&self, mut tell: impl FnMut(&str, &Version)) {
        self.0.iter().for_each(|(name, (_, version))| tell(name, version));
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Scope>)> {
        self.0.iter().map(|(name, (scope, _))| (name, scope))
    }

    /// Takes in a resource. Of one that is not understood the last good version stays.
    pub fn insert(&mut self, sent: &Resource) -> Result<(), String> {
        let (name, scope) = Scope::decode(sent)?;
        check_name(&sent.name, &name)?;
        self.0.insert(name.into(), (Arc::new(scope), sent.version.as_str().into()));
        Ok(())
    }

    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}
