//! What a connection may ask of the node that it is on: its pod, the mesh, policies, credentials.
mod context;
mod limits;
mod lookups;
mod pod;
mod pods;
mod served;
mod shared;

pub use context::Context;
pub use limits::{Limits, Permit};
pub use lookups::Lookups;
pub use pod::{Listed, Pod};
pub use pods::Pods;
pub use shared::{CredentialsByIdentity, Shared};
