//! What a network answers to a SYN that nobody takes, as a whole IP packet.
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Why connect() fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// ECONNREFUSED: a reset (RFC 9293 section 3.5.2).
    Port,
    /// EHOSTUNREACH: an ICMP error (RFC 792, RFC 4443), as the next.
    Host,
    /// ENETUNREACH.
    Network,
}

impl From<&io::Error> for Unreachable {
    /// What connect() said to us it says to the application.
    fn from(error: &io::Error) -> Unreachable {
        match error.kind() {
            io::ErrorKind::HostUnreachable => Unreachable::Host,
            io::ErrorKind::NetworkUnreachable => Unreachable::Network,
            _ => Unreachable::Port,
        }
    }
}

/// A SYN, of which an answer has to show that it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Syn {
    pub from: SocketAddr,
    pub at: SocketAddr,
    pub sequence: u32,
}

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const RESET_AND_ACK: u8 = 0x14;
const TTL: u8 = 64;

/// The packet that ends the connect() of `syn`; both its addresses are of one family.
pub fn answer(syn: &Syn, why: Unreachable) -> Vec<u8> {
    let (protocol, code) = match (why, syn.at.is_ipv4()) {
        (Unreachable::Port, _) => return packet(syn.at.ip(), syn.from.ip(), TCP, 16, reset(syn)),
        (Unreachable::Host, true) => (ICMP, [3, 1]),
        (Unreachable::Network, true) => (ICMP, [3, 0]),
        (Unreachable::Host, false) => (ICMP6, [1, 3]),
        (Unreachable::Network, false) => (ICMP6, [1, 0]),
    };
    let mut error = [&code[..], &[0; 6]].concat();
    error.extend(packet(syn.from.ip(), syn.at.ip(), TCP, 16, first_segment(syn)));
    packet(syn.at.ip(), syn.from.ip(), protocol, 2, error)
}

fn reset(syn: &Syn) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(syn.at.port().to_be_bytes());
    segment.extend(syn.from.port().to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(syn.sequence.wrapping_add(1).to_be_bytes());
    segment.extend([5 << 4, RESET_AND_ACK]);
    segment.extend([0; 6]);
    segment
}

/// As much of the SYN as tells whose it is.
fn first_segment(syn: &Syn) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(syn.from.port().to_be_bytes());
    segment.extend(syn.at.port().to_be_bytes());
    segment.extend(syn.sequence.to_be_bytes());
    segment.extend([0; 12]);
    segment
}

/// `payload` has a checksum at `checksum_at`, which is 0 yet. IPv4's own is left to the kernel.
fn packet(from: IpAddr, to: IpAddr, protocol: u8, checksum_at: usize, mut payload: Vec<u8>) -> Vec<u8> {
    let length = payload.len();
    let (from, to, v4) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (from.octets().to_vec(), to.octets().to_vec(), true),
        (from, to) => (v6(from), v6(to), false),
    };
    // ICMP alone, not ICMPv6, is summed up without the addresses.
    let mut summed = match protocol {
        ICMP => vec![],
        _ => [&from[..], &to, &(length as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat(),
    };
    summed.extend(&payload);
    payload[checksum_at..checksum_at + 2].copy_from_slice(&checksum(&summed).to_be_bytes());
    let mut packet = match v4 {
        true => {
            let total = (20 + length as u16).to_be_bytes();
            vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, TTL, protocol, 0, 0]
        }
        false => {
            let length = (length as u16).to_be_bytes();
            vec![0x60, 0, 0, 0, length[0], length[1], protocol, TTL]
        }
    };
    packet.extend([from, to, payload].concat());
    packet
}

fn v6(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(from: &str, at: &str) -> Syn {
        Syn { from: from.parse().unwrap(), at: at.parse().unwrap(), sequence: 0xffff_ffff }
    }

    #[test]
    fn a_reset_acknowledges_the_syn_it_answers() {
        let packet = answer(&syn("127.0.0.1:40000", "127.0.0.1:15003"), Unreachable::Port);
        assert_eq!(packet.len(), 40);
        assert_eq!(packet[20..24], [0x3a, 0x9b, 0x9c, 0x40]);
        assert_eq!(packet[28..34], [0, 0, 0, 0, 0x50, RESET_AND_ACK]); // the number wraps
        let pseudo = [&packet[12..20], &[0, 6, 0, 20], &packet[20..]].concat();
        assert_eq!(checksum(&pseudo), 0);
    }

    #[test]
    fn an_icmp_error_tells_whose_syn_it_answers() {
        let packet = answer(&syn("10.0.0.1:40000", "127.0.0.1:15003"), Unreachable::Host);
        assert_eq!((packet[9], &packet[20..22]), (ICMP, &[3, 1][..]));
        assert_eq!(checksum(&packet[20..]), 0);
        assert_eq!(packet[28 + 12..28 + 20], [10, 0, 0, 1, 127, 0, 0, 1]);
        assert_eq!(packet[48..56], [0x9c, 0x40, 0x3a, 0x9b, 0xff, 0xff, 0xff, 0xff]);
        let packet = answer(&syn("[::1]:40000", "[::1]:15003"), Unreachable::Network);
        assert_eq!((packet[6], &packet[40..42]), (ICMP6, &[1, 0][..]));
        let length = (packet.len() - 40) as u8;
        let pseudo = [&packet[8..40], &[0, 0, 0, length, 0, 0, 0, ICMP6], &packet[40..]].concat();
        assert_eq!(checksum(&pseudo), 0);
    }
}
