//! Where an application wanted to go.
use super::canonical;
use std::net::{IpAddr, SocketAddr};

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
