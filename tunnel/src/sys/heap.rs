//! The C library's heaps, for a process whose threads each carry many connections.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Bytes by which heaps grow; they are touched when they are used.
const STEP: libc::c_int = 512 << 10;
/// Connections of which the memory is worth a look through all heaps: some megabytes.
const MANY: usize = 500;
/// Until what came with their end has ended, too.
const REST: Duration = Duration::from_secs(2);

/// Connections that there are, and the most since memory was given back.
static OPEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

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

/// A connection, counted for as long as this lives: when most of many have ended, their memory is given back. Connections
/// that come and go at any rate are no reason.
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
            // Not by a worker: that takes milliseconds. Without a thread the memory is used again, at the latest.
            drop(thread::Builder::new().name("warren-heap".into()).spawn(|| {
                thread::sleep(REST);
                give_back();
            }));
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
    fn memory_below_what_is_in_use_is_given_back() {
        let resident = || -> usize {
            let told = std::fs::read_to_string("/proc/self/statm").unwrap();
            told.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
        };
        let mut freed: Vec<Box<[u8; 1 << 10]>> = (0..64 << 10).map(|_| Box::new([1; 1 << 10])).collect();
        let last = freed.pop();
        drop(freed);
        let before = resident();
        give_back();
        assert!(resident() + (32 << 20) < before, "{} of {before}", resident());
        drop(last);
    }
}
