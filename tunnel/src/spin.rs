//! Adaptive spin: in a conversation, look for what comes next for a few microseconds before the thread sleeps.
//!
//! Waking a thread costs more than it does here: spinning for 50 us halves the round trip at about the same CPU. Opening
//! and closing connections gains nothing from it, it keeps both ends' processors from the applications: so only
//! connections that have gone to and fro a few times make a thread spin. At rest nothing spins and nothing wakes.
use crate::flusher::behind_the_others;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How deep work begets work: what is accepted is served, what is served is flushed.
const DEPTH: u32 = 3;

/// How often a connection carries something before it counts as a conversation.
const GREETING: u8 = 4;

/// Of one connection.
#[derive(Default)]
pub struct Conversation(Cell<u8>);

impl Conversation {
    /// Something was carried.
    pub fn went_on(&self, spin: &Spin) {
        match self.0.get() {
            GREETING => spin.touch(),
            n => self.0.set(n + 1),
        }
    }
}

#[derive(Default)]
pub struct Spin {
    touched: Cell<bool>,
    sleeper: RefCell<Option<Waker>>,
}

impl Spin {
    /// Costs a store while the spinner is awake.
    fn touch(&self) {
        if !self.touched.replace(true) {
            if let Some(waker) = self.sleeper.take() {
                waker.wake();
            }
        }
    }

    /// The worker's lowest-priority task. tokio polls epoll without blocking as long as somebody yields, so yielding is
    /// the spin; at rest this task sleeps like any other.
    pub async fn run(&self, limit: Duration) {
        if limit.is_zero() {
            return;
        }
        loop {
            poll_fn(|cx| {
                if self.touched.get() {
                    return Poll::Ready(());
                }
                *self.sleeper.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            let mut since = Instant::now();
            loop {
                let now = Instant::now();
                if self.touched.replace(false) {
                    since = now;
                } else if now - since > limit {
                    break;
                }
                // First whom the last events have made ready. Then the others on this CPU: they may be who we wait
                // for. Then epoll.
                for _ in 0..DEPTH {
                    behind_the_others().await;
                }
                std::thread::yield_now();
                tokio::task::yield_now().await;
            }
        }
    }
}
