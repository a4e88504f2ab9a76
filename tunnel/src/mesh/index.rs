//! Who is at an address: indexes in which several resources may claim the same key.

use crate::base::PodKey;
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use super::service::Service;
use super::workload::{TunnelProtocol, Workload};
use crate::base::Prefix;

/// A resource that may claim the same address as another one.
pub trait Claimant {
    /// Whether it is a version of the same resource.
    fn is(&self, other: &Self) -> bool;
    /// Whether it is preferred. A total order, so that the order of arrival does not matter.
    fn precedes(&self, other: &Self) -> bool;
}

impl Claimant for Workload {
    fn is(&self, other: &Self) -> bool {
        self.uid == other.uid
    }

    /// Pods in the mesh, then pods, then others in the mesh, then the rest; among equals the healthier one: where a pod
    /// of a lost node, or one that is being deleted, still claims the address of a running one, the running one counts.
    fn precedes(&self, other: &Self) -> bool {
        let rank =
            |workload: &Workload| (!workload.is_pod(), workload.tunnel != TunnelProtocol::Hbone, workload.health);
        (rank(self), &self.uid) < (rank(other), &other.uid)
    }
}

impl Claimant for Service {
    fn is(&self, other: &Self) -> bool {
        self.key == other.key
    }

    fn precedes(&self, other: &Self) -> bool {
        (other.canonical, &self.key) < (self.canonical, &other.key)
    }
}

/// Those who claim one key, the preferred one first. Almost always there is one.
#[derive(Debug)]
enum Claims<T> {
    One(Arc<T>),
    Several(Box<[Arc<T>]>),
}

impl<T: Claimant> Claims<T> {
    fn as_slice(&self) -> &[Arc<T>] {
        match self {
            Claims::One(claimant) => std::slice::from_ref(claimant),
            Claims::Several(claimants) => claimants,
        }
    }

    /// Those who are known, with a claimant in its place or without it.
    fn from(known: &[Arc<T>], with: Option<&Arc<T>>, claimant: &T) -> Option<Self> {
        let mut claimants: Vec<_> = known.iter().filter(|known| !known.is(claimant)).cloned().collect();
        if let Some(claimant) = with {
            let place = claimants.partition_point(|known| known.precedes(claimant));
            claimants.insert(place, claimant.clone());
        }
        match claimants.len() {
            0 | 1 => claimants.pop().map(Claims::One),
            _ => Some(Claims::Several(claimants.into())),
        }
    }
}

/// Keys and those who claim them. A row is one pointer wide: the nodes of a persistent map have many empty places.
#[derive(Debug)]
pub struct Index<K, T>(imbl::HashMap<Row<K, T>, ()>);

#[derive(Debug)]
struct Row<K, T>(Arc<(K, Claims<T>)>);

impl<K, T> Clone for Row<K, T> {
    fn clone(&self) -> Self {
        Row(self.0.clone())
    }
}

impl<K, T> Borrow<K> for Row<K, T> {
    fn borrow(&self) -> &K {
        &self.0 .0
    }
}

impl<K: PartialEq, T> PartialEq for Row<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 .0 == other.0 .0
    }
}

impl<K: Eq, T> Eq for Row<K, T> {}

impl<K: Hash, T> Hash for Row<K, T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0 .0.hash(state);
    }
}

impl<K, T> Default for Index<K, T> {
    fn default() -> Self {
        Index(imbl::HashMap::new())
    }
}

impl<K, T> Clone for Index<K, T> {
    fn clone(&self) -> Self {
        Index(self.0.clone())
    }
}

impl<K: Eq + Hash, T: Claimant> Index<K, T> {
    /// Those who claim a key, the preferred one first.
    pub fn get(&self, key: &K) -> &[Arc<T>] {
        self.0.get_key_value(key).map_or(&[], |(row, ())| row.0 .1.as_slice())
    }

    /// The preferred one of each key.
    pub fn preferred(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.keys().filter_map(|row| row.0 .1.as_slice().first())
    }

    pub fn insert(&mut self, key: K, claimant: &Arc<T>) {
        let claims = Claims::from(self.get(&key), Some(claimant), claimant);
        self.put(key, claims);
    }

    pub fn remove(&mut self, key: K, claimant: &T) {
        let claims = Claims::from(self.get(&key), None, claimant);
        self.put(key, claims);
    }

    fn put(&mut self, key: K, claims: Option<Claims<T>>) {
        // An equal key that is there stays as it is when another is inserted.
        self.0.remove(&key);
        if let Some(claims) = claims {
            self.0.insert(Row(Arc::new((key, claims))), ());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The preferred one of those services which a namespace may see: its own, else the first.
pub fn preferred<'a>(services: &'a [Arc<Service>], namespace: &str) -> Option<&'a Arc<Service>> {
    let own = services.iter().find(|service| service.key.namespace() == namespace);
    own.or_else(|| services.iter().find(|service| service.visible_from(namespace)))
}

/// Who is at the addresses of one network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    workloads: Index<IpAddr, Workload>,
    vips: Index<IpAddr, Service>,
    /// One table for each length in use, longest first.
    prefixes: Vec<(u8, Index<Prefix, Service>)>,
}

impl Network {
    pub fn workload(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.get(&ip).first()
    }

    /// The service that a client in this namespace means by an address: one with exactly this address, else one with a
    /// prefix around it; among those one of the client's namespace, then the longest prefix, then a canonical one.
    pub fn service(&self, ip: IpAddr, namespace: &str) -> Option<&Arc<Service>> {
        if let Some(exact) = preferred(self.vips.get(&ip), namespace) {
            return Some(exact);
        }
        let mut longest = None;
        for (length, table) in &self.prefixes {
            let Some(prefix) = Prefix::around(ip, *length) else { continue };
            match preferred(table.get(&prefix), namespace) {
                Some(own) if own.key.namespace() == namespace => return Some(own),
                found => longest = longest.or(found),
            }
        }
        longest
    }

    pub fn insert_workload(&mut self, workload: &Arc<Workload>) {
        workload.addresses.iter().for_each(|ip| self.workloads.insert(*ip, workload));
    }

    pub fn remove_workload(&mut self, workload: &Workload) {
        workload.addresses.iter().for_each(|ip| self.workloads.remove(*ip, workload));
    }

    pub fn insert_vip(&mut self, ip: IpAddr, service: &Arc<Service>) {
        self.vips.insert(ip, service);
    }

    pub fn remove_vip(&mut self, ip: IpAddr, service: &Service) {
        self.vips.remove(ip, service);
    }

    pub fn insert_prefix(&mut self, prefix: Prefix, service: &Arc<Service>) {
        let place = self.prefixes.partition_point(|(length, _)| *length > prefix.length);
        if self.prefixes.get(place).is_none_or(|(length, _)| *length != prefix.length) {
            self.prefixes.insert(place, (prefix.length, Index::default()));
        }
        self.prefixes[place].1.insert(prefix, service);
    }

    pub fn remove_prefix(&mut self, prefix: Prefix, service: &Service) {
        if let Some((_, table)) = self.prefixes.iter_mut().find(|(length, _)| *length == prefix.length) {
            table.remove(prefix, service);
        }
        self.prefixes.retain(|(_, table)| !table.is_empty());
    }

    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.vips.is_empty() && self.prefixes.is_empty()
    }
}

/// Pods by the names under which their node's agent announces them.
pub type Pods = Index<PodKey, Workload>;
