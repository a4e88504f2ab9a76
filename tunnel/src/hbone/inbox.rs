//! What has come for a stream and waits for its reader: the window that promises room for it, and the memory it takes.
use crate::h2::flow::{Receiving, BASE, MOST};
use crate::h2::frame::Violation;
use crate::sys::budget::{Budget, Share};
use crate::sys::buffer::Backlog;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A window up to this one grows as long as its reader keeps up: ends that are slow to wake need so much.
const SMALL: u32 = 256 << 10;
/// Beyond it, how long the use of half a window may take on top of two round trips, for both ends to do their work: a peer
/// that is slower does not wait for a larger window.
const AT_WORK: Duration = Duration::from_micros(400);

pub struct Inbox {
    receiving: Receiving,
    /// Of the tunnel's budget: the whole window where it has grown, else what waits.
    share: Share,
    backlog: Backlog,
    /// When the peer was last given more.
    given: Instant,
}

impl Inbox {
    /// `window`: what the peer may send at first.
    pub fn new(budget: &Arc<Budget>, window: i64) -> Self {
        let receiving = Receiving::new(BASE, window);
        Inbox { receiving, share: Share::of(budget), backlog: Backlog::default(), given: Instant::now() }
    }

    /// `n` bytes came, which count against the window.
    pub fn came(&mut self, n: usize) -> Result<(), Violation> {
        self.receiving.came(n)
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.backlog.len()
    }

    pub fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }

    pub fn waiting(&self) -> &[u8] {
        self.backlog.waiting()
    }

    /// The first `n` bytes that wait do so no more.
    pub fn remove(&mut self, n: usize) {
        self.backlog.taken(n);
    }

    /// Keeps `parts` without the first `done` bytes, of `total`. False where there is no memory for them.
    pub fn keep(&mut self, parts: &[IoSlice], done: usize, total: usize) -> bool {
        let fits = self.share.hold(self.needed(total - done));
        if fits {
            self.backlog.add(parts, done);
        }
        fits
    }

    /// What it has to hold, with `more` waiting.
    fn needed(&self, more: usize) -> usize {
        let grown = Some(self.receiving.size()).filter(|size| *size > BASE);
        self.backlog.size(more).max(grown.unwrap_or(0) as usize)
    }

    /// `n` bytes need no more room here. Gives the WINDOW_UPDATE that is due, none to a peer that has said all.
    ///
    /// A reader that keeps up gets a window of twice the size, as far as there is memory and the peer uses half of it within two
    /// round trips (`rtt`). What is larger only fills the socket, in front of what other streams say.
    pub fn taken(&mut self, n: usize, finished: bool, rtt: impl FnOnce() -> Option<Duration>) -> Option<u32> {
        self.receiving.taken(n);
        let waiting = self.len();
        if finished || !self.receiving.is_due(waiting) {
            return None;
        }
        let used = self.given.elapsed();
        self.given = Instant::now();
        let size = self.receiving.size();
        let is_short = || size < SMALL || rtt().is_none_or(|rtt| used < 2 * rtt + AT_WORK);
        let size = if waiting == 0 && size < MOST && is_short() { 2 * size } else { size };
        self.resize(size.min(u32::try_from(self.share.limit()).unwrap_or(MOST)).clamp(BASE, MOST));
        self.receiving.give_back(waiting)
    }

    fn resize(&mut self, size: u32) {
        self.receiving.resize(size);
        if !self.share.hold(self.needed(0)) {
            self.receiving.resize(BASE);
        }
    }

    /// To be called every few seconds: what was not used since is given back. What the peer has been promised it may still
    /// send.
    pub fn look(&mut self) {
        if self.receiving.rests() {
            self.receiving.resize(BASE);
            self.share.hold_anyway(self.needed(0));
        }
    }

    /// The peer has acknowledged another window for new streams.
    pub fn adjust(&mut self, n: i64) {
        self.receiving.adjust(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer is given beyond what it has used: half of a window of `size`, within `used`.
    fn grown(size: u32, used: Duration, rtt: Duration) -> u32 {
        let mut inbox = Inbox::new(&Budget::pod(&Budget::process()), size.into());
        inbox.resize(size);
        inbox.came(size as usize / 2).unwrap();
        inbox.given = Instant::now().checked_sub(used).unwrap();
        inbox.taken(size as usize / 2, false, || Some(rtt)).unwrap() - size / 2
    }

    #[test]
    fn a_window_grows_while_it_is_used_within_round_trips() {
        let (near, far) = (Duration::from_micros(100), Duration::from_millis(100));
        assert_eq!(grown(SMALL, Duration::ZERO, near), SMALL);
        assert_eq!(grown(SMALL, 2 * near + AT_WORK, near), 0);
        assert_eq!(grown(SMALL, 2 * near + AT_WORK, far), SMALL);
        assert_eq!(grown(SMALL, 2 * far + AT_WORK, far), 0);
        assert_eq!(grown(SMALL / 2, 2 * far + AT_WORK, far), SMALL / 2, "a small one grows anyway");
    }

    #[test]
    fn a_window_grows_up_to_the_most_and_shrinks_to_the_first_one() {
        let mut inbox = Inbox::new(&Budget::pod(&Budget::process()), i64::from(BASE));
        for _ in 0..20 {
            let n = inbox.receiving.size() as usize;
            inbox.came(n).unwrap();
            assert!(inbox.taken(n, false, || None).is_some_and(|due| due >= n as u32));
        }
        assert_eq!((inbox.receiving.size(), inbox.share.held()), (MOST, MOST as usize));
        inbox.look();
        assert_eq!(inbox.receiving.size(), MOST, "it was used");
        inbox.look();
        assert_eq!((inbox.receiving.size(), inbox.share.held()), (BASE, 0));
    }
}
