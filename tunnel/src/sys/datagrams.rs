//! Datagrams with the address at which they arrive, from which their answers are sent.
use super::sockets::set;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

/// A datagram's beginning: its length, who sent it, and the address that it was sent to.
pub struct Arrived {
    pub length: usize,
    pub from: SocketAddr,
    pub at: IpAddr,
}

/// A message that tells an address (cmsg(3)): the larger one of both families.
#[repr(C)]
struct Control {
    head: libc::cmsghdr,
    info: Info,
}

#[repr(C)]
union Info {
    v4: libc::in_pktinfo,
    v6: libc::in6_pktinfo,
}

/// Listens on all addresses of the calling thread's network namespace, IPv4 as well; several sockets share a port.
pub fn listen(port: u16) -> io::Result<std::net::UdpSocket> {
    let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    // A kernel or a namespace may be without IPv6.
    bound(any6).or_else(|_| bound(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))).map(Into::into)
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
        set(&socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?; // of IPv4 it tells too, v4-mapped
        set(&socket, libc::SOL_IPV6, libc::IPV6_FREEBIND, 1)?; // to answer from any address of a prefix that is lo's
    } else {
        set(&socket, libc::SOL_IP, libc::IP_PKTINFO, 1)?;
    }
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket that hears only what comes from there.
pub fn connected(to: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Takes one from a socket that `listen` has made. InvalidData: it does not say where it arrived.
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Arrived> {
    let mut from = SockAddrStorage::zeroed();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a message of nothing.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = from.size_of();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the descriptor is open; the message describes `from`, `buffer` and `control`, which outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written an address of `msg_namelen` bytes.
    let from = unsafe { SockAddr::new(from, message.msg_namelen) };
    let at = match (control.head.cmsg_level, control.head.cmsg_type) {
        // SAFETY: a message of this type holds this struct.
        (libc::SOL_IPV6, libc::IPV6_PKTINFO) => IpAddr::from(unsafe { control.info.v6 }.ipi6_addr.s6_addr),
        // SAFETY: as above.
        (libc::SOL_IP, libc::IP_PKTINFO) => IpAddr::from(unsafe { control.info.v4 }.ipi_addr.s_addr.to_ne_bytes()),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let from = from.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok(Arrived { length, from, at })
}

/// Answers from the address at which the question arrived. `to`, `at`: as `receive` gave them.
pub fn answer(socket: &impl AsRawFd, bytes: &[u8], to: SocketAddr, at: IpAddr) -> io::Result<()> {
    let to = SockAddr::from(to);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros is a message of nothing.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    let length = match at {
        IpAddr::V6(ip) => {
            control.info.v6.ipi6_addr.s6_addr = ip.octets();
            (control.head.cmsg_level, control.head.cmsg_type) = (libc::SOL_IPV6, libc::IPV6_PKTINFO);
            size_of::<libc::in6_pktinfo>()
        }
        IpAddr::V4(ip) => {
            control.info.v4.ipi_spec_dst.s_addr = u32::from_ne_bytes(ip.octets());
            (control.head.cmsg_level, control.head.cmsg_type) = (libc::SOL_IP, libc::IP_PKTINFO);
            size_of::<libc::in_pktinfo>()
        }
    };
    control.head.cmsg_len = size_of::<libc::cmsghdr>() + length;
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the descriptor is open; the kernel only reads what the message describes, which outlives the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let socket = listen(0).unwrap();
        let port = socket.local_addr().unwrap().port();
        for (own, at) in [("127.0.0.1", "127.1.2.3"), ("::1", "::1")] {
            let client = UdpSocket::bind((own.parse::<IpAddr>().unwrap(), 0)).unwrap();
            client.connect((at, port)).unwrap();
            client.send(b"question").unwrap();
            socket.set_nonblocking(false).unwrap();
            let mut buffer = [0; 100];
            let arrived = receive(&socket, &mut buffer).unwrap();
            assert_eq!((&buffer[..arrived.length], arrived.at.to_canonical()), (&b"question"[..], at.parse().unwrap()));
            answer(&socket, b"answer", arrived.from, arrived.at).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"answer");
        }
    }
}
