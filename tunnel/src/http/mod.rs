//! Requests: what a client's node does with HTTP on ports that have something to do at L7. It sees byte streams, a
//! compiled table of routes and the `Node`, never a tunnel, a worker or a pod.
//!
//! A request's way: a codec reads it (`h1`, `h2`), and `body` carries what follows its head.
pub mod body;
mod drain;
pub mod h1;
pub mod io;
pub mod message;
mod server;
pub mod settings;
#[cfg(test)]
mod testing;

pub use body::{Body, BodyError, Frame, Source};
pub use drain::Drain;
pub use io::Io;
pub use message::{Interim, Request, Response, Tunnel};
pub use server::Server;
pub use settings::Settings;
