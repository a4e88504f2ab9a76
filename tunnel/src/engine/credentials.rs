//! Whose workloads' certificates there are, and which certificates are no longer to be trusted.
use super::command::Command;
use super::{lock, Core};
use crate::base::Identity;
use crate::direct;
use crate::node::CredentialsByIdentity;
use crate::tls::credentials::{Credentials, Key};
use crate::tls::revocation::Lists;
use std::collections::HashSet;
use std::sync::Arc;

impl Core {
    /// A new key for `identity`; gives the request to have it certified (PEM). The last key made is the one that counts.
    pub fn new_key(&self, identity: &Identity) -> Result<String, String> {
        let (key, request) = Key::generate(identity)?;
        lock(&self.keys).insert(identity.clone(), key);
        Ok(request)
    }

    /// The certificate for the last new key, PEM: chain with the leaf first, and the roots. Returns its end, in Unix
    /// seconds. New tunnels use it from now on; those that are open go on.
    pub fn set_certificate(&self, identity: &Identity, chain: &[String], roots: &str) -> Result<i64, String> {
        let mut keys = lock(&self.keys);
        let key = keys.get(identity).ok_or_else(|| format!("no key was made for {identity}"))?;
        let credentials = Arc::new(Credentials::new(identity, key, chain, roots, &self.shared.revocation)?);
        let not_after = credentials.not_after;
        keys.remove(identity);
        self.change_credentials(|all| drop(all.insert(identity.clone(), credentials.clone())));
        Ok(not_after)
    }

    pub fn forget_identity(&self, identity: &Identity) {
        lock(&self.keys).remove(identity);
        self.change_credentials(|all| drop(all.remove(identity)));
    }

    fn change_credentials(&self, change: impl Fn(&mut CredentialsByIdentity)) {
        self.shared.credentials.rcu(|all| {
            let mut all = CredentialsByIdentity::clone(all);
            change(&mut all);
            all
        });
        self.tell_all(|| Command::Changed);
        self.tell_direct(|| direct::Command::Revoked);
    }

    /// The revocation lists that are in force from now on, PEM or DER; None: there are none. Tunnels whose peers are
    /// revoked end. Gives how many lists there are, and the earliest time at which one should be renewed, in Unix seconds.
    ///
    /// Where they cannot be used, what was in force stays.
    pub fn set_crl(&self, data: Option<&[u8]>) -> Result<(usize, Option<i64>), String> {
        let parsed = data.map(Lists::parse).transpose().inspect_err(|problem| self.lack_crl(problem))?;
        let lists = parsed.unwrap_or_default();
        let known = (lists.len(), lists.next_update);
        self.shared.revocation.replace(lists);
        self.tell_all(|| Command::Revoked);
        self.tell_direct(|| direct::Command::Revoked);
        Ok(known)
    }

    /// Why revocation lists cannot be had that should be in force.
    pub fn lack_crl(&self, problem: &str) {
        self.shared.revocation.lack(problem);
    }

    /// The lists that are in force, and what is wrong with those that should be, for a dump.
    pub fn crl(&self) -> serde_json::Value {
        let lists = self.shared.revocation.lists();
        serde_json::json!({
            "lists": lists.as_ref().map(|lists| lists.len()),
            "next_update": lists.and_then(|lists| lists.next_update),
            "problem": self.shared.revocation.problem().map(|problem| problem.to_string()),
        })
    }

    /// Identities of this node whose own certificate is revoked.
    pub fn revoked(&self) -> HashSet<Identity> {
        self.shared.revoked()
    }

    /// By identity.
    pub fn credentials(&self) -> Arc<CredentialsByIdentity> {
        self.shared.credentials.load_full()
    }

    /// Identities that have a certificate, with its end in Unix seconds.
    pub fn certificates(&self) -> Vec<(Identity, i64)> {
        let credentials = self.shared.credentials.load();
        credentials.iter().map(|(identity, credentials)| (identity.clone(), credentials.not_after)).collect()
    }
}
