//! A pod's tunnels to its destinations, one pool for each pod and worker.
//!
//! The destination's uid is part of the key, so an address that a new pod has taken over never meets a tunnel to the old
//! one. A pair has several tunnels when one of them carries bulk or is stalled: then a new stream takes another.
use crate::base::{Failure, Identity, Refusal};
use crate::decision::Route;
use crate::hbone::tunnel::{Ending, Tunnel};
use crate::relay::Thread;
use crate::sys::sockets;
use crate::sys::stash::Stash;
use crate::sys::PodInfo;
use crate::telemetry::Pooled;
use crate::tls::credentials::Credentials;
use crate::tls::handshake::Handshake;
use failures::Failures;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::{io, io::ErrorKind};
use tokio::task::spawn_local;

mod failures;

/// Seconds for a tunnel's TCP connect, as the peer has it.
const CONNECT_TIMEOUT: u64 = 10;
/// Tunnels of one pair that are opened because the others carry bulk or are stalled.
const TUNNELS_MAX: usize = 4;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    destination: Arc<str>,
    dial: SocketAddr,
    identities: Arc<[Identity]>,
}

pub struct Pool {
    thread: Rc<Thread>,
    pod: Arc<PodInfo>,
    stash: Rc<Stash>,
    tunnels: RefCell<HashMap<Key, Vec<Rc<Tunnel>>>>,
    failures: RefCell<Failures<Key>>,
}

/// A dialled tunnel, for as long as its task is.
struct Dialled {
    pool: Rc<Pool>,
    key: Key,
    tunnel: Rc<Tunnel>,
    _pooled: Pooled,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        drop(Ending(self.tunnel.clone()));
        self.pool.forget(&self.key, &self.tunnel);
    }
}

impl Pool {
    /// Of a pod, whose sockets are made in its namespace.
    pub fn new(thread: &Rc<Thread>, pod: &Arc<PodInfo>, stash: &Rc<Stash>) -> Rc<Self> {
        Rc::new(Pool {
            thread: thread.clone(),
            pod: pod.clone(),
            stash: stash.clone(),
            tunnels: RefCell::default(),
            failures: RefCell::default(),
        })
    }

    /// The tunnel for a new stream: the least loaded one, or a new one, which streams may use before it is up.
    /// `credentials`: the pod's own, for a new one.
    pub fn tunnel(
        self: &Rc<Self>,
        route: &Route,
        credentials: impl FnOnce() -> Option<Arc<Credentials>>,
    ) -> Result<Rc<Tunnel>, Failure> {
        let key = Key {
            destination: route.destination.uid.0.clone(),
            dial: route.dial,
            identities: route.identities.clone(),
        };
        let mut pools = self.tunnels.borrow_mut();
        let pool = pools.get(&key).map_or(&[][..], Vec::as_slice);
        let usable = pool.iter().filter(|tunnel| tunnel.is_usable());
        let load = |tunnel: &Tunnel| (tunnel.is_stalled(), tunnel.bulk.get());
        let best = usable.min_by_key(|tunnel| (load(tunnel), tunnel.streams()));
        if let Some(best) = best.filter(|best| load(best) == (false, 0) || pool.len() >= TUNNELS_MAX) {
            return Ok(best.clone());
        }
        if let Some(failure) = self.failures.borrow().answer(&key, Instant::now()) {
            return best.cloned().ok_or(failure);
        }
        let credentials = credentials().ok_or_else(|| Failure {
            refusal: Refusal::NoIdentity,
            detail: format!("no certificate for {}", self.pod.identity),
        })?;
        let handshake = Handshake::client(&credentials, &route.identities)?;
        let tunnel = self.dial(handshake, key.clone(), &route.destination.node);
        pools.entry(key).or_default().push(tunnel.clone());
        Ok(tunnel)
    }

    /// How a dialled tunnel ended, for those who come next.
    fn remember(&self, key: &Key, result: &Result<(), Failure>, was_up: bool) {
        let mut failures = self.failures.borrow_mut();
        // A server that refuses us says so when our side of the handshake is done already.
        let in_handshake = |last: &Failure| !was_up || last.refusal == Refusal::CertificateRefused;
        match result {
            Err(last) if last.refusal.is_of_handshake() && in_handshake(last) => {
                failures.add(key.clone(), last.clone(), Instant::now())
            }
            _ => failures.remove(key),
        }
    }

    /// Something has changed: what failed may work.
    pub fn forget_failures(&self) {
        self.failures.borrow_mut().clear();
    }

    /// The workloads to which it has tunnels, by uid.
    pub fn destinations(&self) -> Vec<Arc<str>> {
        self.tunnels.borrow().keys().map(|key| key.destination.clone()).collect()
    }

    /// Ends what leads to workloads that are gone, or are not at that address any more: where not `is_there`, by uid.
    pub fn prune(&self, is_there: impl Fn(&str, IpAddr) -> bool) {
        self.tunnels.borrow_mut().retain(|key, tunnels| {
            let there = is_there(&key.destination, key.dial.ip());
            if !there {
                for tunnel in tunnels.iter() {
                    tunnel.kill(Refusal::WorkloadGone, "the destination is gone");
                }
            }
            there
        });
    }

    fn forget(&self, key: &Key, dead: &Rc<Tunnel>) {
        let mut pools = self.tunnels.borrow_mut();
        let Some(pool) = pools.get_mut(key) else { return };
        pool.retain(|tunnel| !Rc::ptr_eq(tunnel, dead));
        if pool.is_empty() {
            pools.remove(key);
        }
    }

    /// All tunnels, also those that take no more streams.
    pub fn all(&self) -> Vec<Rc<Tunnel>> {
        self.tunnels.borrow().values().flatten().cloned().collect()
    }

    /// Begins a tunnel; whoever waits for its streams learns how it went.
    fn dial(self: &Rc<Self>, handshake: Handshake, key: Key, node: &Arc<str>) -> Rc<Tunnel> {
        let tunnel = Tunnel::client(&self.thread, &self.pod, key.dial, handshake);
        let _pooled = self.thread.telemetry.pooled(node);
        let dialled = Dialled { pool: self.clone(), key, tunnel: tunnel.clone(), _pooled };
        spawn_local(async move {
            let Dialled { pool, key, tunnel, .. } = &dialled;
            // Whoever waits for a stream records how the tunnel ended.
            let connected = pool.stash.connect(&pool.pod.netns, None, tunnel.remote, false);
            let in_time = pool.thread.clock.timeout(CONNECT_TIMEOUT, connected).await;
            match in_time.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
                Ok(sock) => {
                    let result = tunnel.run(sock).await;
                    pool.remember(key, &result, tunnel.peer.get().is_some());
                }
                Err(error) => tunnel.end(&Err(unreachable(tunnel.remote, &error))),
            }
        });
        tunnel
    }
}

fn unreachable(remote: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut => Failure {
            refusal: Refusal::TunnelTimeout,
            detail: format!("no answer from {remote} within {CONNECT_TIMEOUT} s; does a network policy block it?"),
        },
        _ => sockets::connect_failure(remote, error),
    }
}

#[cfg(test)]
mod tests;
