//! Adaptive spin: in a conversation, look for what comes next for a few microseconds before the thread sleeps.
//!
//! Waking a thread costs more than it does here: spinning for 50 us halves the round trip at about the same CPU. Opening
//! and closing connections gains nothing from it, it keeps both ends' processors from the applications: so only
//! connections that have gone to and fro a few times, with little each time, make a thread spin. Bulk alone does
//! not: there is always more to do, and what spins beside it takes the processor from those who send and receive it. At rest
//! nothing spins and nothing wakes.
use crate::base::sizes::DATA_MAX;
use crate::sys::turns::behind_the_others;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How deep work begets work: what is accepted is served, what is served is flushed.
const DEPTH: u32 = 3;

/// How often a connection carries something before it counts as a conversation.
const GREETING: u8 = 4;

/// Turns of bulk since a conversation went on, some 10 ms, after which it is taken to rest.
const LIVELY: u32 = 64;

/// Of one connection.
#[derive(Default)]
pub struct Conversation(Cell<u8>);

impl Conversation {
    /// `n` bytes were carried.
    pub fn went_on(&self, n: usize, spin: &Spin) {
        match self.0.get() {
            GREETING if n < DATA_MAX => spin.talk(),
            GREETING => spin.touch_beside_talk(),
            before => self.0.set(before + 1),
        }
    }
}

#[derive(Default)]
pub struct Spin {
    touched: Cell<bool>,
    /// Turns of bulk for which a conversation is still taken to go on.
    lively: Cell<u32>,
    sleeper: RefCell<Option<Waker>>,
}

impl Spin {
    fn talk(&self) {
        self.lively.set(LIVELY);
        self.touch();
    }

    /// Bulk was carried: where somebody talks as well, it makes way as often as they do.
    fn touch_beside_talk(&self) {
        if let Some(left) = self.lively.get().checked_sub(1) {
            self.lively.set(left);
            self.touch();
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a worker spins after something was carried.
    fn spins(spin: &Spin, conversation: &Conversation, n: usize) -> bool {
        spin.touched.set(false);
        conversation.went_on(n, spin);
        spin.touched.get()
    }

    #[test]
    fn bulk_makes_a_thread_spin_only_beside_a_conversation() {
        let (spin, bulk, talk) = (Spin::default(), Conversation::default(), Conversation::default());
        assert!((0..100).all(|_| !spins(&spin, &bulk, DATA_MAX)));
        assert!((0..GREETING).all(|_| !spins(&spin, &talk, 1)));
        assert!(spins(&spin, &talk, 1));
        let beside = (0..100).take_while(|_| spins(&spin, &bulk, DATA_MAX)).count();
        assert_eq!(beside, LIVELY as usize);
    }
}
