//! The structs of bpf/maps.h, bpf/events.h and bpf/pending.h that are written and read here. A test holds them against the BTF of the
//! programs.
use crate::sys::bpf::Plain;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// IPv6, or IPv4 in its v4-mapped form; in network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Address {
    pub word: [u32; 4],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Endpoint {
    pub address: Address,
    /// In network order.
    pub port: u16,
    pub zero: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FourTuple {
    pub from: Endpoint,
    pub to: Endpoint,
}

/// The netns cookie of a pod, and what an application in it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Pair {
    pub netns: u64,
    pub to: Endpoint,
    pub zero: u32,
}

/// The netns cookie of a pod, and the application's end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Source {
    pub netns: u64,
    pub from: Endpoint,
    /// The other end, to which it was redirected.
    pub at: Endpoint,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Allowance {
    pub generation: u64,
    pub netns: u64,
    pub to: Endpoint,
    pub from: Address,
    pub zero: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Announcement {
    pub connection: FourTuple,
    pub pair: Pair,
    /// Nanoseconds since the machine started.
    pub since: u64,
    pub kind: u32,
    pub established: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Event {
    pub socket: u64,
    pub pair: Pair,
    pub connection: FourTuple,
    /// Nanoseconds since the machine started.
    pub since: u64,
    pub time: u64,
    /// Bytes.
    pub sent: u64,
    pub received: u64,
    /// Microseconds.
    pub rtt: u32,
    /// Segments.
    pub retransmits: u32,
    pub kind: u32,
    pub established: u32,
    pub reset: u32,
    pub seen: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct PendingEvent {
    pub socket: u64,
    pub netns: u64,
    pub from: Endpoint,
    pub at: Endpoint,
    pub to: Endpoint,
    pub sequence: u32,
    pub kind: u32,
    pub zero: u32,
}

// SAFETY: integers only; the test below finds no padding.
unsafe impl Plain for Endpoint {}
// SAFETY: as above.
unsafe impl Plain for Source {}
// SAFETY: as above.
unsafe impl Plain for Pair {}
// SAFETY: as above.
unsafe impl Plain for Allowance {}
// SAFETY: as above.
unsafe impl Plain for Announcement {}
// SAFETY: as above.
unsafe impl Plain for Event {}
// SAFETY: as above.
unsafe impl Plain for PendingEvent {}

pub const ANNOUNCED_DIRECT: u32 = 2;
pub const PENDING_BEGINS: u32 = 1;
pub const EVENT_OPENED: u32 = 1;
pub const EVENT_CLOSED: u32 = 2;
pub const EVENT_UNSEEN: u32 = 3;

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        let octets = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let word = |at: usize| u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        Address { word: [word(0), word(4), word(8), word(12)] }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint { address: address.ip().into(), port: address.port().to_be(), zero: 0 }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> SocketAddr {
        let mut octets = [0; 16];
        for (part, word) in octets.chunks_exact_mut(4).zip(endpoint.address.word) {
            part.copy_from_slice(&word.to_ne_bytes());
        }
        SocketAddr::new(IpAddr::from(Ipv6Addr::from(octets)).to_canonical(), u16::from_be(endpoint.port))
    }
}

impl Pair {
    pub fn new(netns: u64, to: SocketAddr) -> Pair {
        Pair { netns, to: to.into(), zero: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashMap;
    use std::mem::offset_of;
    use std::process::Command;

    /// The types of the programs, by bpftool.
    fn btf() -> Vec<Value> {
        let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpf/redirect.bpf.o");
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        let mut bpftool = Command::new("bpftool");
        let output = bpftool.args(["-j", "btf", "dump", "file", object]).env("PATH", path).output().unwrap();
        let mut parsed: Value = serde_json::from_slice(&output.stdout).expect("make setup builds the programs");
        serde_json::from_value(parsed["types"].take()).unwrap()
    }

    fn named<'a>(types: &'a [Value], kind: &str, name: &str) -> &'a Value {
        types.iter().find(|one| one["kind"] == kind && one["name"] == name).expect(name)
    }

    fn check(types: &[Value], name: &str, size: usize, offsets: &[(&str, usize)]) {
        let found = named(types, "STRUCT", name);
        let member =
            |one: &Value| (one["name"].as_str().unwrap().to_owned(), one["bits_offset"].as_u64().unwrap() as usize / 8);
        let theirs: HashMap<_, _> = found["members"].as_array().unwrap().iter().map(member).collect();
        let ours: HashMap<_, _> = offsets.iter().map(|(name, offset)| ((*name).to_owned(), *offset)).collect();
        assert_eq!((&theirs, found["size"].as_u64().unwrap() as usize), (&ours, size), "struct {name}");
    }

    macro_rules! check {
        ($types:expr, $name:literal, $type:ident { $($field:ident),* }) => {
            check($types, $name, size_of::<$type>(), &[$((stringify!($field), offset_of!($type, $field))),*])
        };
    }

    #[test]
    fn structs_are_those_of_the_programs() {
        let types = &btf();
        check!(types, "address", Address { word });
        check!(types, "endpoint", Endpoint { address, port, zero });
        check!(types, "connection", FourTuple { from, to });
        check!(types, "pair", Pair { netns, to, zero });
        check!(types, "source", Source { netns, from, at });
        check!(types, "allowance", Allowance { generation, netns, to, from, zero });
        check!(types, "announcement", Announcement { connection, pair, since, kind, established });
        check!(types, "pending_event", PendingEvent { socket, netns, from, at, to, sequence, kind, zero });
        check!(
            types,
            "event",
            Event {
                socket,
                pair,
                connection,
                since,
                time,
                sent,
                received,
                rtt,
                retransmits,
                kind,
                established,
                reset,
                seen
            }
        );
    }

    #[test]
    fn numbers_are_those_of_the_programs() {
        let types = &btf();
        let values = |name: &str| -> HashMap<String, u64> {
            let values = named(types, "ENUM", name)["values"].as_array().unwrap().clone();
            values.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one["val"].as_u64().unwrap())).collect()
        };
        assert_eq!(values("announced")["ANNOUNCED_DIRECT"], u64::from(ANNOUNCED_DIRECT));
        assert_eq!(values("pending_kind")["PENDING_BEGINS"], u64::from(PENDING_BEGINS));
        for (name, number) in
            [("EVENT_OPENED", EVENT_OPENED), ("EVENT_CLOSED", EVENT_CLOSED), ("EVENT_UNSEEN", EVENT_UNSEEN)]
        {
            assert_eq!(values("event_kind")[name], u64::from(number), "{name}");
        }
    }

    #[test]
    fn addresses_go_there_and_back() {
        for text in ["10.0.0.1:80", "[fd00::1]:65535", "127.0.0.1:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(Endpoint::from(address)), address);
        }
        let mapped = Endpoint::from("10.0.0.1:80".parse::<SocketAddr>().unwrap());
        assert_eq!(mapped, Endpoint::from("[::ffff:10.0.0.1]:80".parse::<SocketAddr>().unwrap()));
    }
}
