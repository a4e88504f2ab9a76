//! Destinations as a pod's requests use them: `cluster` is one of them, `host` one endpoint of it with its connections.
//! `balance` chooses among hosts (`ring` and `maglev` by a hash), `outlier` takes failing ones out, `breaker` limits all.
mod balance;
mod breaker;
mod cluster;
mod hash;
mod host;
mod levels;
mod maglev;
mod outlier;
mod pool;
mod ring;
#[cfg(test)]
mod tests;

pub use breaker::Counted;
pub use cluster::{Choice, Cluster};
pub use hash::hash;
pub use host::{Active, Host, Outcome};
pub use pool::PoolError;
