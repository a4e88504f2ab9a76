//! The two tours: from an application into a tunnel, and from a tunnel to the application.
pub mod caller;
pub mod inbound;
pub mod outbound;
