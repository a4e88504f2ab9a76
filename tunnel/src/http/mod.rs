//! Requests: what a client's node does with HTTP on ports that have something to do at L7. It sees byte streams, a
//! compiled table of routes and the `Node`, never a tunnel, a worker or a pod.
//!
//! A request's way: a codec reads it (`h1`, `h2`), `body` carries what follows its head, `router` normalises it, asks the routes and
//! answers, or has `forward` send it to a host that `upstream` chooses, as often as `retry` allows.
mod answer;
pub mod body;
mod cors;
mod deadline;
mod drain;
mod edge;
mod fields;
mod forward;
pub mod h1;
pub mod h2;
mod hashing;
pub mod io;
pub mod message;
mod mirror;
pub mod node;
pub mod normalize;
mod peer;
mod record;
mod replay;
mod retry;
mod router;
mod serve;
mod server;
pub mod settings;
mod sizes;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod upstream;

pub use body::{Body, BodyError, Frame, Source};
pub use drain::Drain;
pub use io::Io;
pub use message::{Interim, Request, Response, Ticket, Tunnel};
pub use node::{ClientPod, ConnectError, Denied, Downstream, Edge, Endpoint, Endpoints, Flags, Node, Record, Use};
pub use normalize::Normalization;
pub use peer::Peer;
pub use router::{Router, Session};
pub use serve::serve;
pub use server::Server;
pub use settings::Settings;
pub use upstream::{hash, Active, Choice, Cluster, Counted, Host, Outcome};
