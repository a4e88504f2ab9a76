//! Carrying bytes between two ends until both have ended, or one breaks.
mod close_reason;
mod live;
pub mod pipe;

pub use close_reason::CloseReason;
pub use live::Live;
