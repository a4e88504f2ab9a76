//! The units in which a tunnel carries bytes: every other bound is counted in them.

/// The most plaintext of a TLS record (RFC 8446 section 5.1).
pub const PLAIN_MAX: usize = 16384;
/// The header of an HTTP/2 frame (RFC 9113 section 4.1).
pub const FRAME_HEADER: usize = 9;
/// What is sent in one DATA frame: it and its header fill one TLS record. Below every legal SETTINGS_MAX_FRAME_SIZE.
pub const DATA_MAX: usize = PLAIN_MAX - FRAME_HEADER;
