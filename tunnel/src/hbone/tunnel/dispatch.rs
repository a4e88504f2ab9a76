//! What comes out of a tunnel: the session makes events of it, each goes to the stream or the setting that it concerns.
//!
//! Neither the session nor the table of streams is borrowed while a stream gets what is its own: it may answer at once.
use super::Tunnel;
use crate::base::{Failure, Refusal};
use crate::h2::frame::{Code, Event, Violation};
use crate::h2::headers::{Block, Fields, Kind};
use crate::hbone::session::{Request, STREAMS_MAX};
use crate::hbone::stream::Stream;
use std::io::IoSlice;
use std::ops::Range;
use std::rc::Rc;

/// Parts of one write to an application.
const PARTS: usize = 32;

impl Tunnel {
    /// Takes what came. False when the peer has closed. What is too much for this turn is kept: `catch_up` is called before
    /// anything more is received.
    pub(super) fn receive(self: &Rc<Self>, input: &mut [u8]) -> Result<bool, Failure> {
        let Some(mut opened) = self.session.borrow_mut().open(input)? else { return Ok(false) };
        let peer = self.session.borrow_mut().take_peer();
        if let Some((peer, proof)) = peer {
            self.is_up(peer, proof)?;
        }
        let plain = &input[opened.at..];
        self.hear(plain, &mut opened.parts)?;
        self.session.borrow_mut().keep(plain, opened)
    }

    /// Goes on with what was too much for an earlier turn.
    pub(super) fn catch_up(self: &Rc<Self>) -> Result<(), Failure> {
        let (unread, parsed) = self.session.borrow_mut().take_unread();
        let mut part = parsed..unread.len();
        let result = self.hear(&unread, std::slice::from_mut(&mut part));
        if result.is_ok() && !part.is_empty() {
            self.session.borrow_mut().put_unread(unread, part.start);
        }
        self.flush_all();
        result
    }

    /// Dispatches the frames in these parts of `plain`. Leaves of the parts that for which the turn has no room.
    fn hear(self: &Rc<Self>, plain: &[u8], parts: &mut [Range<usize>]) -> Result<(), Failure> {
        let (mut events, parsed) = self.session.borrow_mut().parse(plain, parts);
        let dispatched = self.dispatch(&mut events, plain);
        self.session.borrow_mut().heard(events, parsed.and(dispatched))
    }

    fn dispatch(self: &Rc<Self>, events: &mut Vec<Event>, plain: &[u8]) -> Result<(), Violation> {
        let mut rest = events.drain(..).peekable();
        while let Some(event) = rest.next() {
            match event {
                Event::Data(id, first) => {
                    // One write for consecutive frames of a stream.
                    let mut parts = [IoSlice::new(&[]); PARTS];
                    parts[0] = IoSlice::new(&plain[first.clone()]);
                    let (mut n, mut total) = (1, first.len());
                    while n < PARTS {
                        let same = |event: &Event| matches!(event, Event::Data(next, _) if *next == id);
                        let Some(Event::Data(_, part)) = rest.next_if(same) else { break };
                        parts[n] = IoSlice::new(&plain[part.clone()]);
                        (n, total) = (n + 1, total + part.len());
                    }
                    self.take(id, total, |stream| stream.deliver(&parts[..n], total))?;
                }
                Event::Padding(id, n) => self.take(id, n, |stream| stream.taken(n))?,
                Event::End(id) => self.on(id, |stream| stream.finish()),
                Event::Headers { id, block, end } => self.headers(id, &block, end)?,
                Event::Reset(id, code) => self.on(id, |stream| stream.reset(code)),
                Event::Window(0, n) => {
                    self.session.borrow_mut().grow(n)?;
                    self.streams.borrow_mut().unblock();
                }
                Event::Window(id, n) => self.stream(id).map_or(Ok(()), |stream| stream.grow(i64::from(n)))?,
                Event::Settings(settings) => {
                    self.streams.borrow_mut().settings(&settings)?;
                    self.session.borrow_mut().acknowledge_settings();
                }
                Event::Acknowledged => self.streams.borrow_mut().acknowledged(),
                Event::Ping(payload) => self.session.borrow_mut().pong(payload),
                Event::Pong(_) => {}
                Event::GoAway(last, _) => {
                    if self.session.borrow_mut().take_goodbye() {
                        self.streams.borrow().unprocessed_after(last);
                    }
                }
            }
        }
        Ok(())
    }

    fn stream(&self, id: u32) -> Option<Rc<Stream>> {
        self.streams.borrow().get(id)
    }

    fn on(&self, id: u32, action: impl FnOnce(&Stream)) {
        if let Some(stream) = self.stream(id) {
            action(&stream);
        }
    }

    /// `n` bytes came: they count against both windows. `action` gives the WINDOW_UPDATE that is due.
    fn take(&self, id: u32, n: usize, action: impl FnOnce(&Stream) -> Option<u32>) -> Result<(), Violation> {
        self.session.borrow_mut().came(n)?;
        if let Some(stream) = self.stream(id) {
            stream.came(n)?;
            let due = action(&stream);
            self.session.borrow_mut().give_back(id, due);
        }
        Ok(())
    }

    fn headers(self: &Rc<Self>, id: u32, block: &[u8], end: bool) -> Result<(), Violation> {
        let stream = self.stream(id);
        let kind = stream.as_ref().map_or(Kind::Request, |stream| stream.expects());
        let fields = self.session.borrow_mut().decode(block, kind)?;
        match stream {
            Some(stream) => stream.headers(&fields, end),
            None => self.request(id, fields, end)?,
        }
        Ok(())
    }

    fn request(self: &Rc<Self>, id: u32, fields: Fields, end: bool) -> Result<(), Violation> {
        let request = self.session.borrow_mut().request(id, self.streams())?;
        match (request, &self.accept) {
            (Request::Refused(why), _) => self.refused(why),
            // A peer that resets what it has just asked for does not make the work undone.
            (Request::New, _) if self.tasks() > 2 * STREAMS_MAX => {
                let what = "streams reset faster than they are served";
                return Err(Violation { code: Code::ENHANCE_YOUR_CALM, what });
            }
            (Request::New, _) if self.budget.is_short() => {
                let why = Refusal::OutOfMemory;
                self.session.borrow_mut().put_headers(id, &Block::status(why.status()), true);
                self.refused(why);
            }
            (Request::New, Some(accept)) => {
                let stream = self.insert(id, true);
                if end {
                    stream.finish();
                }
                accept(stream, fields);
            }
            (Request::New | Request::Closed, _) => {}
        }
        Ok(())
    }

    /// A stream was refused before anybody looked at what it is for.
    fn refused(&self, why: Refusal) {
        let peer = self.peer.get().cloned();
        self.thread.telemetry.refused(self.remote, self.local(), peer, why, "");
    }
}

#[cfg(test)]
mod tests;
