//! Time-outs in whole seconds. A worker has one timerfd, armed only while somebody waits, so that the hot path reads no
//! clock and a thread at rest is not woken.
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{poll_fn, Future};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::{io, time::Instant};
use tokio::io::unix::AsyncFd;

pub struct Clock {
    start: Instant,
    timer: AsyncFd<OwnedFd>,
    armed: Cell<bool>,
    /// By the second at which they are due, and a number.
    waiting: RefCell<BTreeMap<(u64, u64), Waker>>,
    number: Cell<u64>,
}

/// The time was over first.
#[derive(Debug, PartialEq)]
pub struct Elapsed;

/// One who waits. Leaves nothing behind when it is dropped: most time-outs never come.
struct Wait<'a> {
    clock: &'a Clock,
    key: Option<(u64, u64)>,
}

impl Wait<'_> {
    fn poll_for(&mut self, seconds: u64, cx: &Context<'_>) -> Poll<()> {
        let clock = self.clock;
        let now = clock.now();
        let key = *self.key.get_or_insert_with(|| {
            clock.number.set(clock.number.get() + 1);
            (now + seconds + 1, clock.number.get())
        });
        if now >= key.0 {
            return Poll::Ready(());
        }
        clock.waiting.borrow_mut().entry(key).or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        if !clock.armed.replace(true) {
            clock.arm(1);
        }
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.waiting.borrow_mut().remove(&key);
        }
    }
}

impl Clock {
    /// Must be called inside the worker's runtime.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: the descriptor is owned, so it stays open and the same for as long as it is registered.
        let timer = unsafe { AsyncFd::register(timer)? };
        Ok(Clock {
            start: Instant::now(),
            timer,
            armed: Cell::new(false),
            waiting: RefCell::default(),
            number: Cell::new(0),
        })
    }

    /// Whole seconds since the worker began.
    fn now(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    /// Between `seconds` and a second more.
    pub async fn sleep(&self, seconds: u64) {
        let mut wait = Wait { clock: self, key: None };
        poll_fn(|cx| wait.poll_for(seconds, cx)).await;
    }

    /// What `future` gives within `seconds` (at most a second more).
    pub async fn timeout<T>(&self, seconds: u64, future: impl Future<Output = T>) -> Result<T, Elapsed> {
        let mut future = pin!(future);
        let mut wait = Wait { clock: self, key: None }; // reads the clock only when there is something to wait for
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => wait.poll_for(seconds, cx).map(|()| Err(Elapsed)),
        })
        .await
    }

    fn arm(&self, seconds: i64) {
        let every = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: every, it_value: every };
        rustix::time::timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &spec)
            .expect("a timerfd takes any positive time");
    }

    /// The task that wakes who waits.
    pub async fn run(&self) {
        loop {
            let Ok(mut ready) = self.timer.readable().await else { return };
            let _ = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            let due = {
                let mut waiting = self.waiting.borrow_mut();
                let later = waiting.split_off(&(self.now() + 1, 0));
                std::mem::replace(&mut *waiting, later)
            };
            due.into_values().for_each(Waker::wake);
            if self.waiting.borrow().is_empty() {
                self.armed.set(false);
                self.arm(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_timeout_ends_what_does_not_end_and_leaves_alone_what_does() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let clock = Rc::new(Clock::new().unwrap());
            let ticking = clock.clone();
            tokio::task::spawn_local(async move { ticking.run().await });
            assert_eq!(clock.timeout(1, async { 7 }).await, Ok(7));
            assert!(!clock.armed.get());
            assert_eq!(clock.timeout(9, tokio::task::yield_now()).await, Ok(()));
            assert!(clock.waiting.borrow().is_empty());
            let began = Instant::now();
            assert_eq!(clock.timeout(0, std::future::pending::<()>()).await, Err(Elapsed));
            assert!(began.elapsed().as_secs() < 3);
        });
    }
}
