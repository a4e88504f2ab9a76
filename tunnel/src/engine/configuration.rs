//! The configuration in force: what is pushed, and on demand what is asked for.
use super::command::Command;
use super::{lock, Core};
use crate::config::proto::AUTHORIZATION;
use crate::config::push::{self, Push};
use crate::config::subscriptions::Subscriptions;
use crate::config::unknown_keys::UnknownKeys;
use crate::config::Version;
use crate::mesh::{Mesh, Rejected};
use crate::node::Lookups;
use crate::sys::heap;
use crate::{direct, pending};
use prost::bytes::Bytes;
use prost::{DecodeError, Message};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of a push after which memory is given back: taking it in has needed as much again.
const LARGE: usize = 1 << 20;

/// The newest state, which the workers get when it is whole; they never wait for it.
#[derive(Default)]
pub struct Newest {
    pub mesh: Mesh,
    /// Types of which more is to come.
    pub partial: HashSet<String>,
}

/// What became of a push: whose it is, and how many of its resources came, went and (with reasons) were not taken.
pub struct Applied {
    pub type_url: String,
    pub nonce: String,
    pub partial: bool,
    pub changed: usize,
    pub removed: usize,
    pub rejected: Vec<Rejected>,
}

impl Core {
    /// Applies one push of configuration, a serialised [`Push`]. `whole`: types of which there is nothing else.
    pub fn apply(&self, push: Bytes, whole: &[String]) -> Result<Applied, DecodeError> {
        let large = push.len() >= LARGE;
        let mut push = Push::decode(push)?;
        let mut newest = lock(&self.newest);
        if whole.contains(&push.type_url) {
            push.remove_others(|type_url, tell| newest.mesh.held(type_url, tell));
        }
        let (mut mesh, rejected) = newest.mesh.apply(&push.type_url, push.sent(), &push.removed_resources);
        if push.type_url == AUTHORIZATION && !push.partial {
            mesh.know_all_policies();
        }
        newest.mesh = mesh;
        if let Some(subscriptions) = &self.shared.subscriptions {
            subscriptions.absent(&push.removed_resources);
        }
        match push.partial {
            true => newest.partial.insert(push.type_url.clone()),
            false => newest.partial.remove(&push.type_url),
        };
        self.publish(&newest);
        let Push { resources, type_url, nonce, removed_resources, .. } = push;
        let (changed, removed) = (resources.len() - rejected.len(), removed_resources.len());
        drop(resources);
        if large {
            heap::give_back();
        }
        Ok(Applied { type_url, nonce, partial: push.partial, changed, removed, rejected })
    }

    fn publish(&self, newest: &Newest) {
        if !newest.partial.is_empty() {
            return;
        }
        self.shared.mesh.store(Arc::new(newest.mesh.clone()));
        self.shared.telemetry.configure(newest.mesh.telemetry());
        self.want_own();
        self.tell_all(|| Command::Changed);
        self.tell_direct(|| direct::Command::Changed);
        self.tell_pending(|| pending::Command::Changed);
    }

    /// The names of endpoints that are to be resolved: of services that pods of this node may use.
    pub fn names(&self) -> Vec<Arc<str>> {
        let namespaces = lock(&self.pods).values().map(|pod| pod.key.namespace.clone()).collect();
        self.mesh().names(&namespaces)
    }

    /// The names that are to be resolved because clients give them.
    pub fn lookups(&self) -> &Lookups {
        &self.shared.lookups
    }

    /// What DNS has answered for a name; None: nothing, and the last answer stays. Gives whether it is still needed.
    pub fn resolve(&self, name: &str, addresses: Option<&[IpAddr]>) -> bool {
        let given = self.shared.lookups.answer(name, addresses, Instant::now());
        self.tell_all(|| Command::Resolved);
        let mut newest = lock(&self.newest);
        let of_endpoints = newest.mesh.has_name(name);
        if let (true, Some(_)) = (of_endpoints, addresses) {
            self.take_answer(&mut newest, name, addresses);
        }
        of_endpoints || given
    }

    /// Nobody asks for a name any more.
    pub fn forget_name(&self, name: &str) {
        self.take_answer(&mut lock(&self.newest), name, None);
    }

    fn take_answer(&self, newest: &mut Newest, name: &str, addresses: Option<&[IpAddr]>) {
        if let Some(mesh) = newest.mesh.resolve(name, addresses) {
            newest.mesh = mesh;
            self.publish(newest);
        }
    }

    /// Our own pods and their services are always there.
    pub(super) fn want_own(&self) {
        let Some(subscriptions) = &self.shared.subscriptions else { return };
        let mesh = self.mesh();
        for pod in lock(&self.pods).values() {
            subscriptions.want(&format!("{}//Pod/{}/{}", self.cluster, pod.key.namespace, pod.key.name));
            let services = mesh.local(&pod.key).into_iter().flat_map(|workload| workload.services.iter());
            services.for_each(|(key, _)| _ = subscriptions.want(key.text()));
        }
    }

    /// On demand: forgets what nobody has needed for so long.
    pub fn forget_unused(&self, unused: Duration) {
        let (Some(subscriptions), Some(since)) = (&self.shared.subscriptions, Instant::now().checked_sub(unused))
        else {
            return;
        };
        self.want_own();
        // A tunnel must not end because nobody opens new streams in it, and has to end when its workload is gone.
        self.collect(Command::Destinations).concat().iter().for_each(|uid| _ = subscriptions.want(uid));
        subscriptions.drop_unused(since);
        let mut newest = lock(&self.newest);
        let (mesh, gone) = newest.mesh.retain_subscribed(subscriptions.is_asked());
        if !gone.is_empty() {
            newest.mesh = mesh;
            subscriptions.drop_too(gone);
            self.publish(&newest);
        }
    }

    /// On demand: what the control plane is to be told; readable when there is something. Otherwise there never is.
    pub fn unknown_keys(&self) -> &UnknownKeys {
        &self.shared.unknown_keys
    }

    pub fn subscriptions(&self) -> Option<&Subscriptions> {
        self.shared.subscriptions.as_ref()
    }

    /// Names and versions of what is held of a type, for the first request of a stream.
    pub fn held(&self, type_url: &str) -> Vec<u8> {
        let mesh = lock(&self.newest).mesh.clone();
        push::held(|tell| mesh.held(type_url, tell))
    }

    /// The same, for people.
    pub fn versions(&self, type_url: &str) -> HashMap<String, String> {
        let mesh = lock(&self.newest).mesh.clone();
        let mut versions = HashMap::new();
        mesh.held(type_url, &mut |name: &str, version: &Version| {
            versions.insert(name.to_owned(), version.to_string());
        });
        versions
    }
}
