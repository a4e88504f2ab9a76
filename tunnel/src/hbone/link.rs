//! A stream as its tunnel's session has it: the windows, and the memory that they promise.
use crate::base::Refusal;
use crate::h2::flow::{Receiving, Sending, BASE, MOST};
use crate::h2::frame::{Code, Violation};
use crate::h2::headers::{Fields, Kind};
use crate::hbone::stream::{Answer, Stream};
use crate::relay::CloseReason;
use crate::sys::budget::Share;
use std::io::IoSlice;
use std::rc::Rc;

pub struct Link {
    pub stream: Rc<Stream>,
    /// The peer's header block is there: the request, or the answer that decides.
    begun: bool,
    pub sending: Sending,
    receiving: Receiving,
    /// Of the tunnel's budget: the whole window where it has grown, else what waits for the application.
    share: Share,
}

impl Link {
    /// `begun` where the peer asked for it; the windows are what we, and the peer, may send at first.
    pub fn new(stream: Rc<Stream>, begun: bool, (sending, receiving): (i64, i64)) -> Self {
        let share = Share::of(&stream.tunnel().budget);
        Link { stream, begun, sending: Sending::new(sending), receiving: Receiving::new(BASE, receiving), share }
    }

    /// What a header block can only be.
    pub fn expects(&self) -> Kind {
        match self.begun {
            true => Kind::Trailers,
            false => Kind::Response,
        }
    }

    /// A header block of a stream that is there: an answer, or what ends the peer's side. That is not for a CONNECT
    /// (RFC 9113 section 8.5), but says no more than END_STREAM does. Anything else breaks the stream.
    pub fn headers(&mut self, fields: &Fields, end: bool) {
        let broken =
            |code: Code, what: &'static str| self.stream.fail(CloseReason::Violation(Violation { code, what }));
        match (fields.malformed, fields.status) {
            (Some(what), _) => broken(Code::PROTOCOL_ERROR, what),
            (None, Some(100..=199)) if !end => {} // the answer is still to come (RFC 9110 section 15.2)
            (None, Some(status)) => {
                self.begun = true;
                self.stream.answered(Answer::of_status(status));
                if end {
                    self.stream.finish();
                }
            }
            (None, None) if self.stream.is_finished() => broken(Code::STREAM_CLOSED, "a header block behind the end"),
            (None, None) if end => self.stream.finish(),
            (None, None) => broken(Code::PROTOCOL_ERROR, "a second header block"),
        }
    }

    /// `n` bytes came, which count against the window.
    pub fn came(&mut self, n: usize) -> Result<(), Violation> {
        self.receiving.came(n)
    }

    /// What came goes to the application, or waits for it. Gives the WINDOW_UPDATE that is due.
    pub fn deliver(&mut self, parts: &[IoSlice], total: usize) -> Option<u32> {
        if self.stream.is_finished() {
            let violation = Violation { code: Code::STREAM_CLOSED, what: "DATA behind the end" }; // RFC 9113 section 5.1
            self.stream.fail(CloseReason::Violation(violation));
            return None;
        }
        match self.stream.deliver(parts, total) {
            Ok(done) if done == total || self.keep(parts, done, total) => self.taken(done),
            Ok(_) => {
                let detail = "the application does not read, and too much waits already".into();
                self.stream.fail(CloseReason::Cancelled(Refusal::OutOfMemory, detail));
                None
            }
            Err(error) => {
                self.stream.fail(CloseReason::App(Rc::new(error)));
                self.taken(total)
            }
        }
    }

    fn keep(&self, parts: &[IoSlice], done: usize, total: usize) -> bool {
        let fits = self.share.hold(self.needed(total - done));
        if fits {
            self.stream.keep(parts, done);
        }
        fits
    }

    /// What it has to hold, with `more` waiting.
    fn needed(&self, more: usize) -> usize {
        let grown = Some(self.receiving.size()).filter(|size| *size > BASE);
        self.stream.backlog(more).max(grown.unwrap_or(0) as usize)
    }

    /// `n` bytes need no more room here. Gives the WINDOW_UPDATE that is due.
    ///
    /// An application that keeps up gets a window of twice the size each time, as far as there is memory.
    pub fn taken(&mut self, n: usize) -> Option<u32> {
        self.receiving.taken(n);
        let waiting = self.stream.waiting();
        if self.stream.is_finished() || !self.receiving.is_due(waiting) {
            return None;
        }
        let size = if waiting == 0 { 2 * self.receiving.size() } else { self.receiving.size() };
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
        self.stream.look();
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
