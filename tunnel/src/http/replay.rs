//! A body that may be sent again, or to somebody else as well, as long as it is small enough to be kept.
use super::body::Next;
use super::{Body, Frame, Source};
use bytes::Bytes;
use http::HeaderMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{ready, Context, Poll};
use tokio::sync::Notify;

struct Kept {
    source: Body,
    data: Vec<Bytes>,
    size: usize,
    most: usize,
    /// None: there is more to come. The last frame may be trailers.
    end: Option<Option<HeaderMap>>,
    /// It was too large, or broke off: it can be sent once only.
    lost: bool,
}

#[derive(Clone)]
pub struct Replay {
    kept: Rc<RefCell<Kept>>,
    length: Option<u64>,
    settled: Rc<Notify>,
}

impl Replay {
    pub fn new(source: Body, most: usize) -> Replay {
        let length = source.length();
        // A body of which it is known that it does not fit is not kept at all.
        let lost = length.is_some_and(|length| length > most as u64);
        let kept = Kept { source, data: Vec::new(), size: 0, most, end: None, lost };
        Replay { kept: Rc::new(RefCell::new(kept)), length, settled: Rc::default() }
    }

    pub fn can_begin_again(&self) -> bool {
        !self.kept.borrow().lost
    }

    /// From the beginning.
    pub fn body(&self) -> Body {
        Body::stream(self.length, Reader { replay: self.clone(), next: 0, ended: false })
    }

    /// The whole body, once it is here; None: it will not be.
    pub async fn whole(&self) -> Option<Body> {
        loop {
            let settled = self.settled.notified();
            {
                let kept = self.kept.borrow();
                match (kept.lost, &kept.end) {
                    (true, _) => return None,
                    (false, Some(_)) => return Some(self.body()),
                    _ => {}
                }
            }
            settled.await;
        }
    }
}

struct Reader {
    replay: Replay,
    next: usize,
    ended: bool,
}

impl Source for Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut kept = self.replay.kept.borrow_mut();
        let next = match (kept.data.get(self.next), &kept.end) {
            (Some(bytes), _) => Some(Ok(Frame::Data(bytes.clone()))),
            (None, Some(trailers)) => trailers.clone().map(|trailers| Ok(Frame::Trailers(trailers))),
            (None, None) => {
                let next = ready!(kept.source.poll_frame(cx));
                if kept.keep(&next) {
                    self.replay.settled.notify_waiters();
                }
                next
            }
        };
        match &next {
            Some(Ok(Frame::Data(_))) => self.next += 1,
            _ => self.ended = true,
        }
        Poll::Ready(next)
    }
}

impl Kept {
    /// Whether that settles what becomes of it.
    fn keep(&mut self, next: &Next) -> bool {
        match next {
            Some(Ok(Frame::Data(_))) if self.lost => return false,
            Some(Ok(Frame::Data(bytes))) => {
                self.size += bytes.len();
                self.data.push(bytes.clone());
                if self.size <= self.most {
                    return false;
                }
                self.lost = true;
                self.data = Vec::new();
            }
            Some(Ok(Frame::Trailers(trailers))) => self.end = Some(Some(trailers.clone())),
            Some(Err(_)) => self.lost = true,
            None => self.end = Some(None),
        }
        true
    }
}
