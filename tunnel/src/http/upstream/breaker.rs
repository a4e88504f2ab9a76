//! Circuit breakers (DestinationRule connectionPool): what is at its limit is refused at once, not queued.
use crate::routes::{ConnectionPool, RetryBudget, MILLION};
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// Of one destination.
#[derive(Default)]
pub struct Breaker {
    pub connections: Rc<Cell<u32>>,
    pub pending: Rc<Cell<u32>>,
    pub requests: Rc<Cell<u32>>,
    pub retries: Rc<Cell<u32>>,
    /// A connection has ended, or waits for a request.
    pub freed: Rc<Notify>,
}

/// One that is counted, until it is dropped.
pub struct Counted {
    counter: Rc<Cell<u32>>,
    freed: Option<Rc<Notify>>,
}

impl Counted {
    /// None: there are as many already.
    fn below(counter: &Rc<Cell<u32>>, limit: Option<u32>) -> Option<Counted> {
        let now = counter.get();
        if limit.is_some_and(|limit| now >= limit) {
            return None;
        }
        counter.set(now + 1);
        Some(Counted { counter: counter.clone(), freed: None })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counter.set(self.counter.get() - 1);
        if let Some(freed) = &self.freed {
            freed.notify_one();
        }
    }
}

impl Breaker {
    pub fn request(&self, limits: &ConnectionPool) -> Option<Counted> {
        Counted::below(&self.requests, limits.http2_max_requests)
    }

    pub fn connection(&self, limits: &ConnectionPool) -> Option<Counted> {
        let mut counted = Counted::below(&self.connections, limits.max_connections)?;
        counted.freed = Some(self.freed.clone());
        Some(counted)
    }

    pub fn pending(&self, limits: &ConnectionPool) -> Option<Counted> {
        Counted::below(&self.pending, limits.http1_max_pending_requests)
    }

    /// A budget is in place of the pool's limit (Envoy's retry_budget).
    pub fn retry(&self, limits: &ConnectionPool, budget: Option<&RetryBudget>) -> Option<Counted> {
        let limit = match budget {
            None => limits.max_retries,
            Some(budget) => {
                let active = u64::from(self.requests.get()) + u64::from(self.pending.get());
                let share = active * u64::from(budget.parts) / u64::from(MILLION);
                Some((share as u32).max(budget.min_retry_concurrency))
            }
        };
        Counted::below(&self.retries, limit)
    }
}
