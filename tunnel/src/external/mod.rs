//! Services that are asked about requests, by protocols of Envoy's: what they are told, and what their answers mean.

pub mod authorization;
mod grpc;
pub mod http_authorization;
mod proto;
pub mod rate_limit;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// Bytes of an answer's body; a longer one is none.
pub const LONGEST: usize = 64 << 10;

/// An answer, whole.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

/// What an authorizer says.
#[derive(Debug)]
pub enum Answer {
    /// The request goes on, and its answer gets these fields.
    Allowed(HeaderMap),
    Denied {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    },
}
