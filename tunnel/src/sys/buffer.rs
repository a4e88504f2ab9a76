//! What waits to be written: to a tunnel, in memory that tunnels share and hold none of at rest; and to an application.
use crate::sys::budget::{Budget, Share};
use std::cell::RefCell;
use std::io::IoSlice;
use std::sync::Arc;

/// Large enough for what may wait when an application is read (`HIGH` in hbone/tunnel.rs) and one full read.
const SIZE: usize = 352 << 10;
/// What a tunnel may keep without asking: a record, and answers.
const SMALL: usize = 32 << 10;
/// Buffers that a thread keeps for the next tunnel that has something to say.
const SPARE: usize = 2;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes sealed in place at the end, written from the front.
pub struct Out {
    buf: Vec<u8>,
    start: usize,
    end: usize,
    share: Share,
}

impl Out {
    pub fn new(budget: &Arc<Budget>) -> Self {
        Out { buf: Vec::new(), start: 0, end: 0, share: Share::of(budget) }
    }

    /// `n` bytes behind the end, to be filled and then added with `advance`. What they hold is undefined.
    pub fn room(&mut self, n: usize) -> &mut [u8] {
        if self.buf.is_empty() {
            self.buf = SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE]);
        }
        if self.buf.len() < self.end + n {
            self.buf.resize(self.end + n, 0);
        }
        &mut self.buf[self.end..self.end + n]
    }

    pub fn advance(&mut self, n: usize) {
        self.end += n;
    }

    pub fn waiting(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// `n` bytes of what waited have been written.
    pub fn sent(&mut self, n: usize) {
        self.start += n;
        if self.start == self.end {
            self.release();
        } else if self.start > self.buf.len() / 2 {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Whether there is memory for more than a record, should the peer not read it.
    pub fn may_grow(&self) -> bool {
        self.share.held() > 0 || self.share.spare() >= SIZE
    }

    /// The socket is full: what waits stays, until the peer reads. False where there is no memory for it.
    pub fn stay(&mut self) -> bool {
        if self.waiting().len() > SMALL {
            return self.share.hold(self.buf.len());
        }
        if self.buf.len() >= SIZE {
            let rest = self.waiting().to_vec();
            self.put_back();
            (self.end, self.buf) = (rest.len(), rest);
        }
        true
    }

    /// Gives the memory back; what was reserved but not added is forgotten.
    pub fn release(&mut self) {
        if self.start == self.end && !self.buf.is_empty() {
            self.put_back();
        }
    }

    fn put_back(&mut self) {
        (self.start, self.end) = (0, 0);
        self.share.hold_anyway(0);
        let buf = std::mem::take(&mut self.buf);
        if buf.len() == SIZE {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARE {
                    spares.push(buf);
                }
            });
        }
    }
}

/// What an application's socket refused.
#[derive(Default)]
pub struct Backlog {
    buf: Vec<u8>,
    start: usize,
}

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Bytes of memory, were `more` to wait.
    pub fn size(&self, more: usize) -> usize {
        self.buf.capacity().max(self.len() + more)
    }

    /// Adds `parts`, without the first `skip` bytes.
    pub fn add(&mut self, parts: &[IoSlice], mut skip: usize) {
        self.buf.drain(..std::mem::take(&mut self.start));
        let more = parts.iter().map(|part| part.len()).sum::<usize>() - skip;
        if self.buf.capacity() < self.buf.len() + more {
            // Tighter than a vector grows by itself: most wait with a window full, which is no more than a record.
            self.buf.reserve_exact(more.max(self.buf.len() / 4));
        }
        for part in parts {
            let n = skip.min(part.len());
            self.buf.extend_from_slice(&part[n..]);
            skip -= n;
        }
    }

    pub fn waiting(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    /// `n` bytes of what waited have been written. Nothing is kept when that was all.
    pub fn taken(&mut self, n: usize) {
        self.start += n;
        if self.start == self.buf.len() {
            *self = Backlog::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out() -> (Arc<Budget>, Out) {
        let budget = Budget::pod(&Budget::process());
        let out = Out::new(&budget);
        (budget, out)
    }

    fn put(out: &mut Out, bytes: &[u8]) {
        out.room(bytes.len()).copy_from_slice(bytes);
        out.advance(bytes.len());
    }

    #[test]
    fn keeps_order_over_partial_writes_and_growth() {
        let (_, mut out) = out();
        put(&mut out, b"abc");
        out.sent(2);
        put(&mut out, &[7; SIZE]);
        assert_eq!(out.waiting().len(), SIZE + 1);
        out.sent(SIZE - 9);
        assert_eq!(out.waiting(), [7; 10]);
    }

    #[test]
    fn holds_no_memory_at_rest() {
        let (_, mut out) = out();
        put(&mut out, b"abc");
        out.sent(3);
        assert!(out.buf.is_empty() && out.waiting().is_empty());
        out.room(100);
        out.release();
        assert!(out.buf.is_empty());
    }

    #[test]
    fn what_waits_survives_a_release() {
        let (_, mut out) = out();
        put(&mut out, b"abc");
        out.room(100);
        out.release();
        assert_eq!(out.waiting(), b"abc");
    }

    #[test]
    fn what_has_been_written_makes_room() {
        let (_, mut out) = out();
        put(&mut out, b"a");
        for _ in 0..10 {
            put(&mut out, &[7; SIZE / 4]);
            out.sent(SIZE / 4);
        }
        assert_eq!((out.waiting().len(), out.buf.len()), (1, SIZE));
    }

    #[test]
    fn a_few_buffers_of_the_usual_size_are_kept_for_the_next() {
        let mut outs: Vec<Out> = (0..2 * SPARE).map(|_| out().1).collect();
        put(&mut outs[0], &[7; SIZE + 1]);
        outs.iter_mut().for_each(|out| put(out, b"a"));
        outs.iter_mut().for_each(|out| out.sent(out.waiting().len()));
        SPARES.with_borrow(|spares| assert!(spares.iter().map(Vec::len).eq([SIZE; SPARE])));
    }

    #[test]
    fn what_stays_is_counted_until_it_is_written() {
        let (budget, mut out) = out();
        put(&mut out, &[7; 100_000]);
        assert!(out.stay());
        assert_eq!(budget.used(), SIZE);
        out.sent(100_000);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_little_that_stays_takes_no_more_than_it_is() {
        let (budget, mut out) = out();
        put(&mut out, &[7; 100_000]);
        assert!(out.stay());
        out.sent(99_000);
        assert!(out.stay());
        assert_eq!((budget.used(), out.buf.len()), (0, 1000));
        put(&mut out, b"abc");
        assert_eq!(out.waiting()[999..], *b"\x07abc");
    }

    #[test]
    fn what_stays_beyond_the_budget_is_refused() {
        let (budget, mut first) = out();
        let all = Share::of(&budget);
        assert!(first.may_grow());
        all.hold_anyway(budget.spare());
        assert!(!first.may_grow());
        put(&mut first, &[7; 100_000]);
        assert!(first.stay(), "the other half is for what is here already");
        let mut second = Out::new(&budget);
        all.hold_anyway(crate::sys::budget::POD - SIZE);
        put(&mut second, &[7; 100_000]);
        assert!(!second.stay());
    }

    #[test]
    fn a_backlog_keeps_order_and_nothing_when_it_is_empty() {
        let mut backlog = Backlog::default();
        let parts = [IoSlice::new(b"abc"), IoSlice::new(b"def")];
        backlog.add(&parts, 4);
        backlog.add(&parts, 0);
        backlog.taken(3);
        assert_eq!((backlog.waiting(), backlog.len()), (&b"bcdef"[..], 5));
        backlog.add(&parts, 5);
        assert_eq!(backlog.waiting(), b"bcdeff");
        backlog.taken(6);
        assert_eq!((backlog.is_empty(), backlog.size(0)), (true, 0));
    }

    #[test]
    fn a_backlog_takes_little_more_than_it_holds() {
        let mut backlog = Backlog::default();
        for _ in 0..17 {
            backlog.add(&[IoSlice::new(&[7; 1000])], 0);
        }
        assert!((17_000..=21_250).contains(&backlog.size(0)));
        backlog.taken(16_999);
        assert!(backlog.size(0) >= 17_000, "the memory is still there");
        for _ in 0..100 {
            backlog.add(&[IoSlice::new(&[7; 1000])], 0);
            backlog.taken(1000);
        }
        assert!(backlog.size(0) <= 21_250, "what has been written makes room");
    }
}
