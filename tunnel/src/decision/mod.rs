//! Where a connection goes: pure functions of the mesh and what the connection asks for. Doing is elsewhere.

mod authority;
mod direct;
mod inbound;
mod named;
mod needed;
mod outbound;
mod routed;

pub use authority::Authority;
pub use direct::{direct, Direct};
pub use inbound::{inbound, inbound_local, inbound_plain, ConnectRequest, Inbound};
pub use named::{named, Said};
pub use needed::{address_name, needed, Needed};
pub use outbound::{leave, outbound, to_endpoint, Outbound, Plain, Route, Target, Way};
pub use routed::{by_rules, Governed, Hello, Routed};

/// Where applications' outgoing connections are captured.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where plain connections to a pod are captured.
pub const INBOUND_PLAIN_PORT: u16 = 15006;
/// What applications connect to while nobody knows whether the other end accepts.
pub const PENDING_PORT: u16 = 15003;
/// Where tunnels end.
pub const HBONE_PORT: u16 = 15008;

/// Whether a connection to this port would come back to the tunnel itself.
fn is_own_port(port: u16) -> bool {
    matches!(port, OUTBOUND_PORT | PENDING_PORT | INBOUND_PLAIN_PORT | HBONE_PORT)
}

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;
