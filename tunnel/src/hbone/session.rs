//! What a tunnel knows between two system calls: TLS, and HTTP/2 of the connection. No I/O: bytes in, events out; frames in,
//! bytes out. Streams are the tunnel's.
use crate::base::{Failure, Identity, Refusal};
use crate::h2::flow::{Receiving, Sending, BASE};
use crate::h2::frame::{self, Code, Event, Violation, DEFAULT_WINDOW};
use crate::h2::headers::{self, Decoder, Fields, Kind};
use crate::h2::hpack::LIST_MAX;
use crate::h2::parser::Parser;
use crate::sys::budget::Budget;
use crate::sys::buffer::Out;
use crate::tls::credentials::Proof;
use crate::tls::handshake::Handshake;
use crate::tls::record_layer::Records;
use std::io;
use std::ops::Range;
use std::sync::Arc;

mod outgoing;

/// Of a tunnel. Given back when bytes come, not when an application takes them: so no stream that stalls holds up another
/// one. What waits is bounded by the streams' windows.
pub const TUNNEL_WINDOW: u32 = 16 << 20;
/// Streams that a peer may have open at once, and that we open in one tunnel.
pub const STREAMS_MAX: usize = 1000;
/// What is kept of the memory for events; what more a burst has made is given back.
const EVENTS_KEPT: usize = 64;
/// Id of the last possible stream, with some distance (RFC 9113 section 5.1.1).
const LAST_ID: u32 = (1 << 31) - 1000;

enum Tls {
    Handshake(Box<Handshake>),
    Up(Box<Records>),
    Broken,
}

/// What became of a read: decrypted in place.
pub struct Opened {
    /// Where records begin; the parts lie behind it.
    pub at: usize,
    /// The plaintexts.
    pub parts: Vec<Range<usize>>,
    /// Bytes of complete records, behind `at`; or what is wrong with the next one.
    used: Result<usize, Failure>,
}

/// What a header block is of a stream that is not open.
pub enum Request {
    /// One that has been.
    Closed,
    /// A new one, which is not taken.
    Refused(Refusal),
    New,
}

pub struct Session {
    tls: Tls,
    server: bool,
    /// Once the handshake is complete, until the tunnel takes it.
    peer: Option<(Identity, Proof)>,
    out: Out,
    /// Frames that wait to be sealed; before the handshake is over, all of them.
    control: Vec<u8>,
    /// An incomplete record.
    rest: Vec<u8>,
    /// Plaintext that waits for its turn, and up to where it has been parsed.
    unread: Vec<u8>,
    parsed: usize,
    parser: Parser,
    decoder: Decoder,
    events: Vec<Event>,
    parts: Vec<Range<usize>>,
    sending: Sending,
    receiving: Receiving,
    next_id: u32,
    /// The last stream that the peer asked for.
    last_id: u32,
    refusing: bool,
    goodbye: bool,
    /// Our last words are said.
    closing: bool,
}

impl Session {
    pub fn new(handshake: Handshake, budget: &Arc<Budget>) -> Self {
        let server = handshake.is_server();
        let mut control = Vec::new();
        if !server {
            control.extend_from_slice(frame::PREFACE);
        }
        let streams = server.then_some(STREAMS_MAX as u32);
        frame::put_settings(&mut control, BASE, LIST_MAX as u32, streams);
        frame::put_window(&mut control, 0, TUNNEL_WINDOW - DEFAULT_WINDOW as u32);
        Session {
            tls: Tls::Handshake(Box::new(handshake)),
            server,
            peer: None,
            out: Out::new(budget),
            control,
            rest: Vec::new(),
            unread: Vec::new(),
            parsed: 0,
            parser: Parser::new(server),
            decoder: Decoder::new(),
            events: Vec::new(),
            parts: Vec::new(),
            sending: Sending::default(),
            receiving: Receiving::new(TUNNEL_WINDOW, i64::from(TUNNEL_WINDOW)),
            next_id: 1,
            last_id: 0,
            refusing: false,
            goodbye: false,
            closing: false,
        }
    }

    /// The first message of a client; a server waits for it.
    pub fn begin(&mut self) -> Result<(), Failure> {
        match &mut self.tls {
            Tls::Handshake(handshake) => handshake.advance(&mut [], &mut self.out).map(drop),
            _ => Ok(()),
        }
    }

    /// Who the peer is, when the handshake has become complete.
    pub fn take_peer(&mut self) -> Option<(Identity, Proof)> {
        self.peer.take()
    }

    /// Others have had their turn: there may be work again.
    pub fn begin_turn(&mut self) {
        self.parser.begin_turn();
    }

    /// Enough has been done for the peer in this turn.
    pub fn is_turn_over(&self) -> bool {
        self.parser.is_turn_over()
    }

    /// Something that came waits for the next turn.
    pub fn is_behind(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Decrypts the complete records of what came, and goes on with the handshake before. None when the tunnel is broken.
    ///
    /// A failure leaves in the out buffer what tells the peer of it.
    pub fn open(&mut self, input: &mut [u8]) -> Result<Option<Opened>, Failure> {
        let mut at = 0;
        if let Tls::Handshake(handshake) = &mut self.tls {
            let progress = handshake.advance(input, &mut self.out)?;
            at = progress.used;
            if progress.complete {
                self.establish()?;
            }
        }
        let mut parts = std::mem::take(&mut self.parts);
        let used = match &mut self.tls {
            Tls::Up(records) => records.open(&mut input[at..], &mut parts, &mut self.out),
            Tls::Handshake(_) => Ok(0),
            Tls::Broken => return Ok(None),
        };
        Ok(Some(Opened { at, parts, used }))
    }

    /// Keeps for the next read what is left of this one: plaintext for which the turn has no room (`catch_up` comes first),
    /// and a part of a record. False when the peer has closed.
    pub fn keep(&mut self, input: &[u8], opened: Opened) -> Result<bool, Failure> {
        let Opened { mut parts, used, .. } = opened;
        for part in parts.drain(..) {
            self.unread.extend_from_slice(&input[part]);
        }
        parts.shrink_to(EVENTS_KEPT);
        self.parts = parts;
        self.rest.extend_from_slice(&input[used?..]);
        Ok(!matches!(&self.tls, Tls::Up(records) if records.closed))
    }

    /// What was too much for an earlier turn, and from where on.
    pub fn take_unread(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.unread), std::mem::take(&mut self.parsed))
    }

    /// It is too much again.
    pub fn put_unread(&mut self, unread: Vec<u8>, parsed: usize) {
        (self.unread, self.parsed) = (unread, parsed);
    }

    /// The events in these parts of `plain`, up to a violation. Leaves of the parts that for which the turn has no room.
    /// `heard` is to follow.
    pub fn parse(&mut self, plain: &[u8], parts: &mut [Range<usize>]) -> (Vec<Event>, Result<(), Violation>) {
        let mut events = std::mem::take(&mut self.events);
        let parsed = parts.iter_mut().try_for_each(|part| {
            part.start = self.parser.parse(plain, part.clone(), &mut events)?;
            Ok(())
        });
        (events, parsed)
    }

    /// The events have been dispatched. Tells the peer of a violation, which ends the tunnel.
    pub fn heard(&mut self, mut events: Vec<Event>, result: Result<(), Violation>) -> Result<(), Failure> {
        events.clear();
        events.shrink_to(EVENTS_KEPT);
        self.events = events;
        result.map_err(|violation| {
            frame::put_goaway(&mut self.control, self.last_id, violation.code);
            violation.into()
        })
    }

    /// Leaves rustls for the record layer of our own.
    fn establish(&mut self) -> Result<(), Failure> {
        let Tls::Handshake(handshake) = std::mem::replace(&mut self.tls, Tls::Broken) else { return Ok(()) };
        self.peer = Some(handshake.peer()?);
        self.tls = Tls::Up(Box::new(handshake.into_records()?));
        self.seal_control();
        Ok(())
    }

    /// Bytes came: they count against the tunnel's window, which is given back at once.
    pub fn came(&mut self, n: usize) -> Result<(), Violation> {
        self.receiving.came(n)?;
        let due = self.receiving.give_back(0);
        self.give_back(0, due);
        Ok(())
    }

    /// The peer takes so much more.
    pub fn grow(&mut self, n: u32) -> Result<(), Violation> {
        self.sending.grow(i64::from(n))
    }

    /// A header block; to be called for each, also those of streams that are closed: they share state.
    pub fn decode(&mut self, block: &[u8], kind: Kind) -> Result<Fields, Violation> {
        headers::read(&mut self.decoder, block, kind)
    }

    /// The peer asks for a stream, beside those that are `open`.
    pub fn request(&mut self, id: u32, open: usize) -> Result<Request, Violation> {
        if !self.server && id >= self.next_id {
            return Err(Violation { code: Code::PROTOCOL_ERROR, what: "an answer to no request" });
        }
        if !self.server || id <= self.last_id {
            return Ok(Request::Closed);
        }
        if id % 2 == 0 {
            return Err(Violation { code: Code::PROTOCOL_ERROR, what: "a stream of an even number" });
        }
        self.last_id = id;
        let refusal = match self.refusing {
            true => Refusal::Drained,
            false if open >= STREAMS_MAX => Refusal::TooManyStreams,
            false => return Ok(Request::New),
        };
        frame::put_reset(&mut self.control, id, Code::REFUSED_STREAM);
        Ok(Request::Refused(refusal))
    }

    /// The peer takes no more streams. Whether it speaks of ours.
    pub fn take_goodbye(&mut self) -> bool {
        self.goodbye = true;
        !self.server
    }

    /// The peer has said that it takes no more streams.
    pub fn goodbye(&self) -> bool {
        self.goodbye
    }

    /// Reserved for what did not come.
    pub fn release(&mut self) {
        self.out.release();
    }

    /// How much the peer takes.
    pub fn room(&self) -> usize {
        self.sending.room()
    }

    /// Where to seal in place, behind all that waited. None when the tunnel is not up.
    pub fn sealer(&mut self) -> io::Result<Option<(&mut Out, &mut Records)>> {
        self.seal_control();
        match &mut self.tls {
            Tls::Up(records) => Ok(Some((&mut self.out, records))),
            _ => Ok(None),
        }
    }

    pub fn sent(&mut self, n: usize) {
        self.sending.sent(n);
    }

    pub fn seal_control(&mut self) {
        if let (Tls::Up(records), false) = (&mut self.tls, self.control.is_empty()) {
            if records.seal(&self.control, &mut self.out).is_err() {
                self.tls = Tls::Broken;
            }
            self.control.clear();
        }
    }

    /// Whether an application may be read by more than a record.
    pub fn may_grow(&self) -> bool {
        self.out.may_grow()
    }

    /// The socket is full. False where there is no memory for what waits.
    pub fn stay(&mut self) -> bool {
        self.out.stay()
    }

    /// Whether there may be another stream of ours.
    pub fn has_ids(&self) -> bool {
        self.next_id < LAST_ID && !self.goodbye
    }

    /// Puts what was left of the last read in front of the next one; says how much that is.
    pub fn take_rest(&mut self, input: &mut [u8]) -> usize {
        let n = self.rest.len();
        input[..n].copy_from_slice(&self.rest);
        self.rest = Vec::new();
        n
    }

    pub fn unsent(&self) -> usize {
        self.out.waiting().len()
    }

    pub fn waiting(&self) -> &[u8] {
        self.out.waiting()
    }

    pub fn written(&mut self, n: usize) {
        self.out.sent(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::credentials::testing::{usual, Authority};

    #[test]
    fn what_a_burst_of_events_took_is_given_back() {
        let root = Authority::new("root");
        let credentials = root.credentials("spiffe://cluster.local/ns/demo/sa/server", &root, usual);
        let mut session = Session::new(Handshake::server(&credentials).unwrap(), &Budget::process());
        session.heard(std::iter::repeat_with(|| Event::Acknowledged).take(1000).collect(), Ok(())).unwrap();
        let opened = Opened { at: 0, parts: std::iter::repeat_n(0..0, 1000).collect(), used: Ok(0) };
        session.keep(&[], opened).unwrap();
        assert!(session.events.capacity() <= EVENTS_KEPT && session.parts.capacity() <= EVENTS_KEPT);
    }
}
