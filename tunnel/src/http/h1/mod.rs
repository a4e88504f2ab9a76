//! HTTP/1.1 (RFC 9112), strictly: what two parsers could read in two ways is refused before anything goes on.
//!
//! `head` reads heads, `framing` says where their bodies end, `chunked` reads chunks, `encode` writes it all;
//! `connection` is one byte stream, `server` its use by a client of ours, `client` our use of a server's.
mod chunked;
mod client;
mod connection;
mod encode;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head;
mod hop;
mod incoming;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientError, Upstream};
pub use framing::has_body;
pub use head::{are_trailers, authority, is_path, named, Refused};
pub use server::{limited, serve};
