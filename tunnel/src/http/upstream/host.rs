//! An endpoint with what this pod's requests know of it.
use super::outlier::Health;
use super::pool::Pool;
use crate::http::node::Endpoint;
use crate::routes::{Warmup, MILLION};
use http::StatusCode;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What balancing looks at.
pub struct Load {
    pub id: Arc<str>,
    pub weight: u32,
    /// Requests in flight.
    pub active: Cell<u32>,
    /// When it came, if others were there before.
    pub since: Option<Duration>,
}

pub struct Host<S> {
    pub endpoint: Endpoint,
    pub load: Rc<Load>,
    pub health: Health,
    pub pool: Pool<S>,
}

/// How a request to a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(StatusCode),
    /// Of our own making: it could not be reached, broke off or did not answer in time.
    LocalOrigin,
}

impl<S> Host<S> {
    pub fn new(endpoint: Endpoint, since: Option<Duration>) -> Rc<Host<S>> {
        let load = Load { id: endpoint.id.clone(), weight: endpoint.weight.max(1), active: Cell::new(0), since };
        Rc::new(Host { endpoint, load: Rc::new(load), health: Health::default(), pool: Pool::default() })
    }
}

impl Load {
    /// Between two turns of it.
    pub fn period(&self) -> f64 {
        1.0 / f64::from(self.weight)
    }

    /// By requests in flight, counting the one that comes, for its weight.
    pub fn is_freer_than(&self, other: &Load) -> bool {
        let load = |host: &Load, other: &Load| (u64::from(host.active.get()) + 1) * u64::from(other.weight);
        load(self, other) < load(other, self)
    }

    /// Its share of what it gets later, in parts of a million (DestinationRule warmup).
    pub fn warmth(&self, warmup: &Warmup, now: Duration) -> u32 {
        let Some(since) = self.since else { return MILLION };
        let age = now.saturating_sub(since);
        if age >= warmup.duration {
            return MILLION;
        }
        let progress = age.as_secs_f64() / warmup.duration.as_secs_f64();
        let share = progress.powf(1.0 / warmup.aggression.max(f64::EPSILON));
        ((share * f64::from(MILLION)) as u32).max(warmup.minimum_parts)
    }
}

/// Counted among a host's requests, until it is dropped.
pub struct Active<S>(Rc<Host<S>>);

impl<S> Active<S> {
    pub fn new(host: &Rc<Host<S>>) -> Self {
        host.load.active.set(host.load.active.get() + 1);
        Active(host.clone())
    }
}

impl<S> Drop for Active<S> {
    fn drop(&mut self) {
        self.0.load.active.set(self.0.load.active.get() - 1);
    }
}
