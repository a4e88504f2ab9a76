//! What a tunnel knows between two system calls: TLS, HTTP/2 and the streams. No I/O: bytes in, bytes out.
use crate::base::Failure;
use crate::base::Identity;
use crate::base::Refusal;
use crate::h2::flow::{Receiving, Sending, BASE};
use crate::h2::frame::{self, Code, Event, Parser, Settings, Violation, DEFAULT_WINDOW};
use crate::h2::headers::{self, Block, Decoder, Kind};
use crate::h2::hpack::LIST_MAX;
use crate::hbone::link::Link;
use crate::hbone::stream::Stream;
use crate::hbone::tunnel::Tunnel;
use crate::proxy::inbound;
use crate::relay::CloseReason;
use crate::sys::budget::Budget;
use crate::sys::buffer::Out;
use crate::tls::credentials::Proof;
use crate::tls::handshake::Handshake;
use crate::tls::record_layer::Records;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Of a tunnel. Given back when bytes come, not when an application takes them: so no stream that stalls holds up another
/// one. What waits is bounded by the streams' windows.
const TUNNEL_WINDOW: u32 = 16 << 20;
/// Streams that a peer may have open at once, and that we open in one tunnel.
pub const STREAMS_MAX: usize = 1000;
/// Streams that we open before the peer has said how many it takes.
const STREAMS_UNTOLD: usize = 100;
/// Parts of one write to an application.
const PARTS: usize = 32;
/// What is kept of the memory for events, and for streams; what more a burst has made is given back.
const EVENTS_KEPT: usize = 64;
const LINKS_KEPT: usize = 16;
/// Id of the last possible stream, with some distance (RFC 9113 section 5.1.1).
const LAST_ID: u32 = (1 << 31) - 1000;

enum Tls {
    Handshake(Box<Handshake>),
    Up(Box<Records>),
    CloseReason,
}

/// Stream ids count up by two: multiplying spreads them well enough.
#[derive(Default)]
struct IdHash(u64);

impl Hasher for IdHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
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
    links: HashMap<u32, Link, BuildHasherDefault<IdHash>>,
    blocked: Vec<Rc<Stream>>,
    sending: Sending,
    receiving: Receiving,
    /// The windows of a new stream: what the peer gives it, and what the peer believes that we do.
    initial_window: i64,
    own_window: i64,
    streams_max: usize,
    told_settings: bool,
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
            links: HashMap::default(),
            blocked: Vec::new(),
            sending: Sending::default(),
            receiving: Receiving::new(TUNNEL_WINDOW, i64::from(TUNNEL_WINDOW)),
            initial_window: DEFAULT_WINDOW,
            own_window: DEFAULT_WINDOW,
            streams_max: STREAMS_UNTOLD,
            told_settings: false,
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

    /// Takes what came: records, frames, events. False when the peer has closed. What is too much for this turn is kept:
    /// `catch_up` is called before anything more is received.
    ///
    /// A failure leaves in the out buffer what tells the peer of it.
    pub fn receive(&mut self, tunnel: &Rc<Tunnel>, input: &mut [u8]) -> Result<bool, Failure> {
        let mut at = 0;
        if let Tls::Handshake(handshake) = &mut self.tls {
            let progress = handshake.advance(input, &mut self.out)?;
            at = progress.used;
            if progress.complete {
                self.establish()?;
            }
        }
        let input = &mut input[at..];
        let used = match &mut self.tls {
            Tls::Up(records) => {
                let mut parts = std::mem::take(&mut self.parts);
                let opened = records.open(input, &mut parts, &mut self.out);
                let heard = self.hear(tunnel, input, &mut parts);
                for part in parts.drain(..) {
                    self.unread.extend_from_slice(&input[part]);
                }
                parts.shrink_to(EVENTS_KEPT);
                self.parts = parts;
                heard?;
                opened?
            }
            Tls::Handshake(_) => 0,
            Tls::CloseReason => return Ok(false),
        };
        self.rest.extend_from_slice(&input[used..]);
        Ok(!matches!(&self.tls, Tls::Up(records) if records.closed))
    }

    /// Goes on with what was too much for an earlier turn.
    pub fn catch_up(&mut self, tunnel: &Rc<Tunnel>) -> Result<(), Failure> {
        let unread = std::mem::take(&mut self.unread);
        let mut part = std::mem::take(&mut self.parsed)..unread.len();
        self.hear(tunnel, &unread, std::slice::from_mut(&mut part))?;
        if !part.is_empty() {
            (self.unread, self.parsed) = (unread, part.start);
        }
        Ok(())
    }

    /// Dispatches the frames in these parts of `plain`. Leaves of the parts that for which the turn has no room.
    fn hear(&mut self, tunnel: &Rc<Tunnel>, plain: &[u8], parts: &mut [Range<usize>]) -> Result<(), Failure> {
        let mut events = std::mem::take(&mut self.events);
        let parsed = parts.iter_mut().try_for_each(|part| {
            part.start = self.parser.parse(plain, part.clone(), &mut events)?;
            Ok(())
        });
        let dispatched = self.dispatch(tunnel, &mut events, plain);
        events.shrink_to(EVENTS_KEPT);
        self.events = events;
        self.told(parsed.and(dispatched))
    }

    /// Leaves rustls for the record layer of our own.
    fn establish(&mut self) -> Result<(), Failure> {
        let Tls::Handshake(handshake) = std::mem::replace(&mut self.tls, Tls::CloseReason) else { return Ok(()) };
        self.peer = Some(handshake.peer()?);
        self.tls = Tls::Up(Box::new(handshake.into_records()?));
        self.seal_control();
        Ok(())
    }

    /// Tells the peer of a violation, which ends the tunnel.
    fn told(&mut self, result: Result<(), Violation>) -> Result<(), Failure> {
        result.map_err(|violation| {
            frame::put_goaway(&mut self.control, self.last_id, violation.code);
            violation.into()
        })
    }

    fn dispatch(&mut self, tunnel: &Rc<Tunnel>, events: &mut Vec<Event>, plain: &[u8]) -> Result<(), Violation> {
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
                    self.data(id, &parts[..n], total)?;
                }
                Event::Padding(id, n) => {
                    self.came(id, n)?;
                    self.taken(id, n);
                }
                Event::End(id) => {
                    if let Some(link) = self.links.get(&id) {
                        link.stream.finish();
                    }
                }
                Event::Headers { id, block, end } => self.headers(tunnel, id, &block, end)?,
                Event::Reset(id, code) => self.reset(id, code),
                Event::Window(0, n) => {
                    self.sending.grow(i64::from(n))?;
                    wake_all(&mut self.blocked);
                }
                Event::Window(id, n) => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.sending.grow(i64::from(n))?;
                        link.stream.wake();
                    }
                }
                Event::Settings(settings) => self.settings(&settings)?,
                Event::Acknowledged => self.acknowledged(),
                Event::Ping(payload) => frame::put_ping(&mut self.control, payload, true),
                Event::Pong(_) => {}
                Event::GoAway(last, _) => self.go_away(last),
            }
        }
        Ok(())
    }

    fn data(&mut self, id: u32, parts: &[IoSlice], total: usize) -> Result<(), Violation> {
        self.came(id, total)?;
        let due = self.links.get_mut(&id).and_then(|link| link.deliver(parts, total));
        self.give_back(id, due);
        Ok(())
    }

    /// Bytes came: they count against both windows. The tunnel's is given back at once.
    fn came(&mut self, id: u32, n: usize) -> Result<(), Violation> {
        self.receiving.came(n)?;
        let due = self.receiving.give_back(0);
        self.give_back(0, due);
        self.links.get_mut(&id).map_or(Ok(()), |link| link.came(n))
    }

    fn give_back(&mut self, id: u32, due: Option<u32>) {
        if let Some(due) = due {
            frame::put_window(&mut self.control, id, due);
        }
    }

    fn headers(&mut self, tunnel: &Rc<Tunnel>, id: u32, block: &[u8], end: bool) -> Result<(), Violation> {
        let kind = self.links.get(&id).map_or(Kind::Request, Link::expects);
        let fields = headers::read(&mut self.decoder, block, kind)?; // always: blocks share state
        if let Some(link) = self.links.get_mut(&id) {
            link.headers(&fields, end);
            return Ok(());
        }
        if !self.server && id >= self.next_id {
            return Err(Violation { code: Code::PROTOCOL_ERROR, what: "an answer to no request" });
        }
        if !self.server || id <= self.last_id {
            return Ok(()); // of a stream that is closed here
        }
        if id % 2 == 0 {
            return Err(Violation { code: Code::PROTOCOL_ERROR, what: "a stream of an even number" });
        }
        self.last_id = id;
        if self.refusing || self.links.len() >= STREAMS_MAX {
            frame::put_reset(&mut self.control, id, Code::REFUSED_STREAM);
            tunnel.refused(if self.refusing { Refusal::Drained } else { Refusal::TooManyStreams });
            return Ok(());
        }
        // A peer that resets what it has just asked for does not make the work undone.
        if tunnel.tasks() > 2 * STREAMS_MAX {
            return Err(Violation { code: Code::ENHANCE_YOUR_CALM, what: "streams reset faster than they are served" });
        }
        let stream = self.insert(tunnel, id);
        if end {
            stream.finish();
        }
        tokio::task::spawn_local(inbound::serve(stream, fields));
        Ok(())
    }

    fn insert(&mut self, tunnel: &Rc<Tunnel>, id: u32) -> Rc<Stream> {
        let stream = Stream::new(tunnel, id);
        let windows = (self.initial_window, self.own_window);
        let link = Link::new(stream.clone(), self.server, windows);
        self.links.insert(id, link);
        stream
    }

    fn reset(&mut self, id: u32, code: Code) {
        let Some(link) = self.links.get(&id) else { return };
        match code {
            Code::NO_ERROR => link.stream.finish(), // RFC 9113 section 8.1: all has been said
            code => link.stream.fail(CloseReason::Reset(code)),
        }
    }

    fn settings(&mut self, settings: &Settings) -> Result<(), Violation> {
        if let Some(window) = settings.window {
            let change = i64::from(window) - self.initial_window;
            self.initial_window = i64::from(window);
            for link in self.links.values_mut() {
                link.sending.grow(change)?;
                link.stream.wake();
            }
        }
        // Without a word about it there is no limit (section 6.5.2); what is not named again stays as it is.
        match settings.streams {
            Some(streams) => self.streams_max = STREAMS_MAX.min(streams as usize),
            None if !self.told_settings => self.streams_max = STREAMS_MAX,
            None => {}
        }
        self.told_settings = true;
        frame::put_settings_ack(&mut self.control);
        Ok(())
    }

    /// From now on the peer gives new streams the window that we announced, and has given it to the others.
    fn acknowledged(&mut self) {
        let change = i64::from(BASE) - std::mem::replace(&mut self.own_window, i64::from(BASE));
        self.links.values_mut().for_each(|link| link.adjust(change));
    }

    /// The peer takes no more streams; those after `last` it has not looked at.
    fn go_away(&mut self, last: u32) {
        self.goodbye = true;
        if !self.server {
            for (id, link) in &self.links {
                if *id > last {
                    link.stream.fail(CloseReason::Reset(Code::REFUSED_STREAM));
                }
            }
        }
    }

    /// The peer has said that it takes no more streams.
    pub fn goodbye(&self) -> bool {
        self.goodbye
    }

    /// `early` goes with the request if the windows have room for it.
    pub fn open(&mut self, tunnel: &Rc<Tunnel>, request: &Block, early: &[u8]) -> (Rc<Stream>, usize) {
        let id = self.next_id;
        self.next_id += 2;
        frame::put_headers(&mut self.control, id, &request.0, false);
        let stream = self.insert(tunnel, id);
        let room = self.sending.room().min(usize::try_from(self.initial_window).unwrap_or(0));
        if early.is_empty() || early.len() > room {
            return (stream, 0);
        }
        frame::put_data(&mut self.control, id, early);
        self.sent(id, early.len());
        (stream, early.len())
    }

    pub fn respond(&mut self, id: u32, block: &Block, end: bool) {
        if self.links.contains_key(&id) {
            frame::put_headers(&mut self.control, id, &block.0, end);
        }
    }

    pub fn end_stream(&mut self, id: u32) {
        if self.links.contains_key(&id) {
            frame::put_end(&mut self.control, id);
        }
        self.out.release();
    }

    /// An application has taken `n` bytes that waited for it.
    pub fn taken(&mut self, id: u32, n: usize) {
        let due = self.links.get_mut(&id).and_then(|link| link.taken(n));
        self.give_back(id, due);
    }

    /// To be called every few seconds: streams at rest give back what they do not need.
    pub fn look(&mut self) {
        self.links.values_mut().for_each(Link::look);
    }

    /// A stream is over. With a code, the peer is told that it broke.
    pub fn close(&mut self, id: u32, broken: Option<Code>) -> Option<Rc<Stream>> {
        let link = self.links.remove(&id)?;
        if let Some(code) = broken {
            frame::put_reset(&mut self.control, id, code);
        }
        if self.links.is_empty() {
            self.links.shrink_to(LINKS_KEPT);
        }
        Some(link.stream)
    }

    /// How much of a stream may be sealed now. At 0 the stream is woken when that changes.
    pub fn room(&mut self, stream: &Rc<Stream>, high: usize) -> usize {
        let Some(link) = self.links.get(&stream.id) else { return 0 };
        if self.out.waiting().len() > high || self.sending.room() == 0 {
            if !self.blocked.iter().any(|blocked| Rc::ptr_eq(blocked, stream)) {
                self.blocked.push(stream.clone());
            }
            return 0;
        }
        link.sending.room().min(self.sending.room())
    }

    /// Where to seal in place, behind all that waited. None when the tunnel is not up.
    pub fn sealer(&mut self) -> io::Result<Option<(&mut Out, &mut Records)>> {
        self.seal_control();
        match &mut self.tls {
            Tls::Up(records) => Ok(Some((&mut self.out, records))),
            _ => Ok(None),
        }
    }

    pub fn sent(&mut self, id: u32, n: usize) {
        self.sending.sent(n);
        if let Some(link) = self.links.get_mut(&id) {
            link.sending.sent(n);
        }
    }

    pub fn seal_control(&mut self) {
        if let (Tls::Up(records), false) = (&mut self.tls, self.control.is_empty()) {
            if records.seal(&self.control, &mut self.out).is_err() {
                self.tls = Tls::CloseReason;
            }
            self.control.clear();
        }
    }

    pub fn ping(&mut self) {
        frame::put_ping(&mut self.control, *b"warren??", false);
    }

    /// Says that no more streams are taken.
    pub fn refuse_more(&mut self) {
        self.refusing = true;
        if self.server {
            frame::put_goaway(&mut self.control, self.last_id, Code::NO_ERROR);
        }
    }

    /// The last words of a tunnel that ends in order.
    pub fn say_goodbye(&mut self) {
        self.seal_control();
        if let (Tls::Up(records), false) = (&mut self.tls, std::mem::replace(&mut self.closing, true)) {
            let _ = records.close(&mut self.out); // it ends in any case
        }
    }

    /// The last words of one that the peer has to know a reason for.
    pub fn alert(&mut self, alert: u8) {
        if let Tls::Up(records) = &mut self.tls {
            let _ = records.fail(alert, &mut self.out); // it ends in any case
        }
    }

    /// The tunnel is over; gives back the streams that it had.
    pub fn end(&mut self) -> Vec<Rc<Stream>> {
        self.blocked.clear();
        self.links.drain().map(|(_, link)| link.stream).collect()
    }

    /// The peer gives the tunnel no window: streams wait for others to be read.
    pub fn is_stalled(&self) -> bool {
        self.sending.room() == 0
    }

    /// Whether an application may be read by more than a record.
    pub fn may_grow(&self) -> bool {
        self.out.may_grow()
    }

    /// The socket is full. False where there is no memory for what waits.
    pub fn stay(&mut self) -> bool {
        self.out.stay()
    }

    pub fn unblock(&mut self, low: usize) {
        if self.out.waiting().len() <= low && self.sending.room() > 0 {
            wake_all(&mut self.blocked);
        }
    }

    pub fn streams(&self) -> usize {
        self.links.len()
    }

    pub fn is_idle(&self) -> bool {
        self.links.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.links.len() < self.streams_max && self.next_id < LAST_ID && !self.goodbye
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

fn wake_all(blocked: &mut Vec<Rc<Stream>>) {
    for stream in blocked.drain(..) {
        stream.wake();
    }
}

#[cfg(test)]
mod tests;
