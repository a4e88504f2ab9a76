//! A destination: its hosts, who of them is healthy, and how much it is used.
use super::balance::Wish;
use super::breaker::{Breaker, Counted};
use super::host::{Host, Outcome};
use super::levels::Levels;
use super::outlier;
use super::pool::{self, Lease, PoolError};
use crate::http::h1::Upstream;
use crate::http::h2;
use crate::http::io::Io;
use crate::http::node::{ConnectError, Downstream, Endpoint, Node, Use};
use crate::http::settings::Limits;
use crate::routes::{Balancing, Destination};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// While a connection to a host is made.
struct Connecting<'a, S>(&'a Host<S>);

impl<'a, S> Connecting<'a, S> {
    fn new(host: &'a Host<S>) -> Self {
        host.pool.connecting.set(true);
        Connecting(host)
    }
}

impl<S> Drop for Connecting<'_, S> {
    fn drop(&mut self) {
        self.0.pool.connecting.set(false);
        self.0.pool.connected.notify_waiters();
    }
}

/// A request that may have to wait for a connection which others make or use.
struct Queued<'a, N: Node> {
    node: &'a N,
    since: Cell<Option<Instant>>,
}

impl<'a, N: Node> Queued<'a, N> {
    fn new(node: &'a N) -> Self {
        Queued { node, since: Cell::new(None) }
    }

    async fn until(&self, event: Notified<'_>) {
        self.since.set(Some(self.since.get().unwrap_or_else(Instant::now)));
        event.await;
    }
}

impl<N: Node> Drop for Queued<'_, N> {
    fn drop(&mut self) {
        if let Some(since) = self.since.get() {
            self.node.queued(since.elapsed());
        }
    }
}

pub struct Cluster<S> {
    /// Of its requests, where connections depend on it.
    host: Box<str>,
    destination: RefCell<Arc<Destination>>,
    endpoints: RefCell<Arc<[Endpoint]>>,
    hosts: RefCell<Vec<Rc<Host<S>>>>,
    levels: RefCell<Rc<Levels<S>>>,
    pub breaker: Breaker,
    pub http2: Cell<bool>,
    began: Instant,
    reviewed: Cell<Duration>,
}

/// What a request wishes for its host.
pub struct Choice<'a, S> {
    pub hash: Option<u64>,
    /// Hosts that have been tried, where another is to be tried.
    pub tried: &'a [Rc<Host<S>>],
    /// Whether another priority may be used as well.
    pub other_priorities: bool,
}

impl<S: Io> Cluster<S> {
    pub fn new(destination: Arc<Destination>, host: &str) -> Rc<Cluster<S>> {
        let levels = Levels::new(&[], &destination);
        Rc::new(Cluster {
            host: host.into(),
            destination: RefCell::new(destination),
            endpoints: RefCell::new(Arc::new([])),
            hosts: RefCell::default(),
            levels: RefCell::new(Rc::new(levels)),
            breaker: Breaker::default(),
            http2: Cell::new(false),
            began: Instant::now(),
            reviewed: Cell::default(),
        })
    }

    pub fn destination(&self) -> Arc<Destination> {
        self.destination.borrow().clone()
    }

    /// Since the destination was first used.
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What is in force now. False: there is no such service.
    pub fn refresh<N: Node<Io = S>>(&self, node: &N, destination: &Arc<Destination>, downstream: &Downstream) -> bool {
        let Some(endpoints) = node.endpoints(destination, downstream, &self.host) else { return false };
        self.http2.set(endpoints.http2);
        let same = Arc::ptr_eq(&self.destination.borrow(), destination);
        let changed = !same && **self.destination.borrow() != **destination;
        if changed && !self.destination().policy.has_layers_of(&destination.policy) {
            // What waits was made on other terms: it must carry nothing that these are for.
            self.hosts.take().iter().for_each(|host| host.pool.close());
            *self.endpoints.borrow_mut() = Arc::new([]);
        }
        if !same {
            *self.destination.borrow_mut() = destination.clone();
        }
        if !Arc::ptr_eq(&self.endpoints.borrow(), &endpoints.all) {
            self.replace(&endpoints.all);
            *self.endpoints.borrow_mut() = endpoints.all;
        } else if changed {
            self.relevel();
        }
        true
    }

    /// No connection waits for further requests.
    pub fn close(&self) {
        self.hosts.borrow().iter().for_each(|host| host.pool.close());
    }

    /// Hosts that stay keep their connections and their past.
    fn replace(&self, endpoints: &[Endpoint]) {
        let mut before = self.hosts.borrow_mut();
        let since = (!before.is_empty()).then(|| self.now());
        let mut known = before.drain(..).map(|host| (host.endpoint.id.clone(), host)).collect::<HashMap<_, _>>();
        let hosts = endpoints.iter().map(|endpoint| match known.remove(&endpoint.id) {
            Some(host) if host.endpoint == *endpoint => host,
            _ => Host::new(endpoint.clone(), since),
        });
        let hosts = hosts.collect::<Vec<_>>();
        known.into_values().for_each(|gone| gone.pool.close());
        *before = hosts;
        drop(before);
        self.relevel();
    }

    fn relevel(&self) {
        *self.levels.borrow_mut() = Rc::new(Levels::new(&self.hosts.borrow(), &self.destination.borrow()));
    }

    /// A host for a request.
    pub fn choose(&self, choice: &Choice<'_, S>, draw: &dyn Fn(u64) -> u64) -> Option<Rc<Host<S>>> {
        let destination = self.destination();
        let now = self.now();
        self.review(&destination, now);
        let policy = &destination.policy;
        let hashed = choice.hash.is_some() && matches!(policy.balancing, Balancing::Hash { .. });
        let wish = Wish { balancing: &policy.balancing, warmup: policy.warmup.as_ref(), hash: choice.hash, now, draw };
        let tried = |host: &Host<S>| !hashed && choice.tried.iter().any(|tried| tried.endpoint.id == host.endpoint.id);
        let levels = self.levels.borrow().clone();
        levels.choose(&wish, &tried, choice.other_priorities)
    }

    /// How a request to a host ended.
    pub fn note(&self, host: &Host<S>, outcome: Outcome) {
        let destination = self.destination();
        let Some(outliers) = &destination.policy.outliers else { return };
        if !host.health.note(outcome, outliers) || host.health.is_ejected() {
            return;
        }
        let now = self.now();
        self.review(&destination, now);
        let hosts = self.hosts.borrow();
        let ejected = hosts.iter().filter(|host| host.health.is_ejected()).count();
        if outlier::may_eject(ejected, hosts.len(), outliers) {
            host.health.eject(now);
            drop(hosts);
            self.relevel();
        }
    }

    /// Makes up for the intervals that have passed since the last look.
    fn review(&self, destination: &Destination, now: Duration) {
        let Some(outliers) = &destination.policy.outliers else { return };
        let interval = outliers.interval.max(Duration::from_millis(1));
        if now < self.reviewed.get() + interval {
            return;
        }
        let mut back = false;
        // More intervals than that change nothing any more.
        let skip = (now - self.reviewed.get()).as_nanos() / interval.as_nanos();
        let last = self.reviewed.get() + interval * u32::try_from(skip).unwrap_or(u32::MAX);
        let first = last.saturating_sub(interval * (skip.min(1000) as u32 - 1));
        let mut at = first;
        while at <= last {
            for host in self.hosts.borrow().iter() {
                back |= host.health.review(at, outliers);
            }
            at += interval;
        }
        self.reviewed.set(last);
        if back {
            self.relevel();
        }
    }

    /// A connection to `host` that waits, or a new one.
    pub async fn lease<N: Node<Io = S>>(&self, node: &N, host: &Rc<Host<S>>) -> Result<Lease<S>, PoolError> {
        match host.pool.take() {
            Some(lease) => Ok(lease),
            // Apart, as it is much larger than what most requests need.
            None => Box::pin(self.lease_new(node, host)).await,
        }
    }

    async fn lease_new<N: Node<Io = S>>(&self, node: &N, host: &Rc<Host<S>>) -> Result<Lease<S>, PoolError> {
        let destination = self.destination();
        let limits = &destination.policy.pool;
        let _pending = self.breaker.pending(limits).ok_or(PoolError::Overflow)?;
        let queued = Queued::new(node);
        let counted = loop {
            let freed = self.breaker.freed.notified();
            if let Some(lease) = host.pool.take() {
                return Ok(lease);
            }
            match self.breaker.connection(limits) {
                Some(counted) => break counted,
                None if self.free_another(host) => {}
                None => queued.until(freed).await,
            }
        };
        drop(queued);
        let used = Use { host: &self.host, http2: false };
        let io = node.connect(&host.endpoint, &destination, used).await.map_err(PoolError::Connect)?;
        Ok(Lease::new(io, counted))
    }

    /// A connection of HTTP/2 to `host` with room for a request; several requests wait for the same new one.
    pub async fn share<N: Node<Io = S>>(
        &self,
        node: &N,
        host: &Rc<Host<S>>,
        limits: Limits,
    ) -> Result<h2::Upstream, PoolError> {
        match host.pool.share(&self.destination().policy.pool) {
            Some(upstream) => Ok(upstream),
            None => Box::pin(self.share_new(node, host, limits)).await,
        }
    }

    async fn share_new<N: Node<Io = S>>(
        &self,
        node: &N,
        host: &Rc<Host<S>>,
        limits: Limits,
    ) -> Result<h2::Upstream, PoolError> {
        let destination = self.destination();
        let policy = &destination.policy.pool;
        let _pending = self.breaker.pending(policy).ok_or(PoolError::Overflow)?;
        let queued = Queued::new(node);
        loop {
            if let Some(upstream) = host.pool.share(policy) {
                return Ok(upstream);
            }
            let (connected, freed) = (host.pool.connected.notified(), self.breaker.freed.notified());
            if host.pool.connecting.get() {
                queued.until(connected).await;
                continue;
            }
            let Some(counted) = self.breaker.connection(policy) else {
                queued.until(freed).await;
                continue;
            };
            drop(queued);
            let _connecting = Connecting::new(host);
            let used = Use { host: &self.host, http2: true };
            let io = node.connect(&host.endpoint, &destination, used).await.map_err(PoolError::Connect)?;
            let upstream = h2::Upstream::connect(io, limits, counted).await;
            let failed = |_| PoolError::Connect(ConnectError::Failed("no HTTP/2".to_owned()));
            let upstream = upstream.map_err(failed)?;
            host.pool.put_shared(&upstream);
            pool::keep_reviewed(host, policy.http_idle_timeout);
            return Ok(upstream);
        }
    }

    /// Ends a connection that waits at another host, so that there may be one at this one.
    fn free_another(&self, host: &Rc<Host<S>>) -> bool {
        let hosts = self.hosts.borrow();
        let mut others = hosts.iter().filter(|other| !Rc::ptr_eq(other, host));
        others.find_map(|other| other.pool.take()).map(|lease| lease.upstream.end()).is_some()
    }

    /// Takes a connection back when its response is over.
    pub fn release(&self, host: &Rc<Host<S>>, upstream: Upstream<S>, counted: Counted) {
        let destination = self.destination();
        let limits = &destination.policy.pool;
        if limits.max_requests_per_connection.is_some_and(|limit| upstream.used() >= limit) {
            return upstream.end();
        }
        host.pool.put(upstream, counted);
        pool::keep_reviewed(host, limits.http_idle_timeout);
        self.breaker.freed.notify_one();
    }
}
