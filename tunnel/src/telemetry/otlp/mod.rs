//! What OpenTelemetry's collectors get: spans and log records, encoded where they are made and waiting to be fetched.
mod attributes;
mod log;
mod outbox;
mod proto;
mod span;

pub use log::{connection_log, request_log};
pub use outbox::{Batch, Item, Outbox, Signal};
pub use span::{of_connection, of_request};
use std::time::SystemTime;

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
