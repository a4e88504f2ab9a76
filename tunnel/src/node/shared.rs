//! What all threads of the tunnel share.
use super::{Limits, Lookups};
use crate::base::Identity;
use crate::config::subscriptions::Subscriptions;
use crate::config::unknown_keys::UnknownKeys;
use crate::mesh::Mesh;
use crate::sys::budget::Budget;
use crate::sys::listeners::Listeners;
use crate::telemetry::Telemetry;
use crate::tls::credentials::Credentials;
use crate::tls::revocation::Revocation;
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub type CredentialsByIdentity = HashMap<Identity, Arc<Credentials>>;

pub struct Shared {
    pub mesh: ArcSwap<Mesh>,
    pub credentials: ArcSwap<CredentialsByIdentity>,
    pub revocation: Arc<Revocation>,
    /// Where the mesh holds only what was asked for.
    pub subscriptions: Option<Subscriptions>,
    pub unknown_keys: UnknownKeys,
    pub limits: Limits,
    pub lookups: Lookups,
    pub telemetry: Arc<Telemetry>,
    pub budget: Arc<Budget>,
    pub listeners: Listeners,
}

impl Shared {
    /// The identities of this node whose own certificate is revoked.
    pub fn revoked(&self) -> HashSet<Identity> {
        let credentials = self.credentials.load();
        let revoked = credentials.iter().filter(|(_, credentials)| credentials.is_revoked());
        revoked.map(|(identity, _)| identity.clone()).collect()
    }
}
