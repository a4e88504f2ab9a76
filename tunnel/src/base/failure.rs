//! The error of the byte path.
use super::Refusal;
use std::{fmt, io};

/// Why there is no tunnel: a name for the counters, and what TLS says of it for the log.
#[derive(Clone, Debug)]
pub struct Failure {
    pub refusal: Refusal,
    pub detail: String,
}

impl Failure {
    /// Of what a panic has ended.
    pub fn internal() -> Failure {
        Failure { refusal: Refusal::InternalError, detail: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure { refusal: Refusal::TunnelLost, detail: error.to_string() }
    }
}

impl std::error::Error for Failure {}
