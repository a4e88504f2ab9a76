//! What waits to be written to a tunnel, and the memory that tunnels share: a tunnel at rest holds no buffer.
use std::cell::RefCell;

/// Large enough for what may wait (`HIGH` in tunnel.rs) and one more full read of an application.
const SIZE: usize = 600 << 10;
/// Buffers that a thread keeps for the next tunnel that has something to say.
const SPARE: usize = 4;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes sealed in place at the end, written from the front.
#[derive(Default)]
pub struct Out {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Out {
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

    /// Gives the memory back; what was reserved but not added is forgotten.
    pub fn release(&mut self) {
        if self.start != self.end || self.buf.is_empty() {
            return;
        }
        (self.start, self.end) = (0, 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn put(out: &mut Out, bytes: &[u8]) {
        out.room(bytes.len()).copy_from_slice(bytes);
        out.advance(bytes.len());
    }

    #[test]
    fn keeps_order_over_partial_writes_and_growth() {
        let mut out = Out::default();
        put(&mut out, b"abc");
        out.sent(2);
        put(&mut out, &[7; SIZE]);
        assert_eq!(out.waiting().len(), SIZE + 1);
        out.sent(SIZE - 9);
        assert_eq!(out.waiting(), [7; 10]);
    }

    #[test]
    fn holds_no_memory_at_rest() {
        let mut out = Out::default();
        put(&mut out, b"abc");
        out.sent(3);
        assert!(out.buf.is_empty() && out.waiting().is_empty());
        out.room(100);
        out.release();
        assert!(out.buf.is_empty());
    }
}
