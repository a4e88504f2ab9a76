//! What a gateway listens on (`warren.routes.GatewayListeners`), compiled. A process is one gateway at most.

use std::sync::Arc;

use super::{check_name, Workload};
use crate::config::{Resource, Version};
use crate::routes::proto::GATEWAY_LISTENERS;
use crate::routes::Listeners;

#[derive(Clone, Default)]
pub struct GatewayListeners(Option<(Arc<Listeners>, Version)>);

impl GatewayListeners {
    pub fn get(&self) -> Option<&Arc<Listeners>> {
        self.0.as_ref().map(|(listeners, _)| listeners)
    }

    /// Those of a pod, where it is this gateway.
    pub fn of(&self, pod: &Workload) -> Option<&Arc<Listeners>> {
        self.get().filter(|all| all.name.split_once('/') == Some((&pod.identity.namespace, &pod.name)))
    }

    pub fn each(&self, mut tell: impl FnMut(&str, &Version)) {
        self.0.iter().for_each(|(listeners, version)| tell(&listeners.name, version));
    }

    /// Takes in a resource. Of one that is not understood the last good version stays.
    pub fn insert(&mut self, sent: &Resource) -> Result<(), String> {
        let listeners = Listeners::decode(sent.of(GATEWAY_LISTENERS)?)?;
        check_name(&sent.name, &listeners.name)?;
        self.0 = Some((Arc::new(listeners), sent.version.as_str().into()));
        Ok(())
    }

    pub fn remove(&mut self, name: &str) {
        self.0.take_if(|(listeners, _)| *listeners.name == *name);
    }
}
