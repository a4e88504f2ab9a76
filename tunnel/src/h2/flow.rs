//! HTTP/2's windows (RFC 9113 section 5.2), of a stream or of a whole connection.
use crate::base::sizes::DATA_MAX;
use crate::h2::frame::{Code, Violation, DEFAULT_WINDOW, WINDOW_MAX};

/// What we may still send. Negative after the peer has made its initial window smaller.
#[derive(Debug)]
pub struct Sending(i64);

impl Default for Sending {
    fn default() -> Self {
        Sending(DEFAULT_WINDOW)
    }
}

impl Sending {
    pub fn new(window: i64) -> Self {
        Sending(window)
    }

    pub fn room(&self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub fn sent(&mut self, n: usize) {
        self.0 -= n as i64;
    }

    /// By a WINDOW_UPDATE, or by a change of the peer's initial window, which may be negative.
    pub fn grow(&mut self, n: i64) -> Result<(), Violation> {
        self.0 += n;
        if self.0 > WINDOW_MAX {
            return Err(Violation { code: Code::FLOW_CONTROL_ERROR, what: "a window above 2^31-1" });
        }
        Ok(())
    }
}

/// The first window of a stream: a record of ours, as much as a TCP connection sends at first (RFC 6928). 1,000 streams of
/// a tunnel that nobody reads are 16 MB.
pub const BASE: u32 = DATA_MAX as u32;
/// The largest one: 400 MB/s over 10 ms.
pub const MOST: u32 = 4 << 20;
/// How often a stream uses its window between two looks, or it is too large: over 10 s, enough for a round trip of 1 s.
const BUSY: i64 = 4;

/// What the peer may still send.
#[derive(Debug)]
pub struct Receiving {
    /// What is promised in all: what is still open, and what waits for the application.
    size: i64,
    open: i64,
    /// Since the last look.
    taken: i64,
}

impl Receiving {
    /// A window of `size`, of which the peer believes for now that it is `open`.
    pub fn new(size: u32, open: i64) -> Self {
        Receiving { size: i64::from(size), open, taken: 0 }
    }

    /// `n` bytes came.
    pub fn came(&mut self, n: usize) -> Result<(), Violation> {
        self.open -= n as i64;
        if self.open < 0 && n > 0 {
            return Err(Violation { code: Code::FLOW_CONTROL_ERROR, what: "more DATA than the window allows" });
        }
        Ok(())
    }

    /// `n` bytes need no more room here.
    pub fn taken(&mut self, n: usize) {
        self.taken += n as i64;
    }

    /// Whether so much has been used that the peer should have more; `waiting` bytes still need room.
    pub fn is_due(&self, waiting: usize) -> bool {
        self.size - self.open - waiting as i64 >= self.size / 2
    }

    /// The WINDOW_UPDATE that is due.
    pub fn give_back(&mut self, waiting: usize) -> Option<u32> {
        let due = self.size - self.open - waiting as i64;
        if !self.is_due(waiting) || due == 0 {
            return None;
        }
        self.open += due;
        u32::try_from(due).ok()
    }

    pub fn size(&self) -> u32 {
        self.size as u32
    }

    /// A larger window is given with the next WINDOW_UPDATE; a smaller one is reached when what is promised has been used.
    pub fn resize(&mut self, size: u32) {
        self.size = i64::from(size);
    }

    /// By a change of what we announce for new streams, which the peer has acknowledged.
    pub fn adjust(&mut self, n: i64) {
        self.open += n;
    }

    /// Whether it is larger than what was used of it since the last call asks for.
    pub fn rests(&mut self) -> bool {
        std::mem::take(&mut self.taken) < BUSY * self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_stops_at_nothing_and_goes_on_when_given_more() {
        let mut window = Sending::default();
        window.sent(65_535);
        assert_eq!(window.room(), 0);
        window.grow(-10).unwrap(); // SETTINGS made the initial window smaller (section 6.9.2)
        assert_eq!(window.room(), 0);
        window.grow(15).unwrap();
        assert_eq!(window.room(), 5);
        assert!(window.grow(WINDOW_MAX).is_err());
    }

    #[test]
    fn a_receiver_gives_back_by_halves_and_refuses_more_than_it_promised() {
        let mut window = Receiving::new(100, 100);
        window.came(49).unwrap();
        assert_eq!(window.give_back(0), None);
        window.came(51).unwrap();
        assert_eq!(window.give_back(51), None, "what waits for the application is not given back");
        assert_eq!(window.give_back(40), Some(60));
        window.came(60).unwrap();
        assert!(window.came(1).is_err());
        assert!(window.came(0).is_ok());
    }

    #[test]
    fn a_window_grows_at_once_and_shrinks_as_it_is_used() {
        let mut window = Receiving::new(100, 100);
        window.came(50).unwrap();
        window.resize(400);
        assert_eq!(window.give_back(0), Some(350));
        window.resize(100);
        window.came(300).unwrap();
        assert_eq!(window.give_back(0), None);
        window.came(51).unwrap();
        assert_eq!(window.give_back(0), Some(51));
    }

    #[test]
    fn what_was_sent_before_the_first_window_was_known_is_no_violation() {
        let mut window = Receiving::new(100, DEFAULT_WINDOW);
        window.came(60_000).unwrap();
        window.adjust(100 - DEFAULT_WINDOW);
        assert_eq!(window.give_back(0), Some(60_000));
        window.came(100).unwrap();
        assert!(window.came(1).is_err());
    }

    #[test]
    fn a_window_rests_that_is_not_used() {
        let mut window = Receiving::new(100, 100);
        window.taken(399);
        assert!(window.rests());
        window.taken(400);
        assert!(!window.rests());
        assert!(window.rests(), "since the last look");
    }
}
