//! Frames as a tunnel writes them, and what it reads of a peer's: the part of HTTP/2 that a tunnel needs (RFC 9113).
use crate::base::sizes::{DATA_MAX, FRAME_HEADER as HEADER};
use crate::base::{Failure, Refusal};
use std::{fmt, ops::Range};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The window of a new stream and of the connection before anybody speaks (RFC 9113 section 6.9.2).
pub const DEFAULT_WINDOW: i64 = 65_535;
pub const WINDOW_MAX: i64 = (1 << 31) - 1;
/// What we accept in one frame; DATA is consumed as it comes, so a large frame costs no memory.
pub(super) const FRAME_MAX: usize = 1 << 20;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITISED: u8 = 0x20;

pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;

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

pub(super) fn violation<T>(code: Code, what: &'static str) -> Result<T, Violation> {
    Err(Violation { code, what })
}

pub(super) fn header(len: usize, kind: u8, flags: u8, id: u32) -> [u8; HEADER] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [d, e, f, g] = id.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, body: &[u8]) {
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
