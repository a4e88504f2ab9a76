//! What the control plane sends: messages, pushes, and on-demand subscriptions; what it is asked to look for.
pub mod messages;
pub mod proto;
pub mod push;
mod resource;
pub mod subscriptions;
pub mod unknown_keys;
mod version;

pub use resource::Resource;
pub use version::Version;
