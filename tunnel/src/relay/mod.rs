//! Carrying bytes between two ends until both have ended, or one breaks.
mod close_reason;
mod duplex;
mod live;
pub mod pipe;
pub mod thread;

pub use close_reason::CloseReason;
pub use duplex::{broken, Duplex, TcpDuplex};
pub use live::Live;
pub use thread::Thread;
