//! Values that every room uses: who a workload is, where a connection wanted to go, why one was refused. No I/O but the log.
pub mod address;
mod dns_name;
mod failure;
mod identity;
pub mod intern;
pub mod log;
mod original_dst;
mod pod_key;
pub mod refusal;
mod rng;
pub mod sink;
pub mod sizes;
mod slashes;
mod tally;

pub use address::{canonical, Prefix};
pub use dns_name::dns_name;
pub use failure::Failure;
pub use identity::{Identity, NotAnIdentity};
pub use log::error as log_error;
pub use original_dst::OriginalDst;
pub use pod_key::PodKey;
pub use refusal::{Flag, Refusal};
pub use rng::Rng;
pub use slashes::merge_slashes;
pub use tally::{Held, Tally};
