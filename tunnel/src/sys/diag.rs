//! Sockets of a pod that are not ours: looked at and destroyed by sock_diag(7).
use crate::sys::netns::NetNs;
use rustix::net::{netlink, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;

const BY_FAMILY: u16 = 20; // SOCK_DIAG_BY_FAMILY
const DESTROY: u16 = 21; // SOCK_DESTROY, with CONFIG_INET_DIAG_DESTROY
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

/// Lengths: of struct nlmsghdr, inet_diag_req_v2, inet_diag_sockid, inet_diag_msg.
const HEAD: usize = 16;
const ASKED: usize = 56;
const ID: usize = 48;
const MESSAGE: usize = 72;

/// Attributes: of the request, of the answer, and in them.
const REQUEST_STORAGES: u16 = 2; // INET_DIAG_REQ_SK_BPF_STORAGES
const REQUEST_MAP: u16 = 1; // SK_DIAG_BPF_STORAGE_REQ_MAP_FD
const INFO: u16 = 2; // INET_DIAG_INFO
const STORAGES: u16 = 20; // INET_DIAG_SK_BPF_STORAGES
const STORAGE: u16 = 1; // SK_DIAG_BPF_STORAGE
const VALUE: u16 = 3; // SK_DIAG_BPF_STORAGE_MAP_VALUE
const NESTED: u16 = 1 << 15;

/// States in which a connection is: SYN_SENT, ESTABLISHED and what comes after, while somebody has the socket.
const STATES: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
const ROOM: usize = 1 << 16;

/// A TCP socket, and what a program has stored on it.
pub struct Found<'a> {
    pub socket: Socket,
    pub storage: &'a [u8],
    /// Bytes of the application that were acknowledged, and that have come.
    pub sent: u64,
    pub received: u64,
}

/// Which socket it is.
#[derive(Clone, Copy)]
pub struct Socket {
    family: u8,
    id: [u8; ID],
}

impl Socket {
    /// The kernel's number of it, never given twice.
    pub fn cookie(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.id;
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }
}

/// A way to ask about one namespace.
pub struct Diag(OwnedFd);

impl Diag {
    pub fn open(netns: &NetNs) -> io::Result<Diag> {
        netns.enter(|| {
            let protocol = Some(netlink::SOCK_DIAG);
            let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
            Ok(Diag(rustix::net::socket_with(family, SocketType::RAW, flags, protocol)?))
        })
    }

    /// Tells of each connection on whose socket there is something in the storage `map`, a descriptor.
    ///
    /// Errors: PermissionDenied without CAP_BPF or CAP_SYS_ADMIN.
    pub fn each(&self, map: i32, mut tell: impl FnMut(Found<'_>)) -> io::Result<()> {
        let wanted = attribute(REQUEST_STORAGES | NESTED, &attribute(REQUEST_MAP, &map.to_ne_bytes()));
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            let mut body = request(family, 1 << (INFO - 1), STATES, &[0; ID]);
            body.extend_from_slice(&wanted);
            self.send(BY_FAMILY, REQUEST | DUMP, &body)?;
            self.answers(|message| {
                if let Some(found) = found(message) {
                    tell(found);
                }
            })?;
        }
        Ok(())
    }

    /// Ends a connection at once; both its ends see a reset. False where it has ended meanwhile.
    ///
    /// Errors: PermissionDenied without CAP_NET_ADMIN; Unsupported where the kernel cannot do it.
    pub fn destroy(&self, socket: &Socket) -> io::Result<bool> {
        self.send(DESTROY, REQUEST | ACK, &request(socket.family, 0, u32::MAX, &socket.id))?;
        match self.answers(|_| ()) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether `destroy` would work, by trying it on a socket that there cannot be.
    pub fn can_destroy(&self) -> io::Result<()> {
        self.destroy(&Socket { family: libc::AF_INET as u8, id: [0; ID] }).map(drop)
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEAD + body.len());
        message.extend_from_slice(&((HEAD + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&[0; 8]); // sequence, port
        message.extend_from_slice(body);
        rustix::net::send(&self.0, &message, SendFlags::empty())?;
        Ok(())
    }

    /// All messages up to the end of the answer, or the error that it is.
    fn answers(&self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut room = vec![0; ROOM];
        loop {
            let (length, _) = rustix::net::recv(&self.0, &mut room[..], RecvFlags::empty())?;
            let mut rest = &room[..length];
            while rest.len() >= HEAD {
                let whole = (word(rest, 0) as usize).clamp(HEAD, rest.len());
                let body = &rest[HEAD..whole];
                match half(rest, 4) {
                    ERROR | DONE => {
                        let error = if body.len() < 4 { 0 } else { -(word(body, 0) as i32) };
                        return if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) };
                    }
                    _ => take(body),
                }
                rest = &rest[whole.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}

/// struct inet_diag_req_v2.
fn request(family: u8, extensions: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut body = Vec::with_capacity(ASKED);
    body.extend_from_slice(&[family, libc::IPPROTO_TCP as u8, extensions, 0]);
    body.extend_from_slice(&states.to_ne_bytes());
    body.extend_from_slice(id);
    body
}

/// struct inet_diag_msg with its attributes; None where nothing is stored on the socket.
fn found(message: &[u8]) -> Option<Found<'_>> {
    let (fixed, attributes) = message.split_at_checked(MESSAGE)?;
    let storage = find(find(find(attributes, STORAGES)?, STORAGE)?, VALUE)?;
    let info = find(attributes, INFO).filter(|info| info.len() >= 136)?;
    // struct tcp_info. The first byte that is acknowledged is that of the SYN.
    Some(Found {
        socket: Socket { family: fixed[0], id: fixed[4..4 + ID].try_into().ok()? },
        storage,
        sent: long(info, 120).saturating_sub(1),
        received: long(info, 128),
    })
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = Vec::with_capacity(4 + value.len());
    attribute.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    attribute.extend_from_slice(&kind.to_ne_bytes());
    attribute.extend_from_slice(value);
    attribute
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let length = (half(attributes, 0) as usize).clamp(4, attributes.len());
        if half(attributes, 2) & !NESTED == wanted {
            return Some(&attributes[4..length]);
        }
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
    }
    None
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn here() -> Diag {
        Diag::open(&NetNs::new(File::open("/proc/self/ns/net").unwrap().into())).unwrap()
    }

    #[test]
    fn destroying_is_possible_here() {
        here().can_destroy().unwrap();
    }

    /// The socket of a connection, found by its ports.
    fn socket_of(stream: &TcpStream) -> Socket {
        let (near, far) = (stream.local_addr().unwrap().port(), stream.peer_addr().unwrap().port());
        let mut id = [0; ID];
        id[..2].copy_from_slice(&near.to_be_bytes());
        id[2..4].copy_from_slice(&far.to_be_bytes());
        id[4..8].copy_from_slice(&[127, 0, 0, 1]);
        id[20..24].copy_from_slice(&[127, 0, 0, 1]);
        id[40..].fill(0xff); // no cookie
        Socket { family: libc::AF_INET as u8, id }
    }

    #[test]
    fn a_destroyed_connection_ends_at_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let socket = socket_of(&near);
        assert!(here().destroy(&socket).unwrap());
        assert_eq!(near.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(far.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(!here().destroy(&socket).unwrap());
    }

    #[test]
    fn attributes_are_found_among_others() {
        let mut both = attribute(7, b"x");
        both.resize(8, 0);
        both.extend(attribute(9 | NESTED, b"yz"));
        assert_eq!((find(&both, 9), find(&both, 7), find(&both, 8)), (Some(&b"yz"[..]), Some(&b"x"[..]), None));
        assert_eq!(find(&[255, 255, 9, 0, 1], 9), Some(&[1][..]));
    }
}
