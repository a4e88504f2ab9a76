//! Cuts plaintext into events. No I/O.
//!
//! DATA is never copied: its events say where in the caller's buffer it lies. Everything else is small, is collected and
//! becomes an event when it is complete.
use super::frame::{
    violation, Code, Event, Settings, Violation, ACK, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM,
    FRAME_MAX, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, PADDED, PING, PREFACE,
    PRIORITISED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_MAX, WINDOW_UPDATE,
};
use crate::base::sizes::FRAME_HEADER as HEADER;
use std::ops::Range;

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
mod tests;
