//! Where a connection goes: pure functions of the mesh and what the connection asks for. Doing is elsewhere.

mod authority;
mod direct;
mod inbound;
mod needed;
mod outbound;

use std::net::{IpAddr, SocketAddr};

pub use authority::Authority;
pub use direct::{direct, Direct};
pub use inbound::{inbound, inbound_plain, ConnectRequest, Inbound};
pub use needed::{address_name, needed, Needed};
pub use outbound::{leave, outbound, Outbound, Plain, Route};

use crate::mesh::canonical;

/// Where applications' outgoing connections are captured.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where plain connections to a pod are captured.
pub const INBOUND_PLAIN_PORT: u16 = 15006;
/// What applications connect to while nobody knows whether the other end accepts.
pub const PENDING_PORT: u16 = 15003;
/// Where tunnels end.
pub const HBONE_PORT: u16 = 15008;

/// fd29:fca8:b7bf::/64, of bpf/constants.h: what asks for IPv6 is redirected there.
const REDIRECT_PREFIX: [u16; 4] = [0xfd29, 0xfca8, 0xb7bf, 0];

/// The address that an application asked for, canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginalDst(SocketAddr);

impl OriginalDst {
    pub fn new(address: SocketAddr) -> OriginalDst {
        OriginalDst(canonical(address))
    }

    pub fn address(self) -> SocketAddr {
        self.0
    }

    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    pub fn port(self) -> u16 {
        self.0.port()
    }

    /// Whether it never leaves the pod: loopback, or the prefix that the redirection has put beside it.
    pub fn is_loopback(self) -> bool {
        match self.ip() {
            IpAddr::V6(ip) if ip.segments()[..4] == REDIRECT_PREFIX => true,
            ip => ip.is_loopback(),
        }
    }
}

/// Whether a connection to this port would come back to the tunnel itself.
fn is_own_port(port: u16) -> bool {
    matches!(port, OUTBOUND_PORT | PENDING_PORT | INBOUND_PLAIN_PORT | HBONE_PORT)
}

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;
