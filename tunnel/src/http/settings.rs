//! What an operator may set of it, with Envoy's defaults where it has one.
use super::normalize::Normalization;
use std::time::Duration;

/// Bounds of a message's head and of its trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fields; Envoy's `max_headers_count`. At most `Limits::FIELDS`.
    pub fields: usize,
    /// Bytes; Envoy's `max_request_headers_kb`.
    pub bytes: usize,
}

impl Limits {
    /// More fields than this are never read, whatever is set.
    pub const FIELDS: usize = 1000;
}

impl Default for Limits {
    fn default() -> Self {
        Limits { fields: 100, bytes: 60 << 10 }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub limits: Limits,
    /// How long a client's connection may be without a request; Envoy's `idle_timeout`.
    pub idle: Option<Duration>,
    /// From a request's first byte to the end of its head; Envoy's `request_headers_timeout`, which is off there, too.
    pub head: Option<Duration>,
    /// Bytes of a request's body that are kept for another try or a mirror; Envoy's `per_connection_buffer_limit_bytes`.
    pub replay: usize,
    /// Istio's `meshConfig.pathNormalization`.
    pub normalization: Normalization,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            limits: Limits::default(),
            idle: Some(Duration::from_secs(3600)),
            head: None,
            replay: 1 << 20,
            normalization: Normalization::default(),
        }
    }
}
