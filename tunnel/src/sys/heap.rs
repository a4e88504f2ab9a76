//! The C library's heaps, for a process whose threads each carry many connections.
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes by which heaps grow; they are touched when they are used.
const STEP: libc::c_int = 512 << 10;
/// Connections of which the memory is worth a look through all heaps: some megabytes.
const MANY: usize = 500;
/// Until what came with their end has ended, too.
const REST: Duration = Duration::from_secs(2);

/// Between two looks at what connections leave that come and go, and how much that must be: giving back takes milliseconds,
/// in which workers may wait for memory, and they ask for it again.
const APART: Duration = Duration::from_secs(5);
const WORTH: usize = 8 << 20;

/// Connections that there are, the most since memory was given back, and all that have ended.
static OPEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static ENDED: AtomicUsize = AtomicUsize::new(0);
static GROWTH: Mutex<Growth> = Mutex::new(Growth { looked: None, least: 0 });

/// A thread's heap grows page by page otherwise, each time by a system call that stops all threads' faults.
pub fn grow_in_large_steps() {
    // SAFETY: sets numbers inside the allocator, before the workers begin.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, STEP);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 * STEP);
    }
}

/// What was freed between what is in use is kept otherwise.
pub fn give_back() {
    // SAFETY: the allocator takes its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// By how much the process grows.
struct Growth {
    looked: Option<Instant>,
    /// The fewest bytes that were resident at a look, since memory was given back.
    least: usize,
}

impl Growth {
    /// Looks, if it is time for that. Whether so much has come that it is worth giving back what is unused of it.
    fn is_worth(&mut self, now: Instant, resident: impl FnOnce() -> usize) -> bool {
        if self.looked.is_some_and(|at| now < at + APART) {
            return false;
        }
        let resident = resident();
        (self.looked, self.least) = (Some(now), self.least.min(resident));
        resident >= self.least + WORTH
    }
}

fn growth() -> MutexGuard<'static, Growth> {
    GROWTH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that the process has in memory; 0 where the kernel does not say.
fn resident() -> usize {
    let told = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<usize> = told.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * rustix::param::page_size()
}

/// Not by a worker: that takes milliseconds. Without a thread the memory is used again, at the latest.
fn give_back_after(time: Duration) {
    drop(thread::Builder::new().name("warren-heap".into()).spawn(move || {
        thread::sleep(time);
        give_back();
        growth().least = resident();
    }));
}

/// A connection or a tunnel, counted for as long as this lives. What they leave is given back when most of many have ended,
/// and when they come and go and the process grows by that.
pub struct Counted(());

impl Counted {
    pub fn new() -> Self {
        let open = OPEN.fetch_add(1, Relaxed) + 1;
        if open > MOST.load(Relaxed) {
            MOST.fetch_max(open, Relaxed);
        }
        Counted(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (open, most) = (OPEN.fetch_sub(1, Relaxed) - 1, MOST.load(Relaxed));
        if is_rest(open, most) && MOST.compare_exchange(most, open, Relaxed, Relaxed).is_ok() {
            give_back_after(REST);
        } else if ENDED.fetch_add(1, Relaxed) % MANY == MANY - 1 && growth().is_worth(Instant::now(), resident) {
            give_back_after(Duration::ZERO);
        }
    }
}

/// Whether so few connections are left that the memory of the others should not wait for new ones.
fn is_rest(open: usize, most: usize) -> bool {
    open <= most / 2 && most - open >= MANY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_most_of_many_have_ended() {
        for (open, most, rest) in
            [(0, 499, false), (0, 500, true), (501, 1000, false), (500, 1000, true), (9, 20, false), (601, 1200, false)]
        {
            assert_eq!(is_rest(open, most), rest, "{open} of {most}");
        }
    }

    #[test]
    fn what_there_was_at_most_is_forgotten_when_memory_is_given_back() {
        let many: Vec<Counted> = (0..2 * MANY).map(|_| Counted::new()).collect();
        assert!(MOST.load(Relaxed) >= 2 * MANY);
        drop(many);
        assert!(MOST.load(Relaxed) < 2 * MANY);
    }

    #[test]
    fn it_is_worth_it_when_much_has_come_since_the_least_and_not_too_often() {
        let (begun, mut growth) = (Instant::now(), Growth { looked: None, least: 40 << 20 });
        for (seconds, resident, worth) in
            [(0, 47, false), (1, 90, false), (5, 48, true), (9, 90, false), (10, 30, false), (15, 38, true)]
        {
            let now = begun + Duration::from_secs(seconds);
            assert_eq!(growth.is_worth(now, || resident << 20), worth, "{resident} MB after {seconds} s");
        }
    }

    #[test]
    fn memory_below_what_is_in_use_is_given_back() {
        let mut freed: Vec<Box<[u8; 1 << 10]>> = (0..64 << 10).map(|_| Box::new([1; 1 << 10])).collect();
        let (_last, before) = (freed.pop(), resident());
        drop(freed);
        give_back();
        assert!(resident() + (32 << 20) < before, "{} of {before}", resident());
    }

    #[test]
    fn growth_is_looked_at_while_connections_come_and_go() {
        (0..2 * MANY).for_each(|_| drop(Counted::new()));
        assert!(growth().looked.is_some());
    }
}
