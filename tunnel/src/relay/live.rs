//! What others may do to a connection while it carries bytes.
use crate::base::Refusal;
use crate::telemetry::ConnectionRecord;

/// A connection that carries bytes.
pub trait Live {
    /// Ends it; both ends see a reset. `detail` goes to the log, it may be empty.
    fn cancel(&self, why: Refusal, detail: &str);
    /// None before it is known what it is.
    fn record(&self) -> Option<&ConnectionRecord>;
}
