//! What the control plane sends: messages, pushes, and on-demand subscriptions.
pub mod proto;
pub mod push;
mod resource;
pub mod subscriptions;
mod version;

pub use resource::Resource;
pub use version::Version;
