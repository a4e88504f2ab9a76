//! The `:authority` of a CONNECT request.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::base::{canonical, Refusal};

/// An address and port, or a service's host name and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    Address(SocketAddr),
    Host { name: Box<str>, port: u16 },
}

impl Authority {
    /// Takes `10.0.0.1:80`, `[fd00::1]:80` (no zone) and `reviews.default.svc.cluster.local:80`; the port is 1 to 65535.
    pub fn parse(text: &[u8]) -> Result<Authority, Refusal> {
        Self::parse_text(text).ok_or(Refusal::BadAuthority)
    }

    fn parse_text(text: &[u8]) -> Option<Authority> {
        let (host, port) = std::str::from_utf8(text).ok()?.rsplit_once(':')?;
        let digits = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0)?;
        if let Some(v6) = host.strip_prefix('[') {
            let ip: std::net::Ipv6Addr = v6.strip_suffix(']')?.parse().ok()?;
            return Some(Authority::Address(canonical((ip, port).into())));
        }
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => Some(Authority::Address((ip, port).into())),
            Ok(IpAddr::V6(_)) => None,
            Err(_) => is_host(host).then(|| Authority::Host { name: host.into(), port }),
        }
    }
}

/// Whether it is a DNS name: labels of letters, digits, `-` and `_`. A last label of digits only would be an address
/// that is badly written.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    let numeric = |label: &str| label.bytes().all(|c| c.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(numeric)
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authority::Address(address) => address.fmt(f),
            Authority::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_printed_as_it_was_read() {
        for text in ["10.0.0.1:80", "[fd00::1]:8080", "reviews.default.svc.cluster.local:65535", "localhost:1"] {
            assert_eq!(Authority::parse(text.as_bytes()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_mapped_address_is_v4() {
        let read = Authority::parse(b"[::ffff:10.0.0.1]:80").unwrap();
        assert_eq!(read, Authority::Address("10.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn nothing_else_is_an_authority() {
        for text in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:+80",
            "host:65536",
            "host:http",
            "10.0.0.1",
            "10.0.0.256:80",
            "10.0.0:80",
            "fd00::1:80",
            "[fd00::1]",
            "[fd00::1:80",
            "[fe80::1%eth0]:80",
            "[10.0.0.1]:80",
            "[]:80",
            "user@host:80",
            "ho st:80",
            "a..b:80",
            "host.:80",
            "http://host:80",
            "host/path:80",
            "h\u{f6}st:80",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Err(Refusal::BadAuthority), "{text:?}");
        }
        assert_eq!(Authority::parse(b"\xff:80"), Err(Refusal::BadAuthority));
    }
}
