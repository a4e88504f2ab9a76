//! Addresses in their one form: an IPv4 address that arrives mapped into IPv6 is an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The one form of a socket address: v4-mapped becomes v4, flow label and scope are dropped.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An address from the wire: 4 or 16 bytes in network order.
pub fn from_bytes(bytes: &[u8]) -> Result<IpAddr, String> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        Ok(Ipv4Addr::from(octets).into())
    } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
    } else {
        Err(format!("an address has {} bytes, not 4 or 16", bytes.len()))
    }
}

/// An address on a network: addresses of different networks may be equal and have nothing to do with each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkAddress {
    pub network: Arc<str>,
    pub ip: IpAddr,
}

/// All addresses that share their first `length` bits with `first`. The other bits of `first` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    pub first: IpAddr,
    pub length: u8,
}

impl Prefix {
    /// `length`: 0 to 32 for IPv4, 0 to 128 for IPv6 (of the bytes as they were sent).
    pub fn new(bytes: &[u8], length: u32) -> Result<Prefix, String> {
        let ip = from_bytes(bytes)?;
        let sent = bytes.len() * 8;
        let width = bits(&ip);
        // The prefix of a mapped address was counted in 128 bits.
        let length = usize::try_from(length).ok().filter(|length| *length <= sent && length + width >= sent);
        let length = length.ok_or_else(|| format!("a prefix of {ip} is out of range"))? + width - sent;
        let length = u8::try_from(length).map_err(|_| format!("a prefix of {ip} is out of range"))?;
        Ok(Prefix { first: masked(ip, length), length })
    }

    /// Whether it holds one address only.
    pub fn is_single(&self) -> bool {
        usize::from(self.length) == bits(&self.first)
    }

    /// The prefix of this length in which an address lies; `None` when the length is of the other family.
    pub fn around(ip: IpAddr, length: u8) -> Option<Prefix> {
        (usize::from(length) <= bits(&ip)).then(|| Prefix { first: masked(ip, length), length })
    }
}

fn bits(ip: &IpAddr) -> usize {
    if ip.is_ipv4() {
        32
    } else {
        128
    }
}

fn masked(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_v4() {
        let mapped: Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(from_bytes(&mapped.octets()).unwrap(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(from_bytes(&[10, 0, 0, 1]).unwrap(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(canonical("[::ffff:10.0.0.1]:80".parse().unwrap()), "10.0.0.1:80".parse().unwrap());
        assert_eq!(canonical("[fe80::1%3]:80".parse().unwrap()), "[fe80::1]:80".parse().unwrap());
    }

    #[test]
    fn other_lengths_are_not_addresses() {
        for bytes in [0, 3, 5, 15, 17] {
            assert!(from_bytes(&vec![0; bytes]).is_err());
        }
    }

    #[test]
    fn prefixes_are_masked_and_checked() {
        let prefix = |bytes: &[u8], length| Prefix::new(bytes, length);
        let v4 = prefix(&[10, 1, 2, 3], 16).unwrap();
        assert_eq!((v4.first, v4.length), (IpAddr::from([10, 1, 0, 0]), 16));
        assert_eq!(prefix(&[10, 1, 2, 3], 0).unwrap().first, IpAddr::from([0, 0, 0, 0]));
        assert!(prefix(&[10, 1, 2, 3], 32).unwrap().is_single());
        assert!(prefix(&[10, 1, 2, 3], 33).is_err());
        let mapped: Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(prefix(&mapped.octets(), 112).unwrap(), v4);
        assert!(prefix(&mapped.octets(), 95).is_err());
        let v6: Ipv6Addr = "fd00:1:2::3".parse().unwrap();
        assert_eq!(prefix(&v6.octets(), 48).unwrap().first, "fd00:1:2::".parse::<IpAddr>().unwrap());
        assert!(prefix(&v6.octets(), 129).is_err());
        assert!(Prefix::around(IpAddr::from([10, 1, 2, 3]), 64).is_none());
    }
}
