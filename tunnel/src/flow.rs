//! HTTP/2's windows (RFC 9113 section 5.2), of a stream or of a whole connection.
use crate::frame::{Code, Violation, DEFAULT_WINDOW, WINDOW_MAX};

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

/// What the peer may still send, and what it has been promised back.
#[derive(Debug)]
pub struct Receiving {
    size: i64,
    open: i64,
    owed: i64,
}

impl Receiving {
    /// A window that is announced as `size`.
    pub fn new(size: u32) -> Self {
        Receiving { size: i64::from(size), open: i64::from(size), owed: 0 }
    }

    /// `n` bytes came.
    pub fn came(&mut self, n: usize) -> Result<(), Violation> {
        self.open -= n as i64;
        if self.open < 0 {
            return Err(Violation { code: Code::FLOW_CONTROL_ERROR, what: "more DATA than the window allows" });
        }
        Ok(())
    }

    /// `n` bytes need no more room here. Gives the WINDOW_UPDATE that is due, when half of the window is owed.
    pub fn give_back(&mut self, n: usize) -> Option<u32> {
        self.owed += n as i64;
        if self.owed < self.size / 2 {
            return None;
        }
        self.open += self.owed;
        u32::try_from(std::mem::take(&mut self.owed)).ok()
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
        let mut window = Receiving::new(100);
        window.came(100).unwrap();
        assert_eq!(window.give_back(49), None);
        assert_eq!(window.give_back(2), Some(51));
        window.came(51).unwrap();
        assert!(window.came(1).is_err());
    }
}
