//! Which pairs of pods may connect directly, and by which policies.
use crate::base::{Failure, Identity, OriginalDst, PodKey, Refusal};
use crate::decision::{self, Direct};
use crate::mesh::{Mesh, Workload};
use crate::policy::{Attempt, Guard, Judgement, Verdict};
use crate::sys::layout::{Allowance, Pair};
use crate::sys::PodInfo;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long a pair whose connections did not arrive has to use the tunnel.
const SHUNNED: Duration = Duration::from_secs(300);

/// Of one pod, that no pod takes the kernel's room from the others.
const MOST: usize = 1024;

/// Where the pairs are kept that may connect directly: the kernel's map.
pub trait Allowances {
    /// From now on, unless the result is false.
    fn allow(&self, pair: &Pair, allowance: Allowance) -> bool;
    /// From now on; what is connected stays so.
    fn deny(&self, pair: &Pair);
}

/// A pod of this node, by its netns cookie.
#[derive(Default)]
pub struct Pods {
    by_cookie: HashMap<u64, Arc<PodInfo>>,
    cookies: HashMap<PodKey, u64>,
}

impl Pods {
    pub fn insert(&mut self, cookie: u64, pod: &Arc<PodInfo>) {
        self.cookies.insert(pod.key.clone(), cookie);
        self.by_cookie.insert(cookie, pod.clone());
    }

    pub fn cookie_of(&self, uid: &str) -> Option<u64> {
        self.by_cookie.iter().find(|(_, pod)| &*pod.uid == uid).map(|(cookie, _)| *cookie)
    }

    pub fn remove(&mut self, cookie: u64) {
        let Some(pod) = self.by_cookie.remove(&cookie) else { return };
        if self.cookies.get(&pod.key) == Some(&cookie) {
            self.cookies.remove(&pod.key);
        }
    }

    pub fn get(&self, cookie: u64) -> Option<&Arc<PodInfo>> {
        self.by_cookie.get(&cookie)
    }

    fn cookie(&self, key: &PodKey) -> Option<u64> {
        self.cookies.get(key).copied()
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.by_cookie.values()
    }

    pub fn cookies(&self) -> impl Iterator<Item = u64> + '_ {
        self.by_cookie.keys().copied()
    }
}

/// A pair that has been allowed at some time, for as long as it is or has connections.
pub struct Known {
    pub source: Arc<Workload>,
    pub way: Direct,
    pub pods: (u64, u64),
    pub judgement: Judgement,
    pub open: usize,
    pub attempt: Attempt,
    allowed: bool,
    guard: Arc<Guard>,
}

/// All of them.
#[derive(Default)]
pub struct Pairs {
    known: HashMap<Pair, Known>,
    shunned: HashMap<Pair, Instant>,
}

impl Known {
    /// What `pair` is in a mesh; None where it lacks a part.
    fn new(mesh: &Mesh, pods: &Pods, pair: &Pair, way: Option<Direct>) -> Option<Known> {
        let source = mesh.local(&pods.get(pair.netns)?.key)?;
        let way = way.or_else(|| decision::direct(mesh, source, OriginalDst::new(pair.to.into())).ok())?;
        let key = way.destination.key();
        let attempt = Attempt {
            peer: Some(source.identity.clone()),
            source: own_address(source, way.target)?,
            destination: way.target,
            door: None,
        };
        let guard = mesh.guard(&key)?.clone();
        Some(Known {
            source: source.clone(),
            pods: (pair.netns, pods.cookie(&key)?),
            judgement: guard.judge(&attempt),
            open: 0,
            allowed: false,
            attempt,
            guard,
            way,
        })
    }

    fn allowance(&self) -> Allowance {
        let Known { pods: (_, netns), attempt, .. } = self;
        let (to, from) = (attempt.destination.into(), attempt.source.into());
        Allowance { generation: 0, netns: *netns, to, from, zero: 0 }
    }

    fn is_of(&self, cookie: u64) -> bool {
        self.pods.0 == cookie || self.pods.1 == cookie
    }

    /// Whether the certificate of one of the two is: nothing may go past the tunnel that it would refuse.
    fn is_revoked(&self, revoked: &HashSet<Identity>) -> bool {
        revoked.contains(&self.source.identity) || revoked.contains(&self.way.destination.identity)
    }

    /// Whether policies let each of its connections in, and nobody has to count them.
    fn is_let_past(&self) -> bool {
        self.judgement.verdict == Verdict::Allowed && !self.guard.limits_connections()
    }

    /// Whether the mesh would still have it so, policies apart.
    fn fits(&self, mesh: &Mesh, pair: &Pair) -> bool {
        let Some(source) = mesh.local(&self.source.key()) else { return false };
        decision::direct(mesh, source, OriginalDst::new(pair.to.into())).is_ok_and(|way| {
            way.target == self.way.target
                && way.destination.uid == self.way.destination.uid
                && own_address(source, way.target) == Some(self.attempt.source)
        })
    }
}

/// The address that the policies see, and the only one from which a connection is taken for this pod's.
fn own_address(source: &Workload, target: SocketAddr) -> Option<IpAddr> {
    source.addresses.iter().find(|ip| ip.is_ipv4() == target.is_ipv4()).copied()
}

impl Pairs {
    /// The tunnel has carried a connection of this pair: further ones may not need it.
    pub fn offer(
        &mut self,
        mesh: &Mesh,
        pods: &Pods,
        pair: Pair,
        revoked: &HashSet<Identity>,
        kernel: &impl Allowances,
    ) {
        self.shunned.retain(|_, since| since.elapsed() < SHUNNED);
        let of_pod = self.known.keys().filter(|known| known.netns == pair.netns);
        if self.shunned.contains_key(&pair) || of_pod.count() >= MOST {
            return;
        }
        let Some(mut known) = Known::new(mesh, pods, &pair, None) else { return };
        if known.is_let_past() && !known.is_revoked(revoked) && kernel.allow(&pair, known.allowance()) {
            known.allowed = true;
            known.open = self.known.get(&pair).map_or(0, |before| before.open);
            self.known.insert(pair, known);
        }
    }

    /// What is known of a pair of which a connection is told; `target` is where it went.
    pub fn get(&mut self, mesh: &Mesh, pods: &Pods, pair: &Pair, target: SocketAddr) -> Option<&mut Known> {
        if !self.known.contains_key(pair) {
            let source = mesh.local(&pods.get(pair.netns)?.key)?;
            let asked = SocketAddr::from(pair.to);
            let way = Direct {
                destination: mesh.workload_at(&source.network, target.ip())?.clone(),
                service: mesh.service_at(&source.network, asked.ip(), &source.identity.namespace).cloned(),
                target,
            };
            self.known.insert(*pair, Known::new(mesh, pods, pair, Some(way))?);
        }
        self.known.get_mut(pair)
    }

    pub fn known(&self, pair: &Pair) -> Option<&Known> {
        self.known.get(pair)
    }

    /// A connection of the pair has ended.
    pub fn closed(&mut self, pair: &Pair) {
        if let Some(known) = self.known.get_mut(pair) {
            known.open = known.open.saturating_sub(1);
            if known.open == 0 && !known.allowed {
                self.known.remove(pair);
            }
        }
    }

    /// Takes a pair back whose connections do not arrive.
    pub fn quarantine(&mut self, pair: &Pair, kernel: &impl Allowances) {
        kernel.deny(pair);
        self.shunned.insert(*pair, Instant::now());
        if let Some(known) = self.known.get_mut(pair) {
            known.allowed = false;
        }
    }

    /// Holds all pairs against a new mesh. What no longer may is denied; gives the pairs whose connections have to end,
    /// with the reason.
    pub fn review(
        &mut self,
        mesh: &Mesh,
        revoked: &HashSet<Identity>,
        kernel: &impl Allowances,
    ) -> HashMap<Pair, Failure> {
        let mut refused = HashMap::new();
        self.known.retain(|pair, known| {
            if let Some(guard) = mesh.guard(&known.way.destination.key()).filter(|now| !Arc::ptr_eq(now, &known.guard))
            {
                known.guard = guard.clone();
                known.judgement = guard.judge(&known.attempt);
            }
            let verdict = &known.judgement.verdict;
            let is_revoked = known.is_revoked(revoked);
            if known.allowed && (is_revoked || !known.is_let_past() || !known.fits(mesh, pair)) {
                kernel.deny(pair);
                known.allowed = false;
            }
            match known.judgement.outcome() {
                _ if is_revoked => {
                    let detail = "that of a pod of this node".to_owned();
                    refused.insert(*pair, Failure { refusal: Refusal::CertificateRevoked, detail });
                }
                _ if verdict.keeps(false) => {}
                Err(failure) => _ = refused.insert(*pair, failure),
                Ok(()) => {
                    let detail = "its requests are judged now".to_owned();
                    refused.insert(*pair, Failure { refusal: Refusal::PolicyChanged, detail });
                }
            }
            known.allowed || known.open > 0
        });
        refused
    }

    /// Denies all pairs of a pod that leaves the mesh. What is connected goes on.
    pub fn withdraw(&mut self, cookie: u64, kernel: Option<&impl Allowances>) {
        self.known.retain(|pair, known| {
            if known.is_of(cookie) {
                known.allowed = false;
                if let Some(kernel) = kernel {
                    kernel.deny(pair);
                }
            }
            known.allowed || known.open > 0
        });
    }

    /// Whether a pod has connections.
    pub fn are_open(&self, cookie: u64) -> bool {
        self.known.values().any(|known| known.is_of(cookie) && known.open > 0)
    }

    /// Denies all pairs of a pod that goes; gives those that it has made, or was called by.
    pub fn forget(&mut self, cookie: u64, kernel: Option<&impl Allowances>) -> Vec<Pair> {
        let of_pod: Vec<Pair> =
            self.known.iter().filter(|(_, known)| known.is_of(cookie)).map(|(pair, _)| *pair).collect();
        for pair in &of_pod {
            self.known.remove(pair);
            if let Some(kernel) = kernel {
                kernel.deny(pair);
            }
        }
        of_pod
    }

    /// Other maps: nothing that was allowed is in them.
    pub fn start_anew(&mut self) {
        self.known.retain(|_, known| {
            known.allowed = false;
            known.open > 0
        });
    }

    /// Pods from which connections may be open.
    pub fn sources(&self) -> Vec<u64> {
        let mut sources: Vec<u64> = self.known.keys().map(|pair| pair.netns).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// Those that are allowed: who, and to where.
    pub fn allowed(&self) -> impl Iterator<Item = (&Known, SocketAddr)> {
        self.known.iter().filter(|(_, known)| known.allowed).map(|(pair, known)| (known, pair.to.into()))
    }
}

#[cfg(test)]
mod tests;
