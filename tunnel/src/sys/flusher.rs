//! Writes tunnels once for all that their streams had to say.
//!
//! Streams that became readable together have their turns one after the other; the flusher's comes behind theirs. So what
//! they say goes out in one call, and comes in at the far end in one, too: the end of one connection and the beginning of
//! the next, or the small requests of many.
use crate::sys::turns::behind_the_others;
use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// How often the others go first: what is accepted is served in the turn after.
const DEPTH: u32 = 1;

/// What has bytes to write: a tunnel.
pub trait Flush {
    /// Writes them.
    fn flush_due(&self);
    /// Ends after a panic of `flush_due`.
    fn break_down(&self);
}

#[derive(Default)]
pub struct Flusher {
    due: RefCell<Vec<Rc<dyn Flush>>>,
    sleeper: RefCell<Option<Waker>>,
}

impl Flusher {
    /// Writes the tunnel when those who are ready now have had their turns.
    pub fn soon(&self, tunnel: Rc<dyn Flush>) {
        self.due.borrow_mut().push(tunnel);
        if let Some(waker) = self.sleeper.take() {
            waker.wake();
        }
    }

    pub async fn run(&self) {
        let mut tunnels = Vec::new();
        loop {
            poll_fn(|cx| {
                if !self.due.borrow().is_empty() {
                    return Poll::Ready(());
                }
                *self.sleeper.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            for _ in 0..DEPTH {
                behind_the_others().await;
            }
            std::mem::swap(&mut tunnels, &mut self.due.borrow_mut());
            for tunnel in tunnels.drain(..) {
                // Of a panic only that tunnel ends: the others would wait for this task forever.
                if catch_unwind(AssertUnwindSafe(|| tunnel.flush_due())).is_err() {
                    tunnel.break_down();
                }
            }
        }
    }
}
