//! A sink that a stream's reader has lent it: what comes is written there at once, from the turn that opens the records.
use super::{Side, Stream};
use crate::base::sink::{Relayed, Sink};
use std::io::IoSlice;
use std::rc::Rc;
use std::task::{Context, Poll};

pub struct Lent {
    to: Rc<dyn Sink>,
    /// Bytes that it is for.
    left: u64,
    refused: bool,
}

impl Lent {
    /// How much of `parts` it took. What it refuses now is waited for by `cx`.
    fn write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>], total: usize) -> usize {
        let written = if total as u64 <= self.left {
            self.to.poll_write(cx, parts)
        } else {
            self.to.poll_write(cx, &first(parts, self.left as usize))
        };
        match written {
            Poll::Ready(Ok(n)) => {
                self.left -= n as u64;
                n
            }
            Poll::Ready(Err(_)) => {
                self.refused = true;
                0
            }
            Poll::Pending => 0,
        }
    }

    fn is_over(&self) -> bool {
        self.left == 0 || self.refused
    }
}

/// The first `n` bytes of them.
fn first<'a>(parts: &'a [IoSlice<'_>], mut n: usize) -> Vec<IoSlice<'a>> {
    let cut = |part: &'a IoSlice<'_>| {
        let len = n.min(part.len());
        n -= len;
        IoSlice::new(&part[..len])
    };
    parts.iter().map(cut).filter(|part| !part.is_empty()).collect()
}

impl Stream {
    /// How much of what comes the sink has taken, where there is one.
    pub(super) fn write_lent(&self, parts: &[IoSlice<'_>], total: usize) -> usize {
        let mut lent = self.lent.borrow_mut();
        let Some(lent) = lent.as_mut().filter(|lent| !lent.is_over()) else { return 0 };
        let Some(waker) = self.wakers.borrow()[Side::Reader as usize].clone() else { return 0 };
        let n = lent.write(&mut Context::from_waker(&waker), parts, total);
        if lent.is_over() {
            waker.wake();
        }
        n
    }

    /// Lends it `to` for the next `left` bytes, which are counted down, until that is over.
    pub(super) fn poll_lent(&self, cx: &mut Context<'_>, to: &Rc<dyn Sink>, left: &mut u64) -> Poll<Relayed> {
        self.remember(Side::Reader, cx);
        let mut slot = self.lent.borrow_mut();
        let lent = slot.get_or_insert_with(|| Lent { to: to.clone(), left: *left, refused: false });
        while self.waiting() > 0 && !lent.is_over() {
            let inbox = self.inbox.borrow();
            let waiting = inbox.waiting();
            let n = lent.write(cx, &[IoSlice::new(waiting)], waiting.len());
            drop(inbox);
            if n == 0 {
                break;
            }
            self.consume(n);
        }
        *left = lent.left;
        let over = match lent {
            Lent { refused: true, .. } => Relayed::Refused,
            Lent { left: 0, .. } => Relayed::Whole,
            _ if self.waiting() > 0 => return Poll::Pending,
            _ if self.broken.borrow().is_some() => Relayed::Broken,
            _ if self.finished.get() => Relayed::Ended,
            _ => return Poll::Pending,
        };
        *slot = None;
        Poll::Ready(over)
    }
}
