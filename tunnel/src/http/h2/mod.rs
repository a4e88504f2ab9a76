//! HTTP/2 (RFC 9113) of applications, over the `h2` crate: `server` serves a client's connection, `client` uses a server's.
mod client;
mod server;
mod stream;

pub use client::{SendError, Upstream};
pub use server::serve;

/// What a client of HTTP/2 with prior knowledge begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that may be on their way: of one stream, and of all of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
