//! The PROXY protocol's header (HAProxy's proxy-protocol.txt, sections 2.1 and 2.2): read of who comes through a load balancer,
//! and written for destinations whose policy asks for it.
use crate::routes::ProxyProtocol;
use rustix::net::RecvFlags;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::Interest;
use tokio::net::TcpStream;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 1, with its line's end.
const LINE_MAX: usize = 107;
/// Bytes of a header of version 2 before its addresses, and all that are looked at: a load balancer's TLVs need less.
const FIXED: usize = 16;
const LARGEST: usize = 4 << 10;

/// Takes the header off a connection, and gives the client that it names; None in it: the peer itself is meant. None: it
/// does not begin with one.
pub async fn read(sock: &TcpStream) -> Option<Option<SocketAddr>> {
    let mut seen = vec![0; LARGEST];
    let look = || {
        let (n, _) = rustix::net::recv(sock, &mut seen[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        match Head::read(&seen[..n]) {
            Head::Whole(length, client) => {
                rustix::net::recv(sock, &mut seen[..length], RecvFlags::DONTWAIT)?;
                Ok(client)
            }
            // Until there is more: of the same bytes the poller tells once.
            Head::Partial if n > 0 => Err(ErrorKind::WouldBlock.into()),
            Head::Partial | Head::Other => Err(io::Error::from(ErrorKind::InvalidData)),
        }
    };
    sock.async_io(Interest::READABLE, look).await.ok()
}

/// The beginning of what a peer says.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// It is not whole yet.
    Partial,
    /// Its length, and the client that it names.
    Whole(usize, Option<SocketAddr>),
    /// It is something else.
    Other,
}

impl Head {
    fn read(beginning: &[u8]) -> Head {
        let is_of = |start: &[u8]| beginning.iter().zip(start).all(|(one, other)| one == other);
        match () {
            () if is_of(SIGNATURE) => Head::binary(beginning),
            () if is_of(b"PROXY ") => Head::line(beginning),
            () => Head::Other,
        }
    }

    fn line(beginning: &[u8]) -> Head {
        let Some(end) = beginning.windows(2).take(LINE_MAX - 1).position(|two| two == b"\r\n") else {
            return if beginning.len() < LINE_MAX { Head::Partial } else { Head::Other };
        };
        match std::str::from_utf8(&beginning[..end]).ok().and_then(client_of) {
            Some(client) => Head::Whole(end + 2, client),
            None => Head::Other,
        }
    }

    fn binary(beginning: &[u8]) -> Head {
        let Some((head, rest)) = beginning.split_at_checked(FIXED) else { return Head::Partial };
        let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
        let (command, family) = (head[12], head[13]);
        let needed = match (command, family) {
            (0x20, _) | (0x21, 0) => 0,
            (0x21, 0x11) => 12,
            (0x21, 0x21) => 36,
            _ => return Head::Other, // not of TCP, or of a version that we do not know
        };
        if length < needed || FIXED + length > LARGEST {
            return Head::Other;
        }
        match rest.get(..length) {
            None => Head::Partial,
            Some(addresses) => Head::Whole(FIXED + length, source(&addresses[..needed])),
        }
    }
}

/// Who is named in a line without its end; None: it is none.
fn client_of(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let mut address = || {
        let ip = words.next()?;
        match family {
            "TCP4" => ip.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => ip.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let (client, _) = (address()?, address()?);
    let mut port = || words.next().filter(|port| !port.starts_with('0') || *port == "0")?.parse().ok();
    let (client_port, _): (u16, u16) = (port()?, port()?);
    words.next().is_none().then(|| Some(SocketAddr::new(client.to_canonical(), client_port)))
}

/// Of the addresses of a family: both addresses, then both ports.
fn source(addresses: &[u8]) -> Option<SocketAddr> {
    let ip = match addresses.len() {
        12 => IpAddr::from(<[u8; 4]>::try_from(addresses.get(..4)?).ok()?),
        36 => IpAddr::from(<[u8; 16]>::try_from(addresses.get(..16)?).ok()?),
        _ => return None,
    };
    let port = addresses.get(addresses.len() - 4..)?.first_chunk().copied()?;
    Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(port)))
}

/// What we say of a client.
pub fn head(version: ProxyProtocol, client: SocketAddr, to: SocketAddr) -> Vec<u8> {
    match (version, client.ip().to_canonical(), to.ip().to_canonical()) {
        (ProxyProtocol::V1, IpAddr::V4(from), IpAddr::V4(ip)) => {
            format!("PROXY TCP4 {from} {ip} {} {}\r\n", client.port(), to.port()).into()
        }
        (ProxyProtocol::V1, IpAddr::V6(from), IpAddr::V6(ip)) => {
            format!("PROXY TCP6 {from} {ip} {} {}\r\n", client.port(), to.port()).into()
        }
        (ProxyProtocol::V1, ..) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyProtocol::V2, from, ip) => {
            let (family, mut addresses) = match (from, ip) {
                (IpAddr::V4(from), IpAddr::V4(ip)) => (0x11, [from.octets(), ip.octets()].concat()),
                (IpAddr::V6(from), IpAddr::V6(ip)) => (0x21, [from.octets(), ip.octets()].concat()),
                _ => (0, vec![]),
            };
            if family != 0 {
                addresses.extend([client.port().to_be_bytes(), to.port().to_be_bytes()].concat());
            }
            let mut head = [&SIGNATURE[..], b"\x21"].concat();
            head.push(family);
            head.extend((addresses.len() as u16).to_be_bytes());
            head.extend(addresses);
            head
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: ProxyProtocol, client: &str, to: &str) -> Vec<u8> {
        head(version, client.parse().unwrap(), to.parse().unwrap())
    }

    #[test]
    fn the_proxy_protocol_tells_both_ends() {
        assert_eq!(
            written(ProxyProtocol::V1, "10.0.0.1:4711", "10.0.0.2:80"),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 4711 80\r\n"
        );
        assert_eq!(written(ProxyProtocol::V1, "[fd00::1]:1", "[fd00::2]:2"), b"PROXY TCP6 fd00::1 fd00::2 1 2\r\n");
        assert_eq!(written(ProxyProtocol::V1, "10.0.0.1:1", "[fd00::2]:2"), b"PROXY UNKNOWN\r\n");
        let v4 = written(ProxyProtocol::V2, "10.0.0.1:258", "10.0.0.2:80");
        assert_eq!(v4, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x01\x02\0\x50");
        let v6 = written(ProxyProtocol::V2, "[fd00::1]:1", "[fd00::2]:2");
        assert_eq!((v6.len(), &v6[12..16]), (52, &b"\x21\x21\0\x24"[..]));
        assert_eq!(written(ProxyProtocol::V2, "10.0.0.1:1", "[fd00::2]:2")[12..], *b"\x21\0\0\0");
    }

    #[test]
    fn what_is_written_is_read() {
        for (version, client, to) in [
            (ProxyProtocol::V1, "10.0.0.1:4711", "10.0.0.2:80"),
            (ProxyProtocol::V1, "[fd00::1]:1", "[fd00::2]:2"),
            (ProxyProtocol::V2, "10.0.0.1:258", "10.0.0.2:80"),
            (ProxyProtocol::V2, "[fd00::1]:1", "[fd00::2]:2"),
        ] {
            let written = written(version, client, to);
            let whole = Head::Whole(written.len(), Some(client.parse().unwrap()));
            for n in 1..written.len() {
                assert_eq!(Head::read(&written[..n]), Head::Partial, "{n} bytes");
            }
            assert_eq!(Head::read(&[&written[..], b"GET / HTTP/1.1\r\n"].concat()), whole);
        }
    }

    #[test]
    fn what_names_no_client_leaves_the_peer() {
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x03\x04\0\0".to_vec(); // with a TLV
        for head in [b"PROXY UNKNOWN\r\n".to_vec(), b"PROXY UNKNOWN a b 1 2\r\n".to_vec(), local] {
            assert_eq!(Head::read(&head), Head::Whole(head.len(), None));
        }
    }

    #[test]
    fn what_is_no_head_is_known_at_once() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 100]].concat();
        let cases: [&[u8]; 10] = [
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n",
            b"PROXY TCP4 fd00::1 10.0.0.2 1 2\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 65536\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 01 2\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n",
            b"PROXY TCP7 a b 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0bxxxxxxxxxxx",
            &long,
        ];
        for head in cases {
            assert_eq!(Head::read(head), Head::Other, "{}", String::from_utf8_lossy(head));
        }
        assert_eq!(Head::read(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"), Head::Other, "64 KiB");
    }
}
