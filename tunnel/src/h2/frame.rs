//! The part of HTTP/2 that a tunnel needs (RFC 9113): frames out, events in. No I/O.
//!
//! DATA is never copied: its events say where in the caller's buffer it lies. Everything else is small, is collected and
//! becomes an event when it is complete.
use crate::base::sizes::{DATA_MAX, FRAME_HEADER as HEADER};
use crate::base::{Failure, Refusal};
use std::{fmt, ops::Range};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The window of a new stream and of the connection before anybody speaks (RFC 9113 section 6.9.2).
pub const DEFAULT_WINDOW: i64 = 65_535;
pub const WINDOW_MAX: i64 = (1 << 31) - 1;
/// What we accept in one frame; DATA is consumed as it comes, so a large frame costs no memory.
const FRAME_MAX: usize = 1 << 20;
/// A header block with its continuations, compressed; as much again may wait in a peer's SETTINGS.
const BLOCK_MAX: usize = 32 << 10;
/// Frames of one header block: no peer cuts it into small pieces, but it may.
const CONTINUATIONS_MAX: u32 = 512;
/// SETTINGS, PING and the like.
const CONTROL_MAX: usize = 16 << 10;

/// What may be done at a time before others have their turn, counted in frames like PING: about half a millisecond.
pub const TURN: usize = 256;
/// A header block costs as much as these, and another one for each 64 bytes: the requests of a turn are served at once.
const BLOCK_COST: usize = 8;
const BLOCK_UNIT: usize = 64;
/// SETTINGS and GOAWAY concern all streams.
const ALL_STREAMS_COST: usize = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITISED: u8 = 0x20;

const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Error codes (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub const NO_ERROR: Code = Code(0);
    pub const PROTOCOL_ERROR: Code = Code(1);
    pub const INTERNAL_ERROR: Code = Code(2);
    pub const FLOW_CONTROL_ERROR: Code = Code(3);
    pub const STREAM_CLOSED: Code = Code(5);
    pub const FRAME_SIZE_ERROR: Code = Code(6);
    pub const REFUSED_STREAM: Code = Code(7);
    pub const CANCEL: Code = Code(8);
    pub const COMPRESSION_ERROR: Code = Code(9);
    /// A TCP error at the far end of a CONNECT (section 8.5).
    pub const CONNECT_ERROR: Code = Code(10);
    pub const ENHANCE_YOUR_CALM: Code = Code(11);
}

/// Breaks the connection, or a stream: told to the peer in GOAWAY or RST_STREAM.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub code: Code,
    pub what: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "HTTP/2 violation by the peer: {} (error {})", self.what, self.code.0)
    }
}

impl std::error::Error for Violation {}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Failure { refusal: Refusal::H2Handshake, detail: violation.to_string() }
    }
}

fn violation<T>(code: Code, what: &'static str) -> Result<T, Violation> {
    Err(Violation { code, what })
}

fn header(len: usize, kind: u8, flags: u8, id: u32) -> [u8; HEADER] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [d, e, f, g] = id.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

fn put(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, body: &[u8]) {
    out.extend_from_slice(&header(body.len(), kind, flags, id));
    out.extend_from_slice(body);
}

/// The header of a DATA frame of `len` bytes, at most `DATA_MAX`.
pub fn data_header(len: usize, id: u32) -> [u8; HEADER] {
    header(len, DATA, 0, id)
}

/// A DATA frame of at most `DATA_MAX` bytes.
pub fn put_data(out: &mut Vec<u8>, id: u32, data: &[u8]) {
    debug_assert!(data.len() <= DATA_MAX);
    put(out, DATA, 0, id, data);
}

pub fn put_end(out: &mut Vec<u8>, id: u32) {
    put(out, DATA, END_STREAM, id, &[]);
}

/// A header block of at most `DATA_MAX` bytes.
pub fn put_headers(out: &mut Vec<u8>, id: u32, block: &[u8], end_stream: bool) {
    debug_assert!(block.len() <= DATA_MAX);
    put(out, HEADERS, END_HEADERS | if end_stream { END_STREAM } else { 0 }, id, block);
}

/// What each side says first. `streams` is None on the client, which is never sent any.
pub fn put_settings(out: &mut Vec<u8>, window: u32, header_list: u32, streams: Option<u32>) {
    let mut body = Vec::with_capacity(24);
    let mut set = |name: u16, value: u32| {
        body.extend_from_slice(&name.to_be_bytes());
        body.extend_from_slice(&value.to_be_bytes());
    };
    match streams {
        Some(streams) => set(MAX_CONCURRENT_STREAMS, streams),
        None => set(ENABLE_PUSH, 0),
    }
    set(INITIAL_WINDOW_SIZE, window);
    set(MAX_FRAME_SIZE, FRAME_MAX as u32);
    set(MAX_HEADER_LIST_SIZE, header_list);
    put(out, SETTINGS, 0, 0, &body);
}

pub fn put_settings_ack(out: &mut Vec<u8>) {
    put(out, SETTINGS, ACK, 0, &[]);
}

/// `n` is 1 to 2^31-1; stream 0 is the connection.
pub fn put_window(out: &mut Vec<u8>, id: u32, n: u32) {
    put(out, WINDOW_UPDATE, 0, id, &n.to_be_bytes());
}

pub fn put_reset(out: &mut Vec<u8>, id: u32, code: Code) {
    put(out, RST_STREAM, 0, id, &code.0.to_be_bytes());
}

pub fn put_ping(out: &mut Vec<u8>, payload: [u8; 8], ack: bool) {
    put(out, PING, if ack { ACK } else { 0 }, 0, &payload);
}

pub fn put_goaway(out: &mut Vec<u8>, last: u32, code: Code) {
    let mut body = [0; 8];
    body[..4].copy_from_slice(&last.to_be_bytes());
    body[4..].copy_from_slice(&code.0.to_be_bytes());
    put(out, GOAWAY, 0, 0, &body);
}

/// What a peer's SETTINGS say that matters to a tunnel.
#[derive(Debug, Default, PartialEq)]
pub struct Settings {
    pub window: Option<u32>,
    pub streams: Option<u32>,
}

#[derive(Debug, PartialEq)]
pub enum Event {
    /// A complete header block, still compressed.
    Headers {
        id: u32,
        block: Vec<u8>,
        end: bool,
    },
    /// A part of a DATA frame: where it lies in the buffer that was parsed.
    Data(u32, Range<usize>),
    /// Bytes that count against the windows and carry nothing.
    Padding(u32, usize),
    End(u32),
    Reset(u32, Code),
    /// More room to send; stream 0 is the connection.
    Window(u32, u32),
    Settings(Settings),
    /// The peer has taken over what our own SETTINGS say.
    Acknowledged,
    Ping([u8; 8]),
    Pong([u8; 8]),
    GoAway(u32, Code),
}

/// Cuts plaintext into events; keeps what a record left incomplete.
pub struct Parser {
    /// Bytes of the client's preface still expected.
    preface: usize,
    greeted: bool,
    head: [u8; HEADER],
    have: usize,
    /// Of the current frame's payload, without the trailing padding.
    left: usize,
    padding: usize,
    /// The first byte of the payload, the padding's length, has not come yet.
    pad_unknown: bool,
    body: Vec<u8>,
    /// A header block whose continuation is due.
    block: Option<Block>,
    /// What events have cost since `begin_turn`.
    cost: usize,
}

/// A header block that is not complete.
struct Block {
    id: u32,
    end: bool,
    bytes: Vec<u8>,
    continuations: u32,
}

impl Parser {
    pub fn new(server: bool) -> Self {
        Parser {
            preface: if server { PREFACE.len() } else { 0 },
            greeted: false,
            head: [0; HEADER],
            have: 0,
            left: 0,
            padding: 0,
            pad_unknown: false,
            body: Vec::new(),
            block: None,
            cost: 0,
        }
    }

    pub fn begin_turn(&mut self) {
        self.cost = 0;
    }

    /// What the turn may cost is used up.
    pub fn is_turn_over(&self) -> bool {
        self.cost >= TURN
    }

    /// Parses `buf[part]` and appends to `events`, until the turn is over. Gives the place up to which it came.
    pub fn parse(&mut self, buf: &[u8], part: Range<usize>, events: &mut Vec<Event>) -> Result<usize, Violation> {
        let mut at = part.start;
        while self.preface > 0 && at < part.end {
            if buf[at] != PREFACE[PREFACE.len() - self.preface] {
                return violation(Code::PROTOCOL_ERROR, "no HTTP/2 preface");
            }
            self.preface -= 1;
            at += 1;
        }
        while !self.is_turn_over() {
            if self.have < HEADER {
                let n = (HEADER - self.have).min(part.end - at);
                self.head[self.have..self.have + n].copy_from_slice(&buf[at..at + n]);
                self.have += n;
                at += n;
                if self.have < HEADER {
                    break;
                }
                self.begin()?;
            }
            if self.pad_unknown {
                let Some(&pad) = buf[at..part.end].first() else { break };
                at += 1;
                self.pad_unknown = false;
                self.padding = usize::from(pad);
                if self.left < 1 + self.padding {
                    return violation(Code::PROTOCOL_ERROR, "padding longer than its frame");
                }
                self.left -= 1 + self.padding;
                events.push(Event::Padding(self.id(), 1 + self.padding));
            }
            let n = self.left.min(part.end - at);
            if self.kind() != DATA {
                self.body.extend_from_slice(&buf[at..at + n]);
            } else if n > 0 {
                events.push(Event::Data(self.id(), at..at + n));
                self.cost += 1;
            }
            at += n;
            self.left -= n;
            if self.left > 0 {
                break;
            }
            let n = self.padding.min(part.end - at);
            at += n;
            self.padding -= n;
            if self.padding > 0 {
                break;
            }
            self.have = 0;
            self.finish(events)?;
        }
        Ok(at)
    }

    fn kind(&self) -> u8 {
        self.head[3]
    }

    fn flag(&self, flag: u8) -> bool {
        self.head[4] & flag != 0
    }

    fn id(&self) -> u32 {
        u32::from_be_bytes([self.head[5] & 0x7f, self.head[6], self.head[7], self.head[8]])
    }

    /// A frame's header is complete: may the frame come, and is it of a legal size?
    fn begin(&mut self) -> Result<(), Violation> {
        self.left = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
        self.body.clear();
        let (kind, id) = (self.kind(), self.id());
        if !self.greeted && (kind != SETTINGS || self.flag(ACK)) {
            return violation(Code::PROTOCOL_ERROR, "the first frame is not SETTINGS");
        }
        self.greeted = true;
        if let Some(block) = &self.block {
            if kind != CONTINUATION || id != block.id {
                return violation(Code::PROTOCOL_ERROR, "a header block is interrupted");
            }
        }
        let on_stream = match kind {
            DATA | HEADERS | PRIORITY | RST_STREAM | CONTINUATION => Some(true),
            SETTINGS | PING | GOAWAY => Some(false),
            _ => None,
        };
        if on_stream.is_some_and(|on_stream| on_stream != (id != 0)) {
            return violation(Code::PROTOCOL_ERROR, "a frame on a stream where it may not be");
        }
        let (least, most) = match kind {
            DATA => (0, FRAME_MAX),
            HEADERS | CONTINUATION => (0, BLOCK_MAX),
            PRIORITY => (5, 5),
            RST_STREAM | WINDOW_UPDATE => (4, 4),
            PING => (8, 8),
            GOAWAY => (8, CONTROL_MAX),
            _ => (0, CONTROL_MAX),
        };
        if !(least..=most).contains(&self.left) {
            return violation(Code::FRAME_SIZE_ERROR, "a frame of a wrong size");
        }
        self.pad_unknown = kind == DATA && self.flag(PADDED);
        if self.pad_unknown && self.left == 0 {
            return violation(Code::FRAME_SIZE_ERROR, "a padded frame without its padding's length");
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Violation> {
        let id = self.id();
        let word = |body: &[u8]| u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
        self.cost += match self.kind() {
            SETTINGS | GOAWAY => ALL_STREAMS_COST,
            _ => 1,
        };
        match self.kind() {
            DATA if self.flag(END_STREAM) => events.push(Event::End(id)),
            HEADERS => {
                let bytes = self.block_fragment()?;
                self.block = Some(Block { id, end: self.flag(END_STREAM), bytes, continuations: 0 });
                self.finish_block(events);
            }
            CONTINUATION => {
                let Some(block) = &mut self.block else {
                    return violation(Code::PROTOCOL_ERROR, "CONTINUATION of nothing");
                };
                block.continuations += 1;
                if block.continuations > CONTINUATIONS_MAX {
                    return violation(Code::ENHANCE_YOUR_CALM, "a header block in too many frames");
                }
                if block.bytes.len() + self.body.len() > BLOCK_MAX {
                    return violation(Code::ENHANCE_YOUR_CALM, "a header block too long");
                }
                block.bytes.extend_from_slice(&self.body);
                self.finish_block(events);
            }
            RST_STREAM => events.push(Event::Reset(id, Code(word(&self.body)))),
            SETTINGS if self.flag(ACK) => events.push(Event::Acknowledged),
            SETTINGS => events.push(Event::Settings(self.settings()?)),
            PUSH_PROMISE => return violation(Code::PROTOCOL_ERROR, "PUSH_PROMISE"),
            PING => {
                let payload = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| self.body[i]);
                events.push(if self.flag(ACK) { Event::Pong(payload) } else { Event::Ping(payload) });
            }
            GOAWAY => events.push(Event::GoAway(word(&self.body) & 0x7fff_ffff, Code(word(&self.body[4..])))),
            WINDOW_UPDATE => match word(&self.body) & 0x7fff_ffff {
                0 if id == 0 => return violation(Code::PROTOCOL_ERROR, "a window update of nothing"),
                0 => events.push(Event::Reset(id, Code::PROTOCOL_ERROR)),
                n => events.push(Event::Window(id, n)),
            },
            _ => {}
        }
        if self.body.capacity() > 256 {
            self.body = Vec::new();
        }
        Ok(())
    }

    fn finish_block(&mut self, events: &mut Vec<Event>) {
        if self.flag(END_HEADERS) {
            if let Some(Block { id, end, bytes, .. }) = self.block.take() {
                self.cost += BLOCK_COST + bytes.len() / BLOCK_UNIT;
                events.push(Event::Headers { id, block: bytes, end });
            }
        }
    }

    /// HEADERS without padding and priority.
    fn block_fragment(&self) -> Result<Vec<u8>, Violation> {
        let mut body = &self.body[..];
        if self.flag(PADDED) {
            let Some((&pad, rest)) = body.split_first() else {
                return violation(Code::FRAME_SIZE_ERROR, "a padded frame without its padding's length");
            };
            let Some(len) = rest.len().checked_sub(usize::from(pad)) else {
                return violation(Code::PROTOCOL_ERROR, "padding longer than its frame");
            };
            body = &rest[..len];
        }
        if self.flag(PRIORITISED) {
            let Some(rest) = body.get(5..) else {
                return violation(Code::FRAME_SIZE_ERROR, "HEADERS without their priority");
            };
            body = rest;
        }
        Ok(body.to_vec())
    }

    fn settings(&self) -> Result<Settings, Violation> {
        let mut settings = Settings::default();
        if self.body.len() % 6 != 0 {
            return violation(Code::FRAME_SIZE_ERROR, "SETTINGS of a wrong size");
        }
        for entry in self.body.chunks_exact(6) {
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_MAX => {
                    return violation(Code::FLOW_CONTROL_ERROR, "an initial window above 2^31-1");
                }
                MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                    return violation(Code::PROTOCOL_ERROR, "a frame size out of range");
                }
                ENABLE_PUSH if value > 1 => return violation(Code::PROTOCOL_ERROR, "ENABLE_PUSH is not 0 or 1"),
                INITIAL_WINDOW_SIZE => settings.window = Some(value),
                MAX_CONCURRENT_STREAMS => settings.streams = Some(value),
                _ => {}
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses all of `buf[part]`, in as many turns as it takes.
    fn parse(parser: &mut Parser, buf: &[u8], part: Range<usize>, events: &mut Vec<Event>) -> Result<(), Violation> {
        let mut at = part.start;
        while at < part.end {
            parser.begin_turn();
            at = parser.parse(buf, at..part.end, events)?;
        }
        Ok(())
    }

    /// Parses in pieces of every size, which must make no difference but for where DATA is cut.
    fn events(server: bool, bytes: &[u8]) -> Result<Vec<Event>, Violation> {
        let whole = {
            let (mut parser, mut events) = (Parser::new(server), Vec::new());
            parse(&mut parser, bytes, 0..bytes.len(), &mut events).map(|()| events)
        };
        for size in 1..bytes.len().min(40) {
            let (mut parser, mut events, mut result) = (Parser::new(server), Vec::new(), Ok(()));
            for start in (0..bytes.len()).step_by(size) {
                result = parse(&mut parser, bytes, start..(start + size).min(bytes.len()), &mut events);
                if result.is_err() {
                    break;
                }
            }
            let joined = result.map(|()| join(events));
            assert_eq!(
                joined,
                whole.as_ref().map(|e| join(e.iter().map(copy).collect())).map_err(|v| Violation { ..*v })
            );
        }
        whole
    }

    fn copy(event: &Event) -> Event {
        match event {
            Event::Headers { id, block, end } => Event::Headers { id: *id, block: block.clone(), end: *end },
            Event::Data(id, range) => Event::Data(*id, range.clone()),
            Event::Padding(id, n) => Event::Padding(*id, *n),
            Event::End(id) => Event::End(*id),
            Event::Reset(id, code) => Event::Reset(*id, *code),
            Event::Window(id, n) => Event::Window(*id, *n),
            Event::Settings(s) => Event::Settings(Settings { ..*s }),
            Event::Acknowledged => Event::Acknowledged,
            Event::Ping(p) => Event::Ping(*p),
            Event::Pong(p) => Event::Pong(*p),
            Event::GoAway(id, code) => Event::GoAway(*id, *code),
        }
    }

    fn join(events: Vec<Event>) -> Vec<Event> {
        let mut joined: Vec<Event> = Vec::new();
        for event in events {
            match (joined.last_mut(), event) {
                (Some(Event::Data(a, first)), Event::Data(b, next)) if *a == b && first.end == next.start => {
                    first.end = next.end;
                }
                (_, event) => joined.push(event),
            }
        }
        joined
    }

    fn greeting() -> Vec<u8> {
        let mut out = Vec::new();
        put_settings(&mut out, 1 << 20, 16_384, None);
        out
    }

    fn raw(kind: u8, flags: u8, id: u32, body: &[u8]) -> Vec<u8> {
        let mut out = greeting();
        put(&mut out, kind, flags, id, body);
        out
    }

    fn last(bytes: &[u8]) -> Event {
        events(false, bytes).unwrap().pop().unwrap()
    }

    fn refused(bytes: &[u8]) -> Code {
        events(false, bytes).unwrap_err().code
    }

    #[test]
    fn what_is_put_is_parsed() {
        let mut out = PREFACE.to_vec();
        put_settings(&mut out, 4 << 20, 65_536, Some(200));
        put_headers(&mut out, 1, b"block", false);
        let start = out.len() + HEADER;
        out.extend_from_slice(&data_header(3, 1));
        out.extend_from_slice(b"abc");
        put_end(&mut out, 1);
        put_window(&mut out, 0, 7);
        put_reset(&mut out, 3, Code::CONNECT_ERROR);
        put_ping(&mut out, *b"12345678", false);
        put_ping(&mut out, *b"12345678", true);
        put_settings_ack(&mut out);
        put_goaway(&mut out, 5, Code::NO_ERROR);
        assert_eq!(
            events(true, &out).unwrap(),
            [
                Event::Settings(Settings { window: Some(4 << 20), streams: Some(200) }),
                Event::Headers { id: 1, block: b"block".to_vec(), end: false },
                Event::Data(1, start..start + 3),
                Event::End(1),
                Event::Window(0, 7),
                Event::Reset(3, Code::CONNECT_ERROR),
                Event::Ping(*b"12345678"),
                Event::Pong(*b"12345678"),
                Event::Acknowledged,
                Event::GoAway(5, Code::NO_ERROR),
            ]
        );
    }

    #[test]
    fn padding_priority_and_continuation_are_understood() {
        let data = raw(DATA, PADDED | END_STREAM, 1, &[2, b'x', b'y', b'z', 0, 0]);
        let start = data.len() - 5;
        let mut all = events(false, &data).unwrap();
        all.remove(0);
        assert_eq!(all, [Event::Padding(1, 3), Event::Data(1, start..start + 3), Event::End(1)]);
        let mut split = raw(HEADERS, PADDED | PRIORITISED | END_STREAM, 1, &[1, 0, 0, 0, 0, 9, b'a', b'b', 0]);
        put(&mut split, CONTINUATION, END_HEADERS, 1, b"cd");
        assert_eq!(last(&split), Event::Headers { id: 1, block: b"abcd".to_vec(), end: true });
        assert_eq!(last(&raw(0x77, 0xff, 1, b"an unknown frame")), last(&greeting()));
    }

    #[test]
    fn violations_are_named_by_their_code() {
        assert_eq!(events(true, b"GET / HTTP/1.1\r\n\r\n").unwrap_err().code, Code::PROTOCOL_ERROR);
        let mut early = Vec::new();
        put_ping(&mut early, [0; 8], false);
        assert_eq!(refused(&early), Code::PROTOCOL_ERROR);
        assert_eq!(refused(&raw(DATA, 0, 0, b"x")), Code::PROTOCOL_ERROR);
        assert_eq!(refused(&raw(PING, 0, 1, &[0; 8])), Code::PROTOCOL_ERROR);
        assert_eq!(refused(&raw(PING, 0, 0, &[0; 7])), Code::FRAME_SIZE_ERROR);
        assert_eq!(refused(&raw(SETTINGS, 0, 0, &[0; 7])), Code::FRAME_SIZE_ERROR);
        assert_eq!(refused(&raw(SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0])), Code::FLOW_CONTROL_ERROR);
        assert_eq!(refused(&raw(DATA, PADDED, 1, &[9, 0])), Code::PROTOCOL_ERROR);
        assert_eq!(refused(&raw(PUSH_PROMISE, 0, 1, &[0; 4])), Code::PROTOCOL_ERROR);
        assert_eq!(refused(&raw(WINDOW_UPDATE, 0, 0, &[0; 4])), Code::PROTOCOL_ERROR);
        assert_eq!(refused(&raw(CONTINUATION, 0, 1, b"x")), Code::PROTOCOL_ERROR);
        let mut interrupted = raw(HEADERS, 0, 1, b"x");
        put_ping(&mut interrupted, [0; 8], false);
        assert_eq!(refused(&interrupted), Code::PROTOCOL_ERROR);
        let mut long = greeting();
        long.extend_from_slice(&header(BLOCK_MAX + 1, HEADERS, END_HEADERS, 1));
        assert_eq!(refused(&long), Code::FRAME_SIZE_ERROR);
    }

    #[test]
    fn a_header_block_is_bounded_in_frames_and_in_bytes() {
        let continued = |times: u32, body: &[u8]| {
            let mut bytes = raw(HEADERS, 0, 1, b"x");
            (0..times).for_each(|_| put(&mut bytes, CONTINUATION, 0, 1, body));
            let whole = 0..bytes.len();
            parse(&mut Parser::new(false), &bytes, whole, &mut Vec::new()).map_err(|violation| violation.code)
        };
        assert_eq!(continued(CONTINUATIONS_MAX, b""), Ok(()));
        assert_eq!(continued(CONTINUATIONS_MAX + 1, b""), Err(Code::ENHANCE_YOUR_CALM));
        assert_eq!(continued(4, &[0; 8_000]), Ok(()));
        assert_eq!(continued(5, &[0; 8_000]), Err(Code::ENHANCE_YOUR_CALM));
    }

    /// How many of these frames are parsed in one turn.
    fn in_a_turn(frame: &[u8]) -> usize {
        let (mut parser, mut events) = (Parser::new(false), Vec::new());
        let greeting = greeting();
        parser.parse(&greeting, 0..greeting.len(), &mut events).unwrap();
        parser.begin_turn();
        let flood = frame.repeat(10 * TURN);
        parser.parse(&flood, 0..flood.len(), &mut events).unwrap() / frame.len()
    }

    /// Whatever a peer sends, and however much of it: the work of a turn is bounded. DATA of the usual size is not held up.
    #[test]
    fn a_turn_is_over_after_so_much_work() {
        let frame = |kind: u8, flags: u8, body: &[u8]| {
            let mut out = Vec::new();
            put(&mut out, kind, flags, if matches!(kind, SETTINGS | PING | GOAWAY) { 0 } else { 1 }, body);
            out
        };
        for (frame, times) in [
            (frame(PING, 0, &[0; 8]), TURN),
            (frame(RST_STREAM, 0, &[0; 4]), TURN),
            (frame(PRIORITY, 0, &[0; 5]), TURN),
            (frame(0x77, 0, &[]), TURN),
            (frame(DATA, 0, &[]), TURN),
            (frame(DATA, 0, &[0]), TURN / 2),
            (frame(DATA, PADDED, &[1, 0, 0]), TURN / 2),
            (frame(SETTINGS, 0, &[]), TURN / ALL_STREAMS_COST),
            (frame(GOAWAY, 0, &[0; 8]), TURN / ALL_STREAMS_COST),
            (frame(HEADERS, END_HEADERS, &[0x82]), TURN.div_ceil(BLOCK_COST + 1)),
            (frame(HEADERS, END_HEADERS, &[0; BLOCK_MAX / 2]), 1),
        ] {
            assert_eq!(in_a_turn(&frame), times, "frames of kind {}", frame[3]);
        }
    }
}
