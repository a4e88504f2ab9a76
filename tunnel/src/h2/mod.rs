//! The part of HTTP/2 that a tunnel needs (RFC 9113, RFC 7541): bytes in, events out, and back. No I/O.
pub mod flow;
pub mod frame;
pub mod headers; // for the program in benches/
pub mod hpack;
pub mod parser;
