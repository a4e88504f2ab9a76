//! What others may do to a connection while it carries bytes.
use crate::base::Refusal;
use crate::telemetry::ConnectionRecord;
use std::time::Duration;

/// A connection that carries bytes.
pub trait Live {
    /// Ends it; both ends see a reset. `detail` goes to the log, it may be empty.
    fn cancel(&self, why: Refusal, detail: &str);
    /// None before it is known what it is.
    fn record(&self) -> Option<&ConnectionRecord>;
    /// The round trip to the other end or, through a tunnel, to the other node; smoothed.
    fn rtt(&self) -> Option<Duration> {
        None
    }
}
