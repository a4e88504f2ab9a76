//! Connections to one endpoint that wait for requests.
use super::breaker::Counted;
use super::host::Host;
use crate::http::io::Io;
use crate::http::node::ConnectError;
use crate::http::{h1, h2};
use crate::routes::ConnectionPool;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, Instant};

/// How often waiting connections are looked at: what a server has closed is not kept.
const REVIEW: Duration = Duration::from_secs(5);

/// One that carries a request, or waits for one.
pub struct Lease<S> {
    pub upstream: h1::Upstream<S>,
    pub counted: Counted,
    since: Instant,
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum PoolError {
    Overflow,
    Connect(ConnectError),
}

pub struct Pool<S> {
    idle: RefCell<Vec<Lease<S>>>,
    reviewed: Cell<bool>,
    closed: Cell<bool>,
    /// Connections of HTTP/2, whether they are used now or not.
    shared: RefCell<Vec<(h2::Upstream, Instant)>>,
    /// One is being made, which others wait for.
    pub connecting: Cell<bool>,
    pub connected: Notify,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Pool {
            idle: RefCell::default(),
            reviewed: Cell::new(false),
            closed: Cell::new(false),
            shared: RefCell::default(),
            connecting: Cell::new(false),
            connected: Notify::new(),
        }
    }
}

impl<S: Io> Lease<S> {
    pub fn new(io: S, counted: Counted) -> Self {
        Lease { upstream: h1::Upstream::new(io), counted, since: Instant::now() }
    }
}

impl<S: Io> Pool<S> {
    /// The one that was used last: the others may end.
    pub fn take(&self) -> Option<Lease<S>> {
        loop {
            let lease = self.idle.borrow_mut().pop()?;
            if lease.upstream.is_idle() {
                return Some(lease);
            }
            lease.upstream.end();
        }
    }

    pub fn has_idle(&self) -> bool {
        !self.idle.borrow().is_empty()
    }

    pub fn put(&self, upstream: h1::Upstream<S>, counted: Counted) {
        match self.closed.get() {
            true => upstream.end(),
            false => self.idle.borrow_mut().push(Lease { upstream, counted, since: Instant::now() }),
        }
    }

    /// No more waits: the endpoint is gone.
    pub fn close(&self) {
        self.closed.set(true);
        self.idle.take().into_iter().for_each(|lease| lease.upstream.end());
        self.shared.borrow_mut().clear();
    }

    /// One that has room for another request.
    pub fn share(&self, limits: &ConnectionPool) -> Option<h2::Upstream> {
        let mut shared = self.shared.borrow_mut();
        let (streams, requests) = (limits.max_concurrent_streams, limits.max_requests_per_connection);
        let lasts = |upstream: &h2::Upstream| requests.is_none_or(|limit| upstream.used() < limit);
        shared.retain(|(upstream, _)| !upstream.is_closed() && lasts(upstream));
        let (upstream, used) = shared.iter_mut().find(|(upstream, _)| upstream.has_room(streams))?;
        *used = Instant::now();
        Some(upstream.clone())
    }

    pub fn put_shared(&self, upstream: &h2::Upstream) {
        if !self.closed.get() {
            self.shared.borrow_mut().push((upstream.clone(), Instant::now()));
        }
    }

    /// Whether somebody has to begin `review`.
    fn needs_review(&self) -> bool {
        !self.reviewed.replace(true)
    }
}

/// Looks after what waits at a host.
pub fn keep_reviewed<S: Io>(host: &Rc<Host<S>>, limit: Option<Duration>) {
    if host.pool.needs_review() {
        spawn_local(review(host.clone(), limit));
    }
}

/// Ends what waits longer than `limit`, or was closed by the server, until nothing waits.
async fn review<S: Io>(host: Rc<Host<S>>, limit: Option<Duration>) {
    let pool = &host.pool;
    loop {
        sleep(limit.map_or(REVIEW, |limit| limit.min(REVIEW))).await;
        let fresh = |lease: &Lease<S>| limit.is_none_or(|limit| lease.since.elapsed() < limit);
        let (stay, go): (Vec<_>, Vec<_>) =
            pool.idle.take().into_iter().partition(|lease| fresh(lease) && lease.upstream.is_idle());
        *pool.idle.borrow_mut() = stay;
        go.into_iter().for_each(|lease| lease.upstream.end());
        let used = |since: &Instant| limit.is_none_or(|limit| since.elapsed() < limit);
        pool.shared.borrow_mut().retain(|(shared, since)| !shared.is_closed() && (!shared.is_unused() || used(since)));
        if pool.idle.borrow().is_empty() && pool.shared.borrow().is_empty() {
            pool.reviewed.set(false);
            return;
        }
    }
}
