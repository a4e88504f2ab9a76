//! A pod's network namespace: sockets are made in it, and the thread is back at home.
use super::sockets::{keep_alive, set, TCP_INQ, UNSENT};
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{LazyLock, OnceLock};

/// Connections that may wait for `accept`; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// The namespace in which this process was started.
static HOME: LazyLock<io::Result<File>> = LazyLock::new(|| File::open("/proc/self/ns/net"));

/// A pod's network namespace.
pub struct NetNs {
    fd: OwnedFd,
    inode: u64,
    /// It is the one in which this process was started: nothing is entered, which takes no privilege.
    home: bool,
    cookie: OnceLock<u64>,
}

impl NetNs {
    pub fn new(fd: OwnedFd) -> Self {
        let inode = |fd| rustix::fs::fstat(fd).map(|status| (status.st_dev, status.st_ino)).ok();
        let home = HOME.as_ref().ok().and_then(|home| inode(home.as_fd()));
        let own = inode(fd.as_fd());
        let number = own.map_or(0, |(_, inode)| inode);
        NetNs { home: home.is_some() && home == own, inode: number, fd, cookie: OnceLock::new() }
    }

    /// What tells it from others that are open.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// What `make` gives inside the namespace. The calling thread is back at home afterwards.
    pub fn enter<T>(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.home {
            return make();
        }
        let home = HOME.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
        move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))?;
        let result = make();
        if move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)).is_err() {
            // Going on would open sockets for everybody inside one pod.
            std::process::abort();
        }
        result
    }

    /// The number by which the redirection knows it, never given twice.
    pub fn cookie(&self) -> io::Result<u64> {
        if let Some(cookie) = self.cookie.get() {
            return Ok(*cookie);
        }
        let socket = self.enter(|| Socket::new(Domain::IPV4, Type::DGRAM, None))?;
        let mut cookie = 0u64;
        let mut length = size_of_val(&cookie) as libc::socklen_t;
        // SAFETY: the descriptor is open, the pointer and the length describe `cookie`, which the kernel fills in.
        let result = unsafe {
            let to = (&raw mut cookie).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, to, &raw mut length)
        };
        if result == 0 {
            Ok(*self.cookie.get_or_init(|| cookie))
        } else {
            let error = io::Error::last_os_error();
            let is_old = error.raw_os_error() == Some(libc::ENOPROTOOPT);
            Err(if is_old { io::Error::other("this kernel tells no netns cookies (Linux 5.14 does)") } else { error })
        }
    }

    /// Whether it has a device beside lo. Where a pod goes, its devices go before those who hold its namespace.
    pub fn has_network(&self) -> bool {
        let count = || Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?.lines().count());
        self.enter(count).map_or(true, |lines| lines > 3) // two of head, and lo
    }

    /// Listens on all addresses, IPv4 as well, for what comes by a device alone where one is named. Several workers, and several
    /// processes during an upgrade, share a port.
    pub fn listen(&self, port: u16, device: Option<&str>) -> io::Result<TcpListener> {
        self.enter(|| {
            let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            // A kernel or a namespace may be without IPv6.
            listen(any6, device).or_else(|_| listen(SocketAddr::from(([0, 0, 0, 0], port)), device)).map(Into::into)
        })
    }

    /// The device beside lo that has routes, None where there are several or none.
    pub fn only_device(&self) -> Option<String> {
        let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        let (v4, v6) = self.enter(|| Ok((read("route"), read("ipv6_route")))).ok()?;
        let of_v4 = v4.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let of_v6 = v6.lines().filter_map(|line| line.split_whitespace().next_back());
        let devices: BTreeSet<_> = of_v4.chain(of_v6).filter(|device| *device != "lo").collect();
        match devices.len() {
            1 => devices.first().map(|device| (*device).to_owned()),
            _ => None,
        }
    }

    /// As `listen`, but takes no SYN: nobody answers, and nobody is refused.
    pub fn listen_deaf(&self, port: u16) -> io::Result<Socket> {
        let deaf = |address| {
            let socket = listener(address)?;
            let drop_all = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
            socket.attach_filter(&[drop_all])?;
            socket.bind(&address.into())?;
            socket.listen(1)?;
            Ok(socket)
        };
        self.enter(|| {
            let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            deaf(any6).or_else(|_| deaf(SocketAddr::from(([0, 0, 0, 0], port))))
        })
    }
}

/// Sends whole IP packets inside a namespace.
#[derive(Default)]
pub struct Raw {
    v4: OnceLock<Socket>,
    v6: OnceLock<Socket>,
}

impl Raw {
    pub fn send(&self, netns: &NetNs, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        let kept = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let made = match kept.get() {
            Some(_) => None,
            None => Some(netns.enter(|| {
                let kind = Type::RAW.nonblocking().cloexec();
                Socket::new_raw(Domain::for_address(to), kind, Some(Protocol::from(libc::IPPROTO_RAW)))
            })?),
        };
        let socket = made.map_or_else(|| kept.get(), |made| Some(kept.get_or_init(|| made)));
        let sent = socket.ok_or(io::ErrorKind::Other)?.send_to(packet, &SocketAddr::new(to.ip(), 0).into());
        sent.map(drop)
    }
}

fn listener(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

fn listen(address: SocketAddr, device: Option<&str>) -> io::Result<Socket> {
    let socket = listener(address)?;
    if device.is_some() {
        socket.bind_device(device.map(str::as_bytes))?; // before it listens: those that share a port share a device
    }
    socket.set_tcp_nodelay(true)?; // inherited by what it accepts, as are the next
    socket.set_out_of_band_inline(true)?;
    set(&socket, libc::SOL_TCP, TCP_INQ, 1)?;
    set(&socket, libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT, UNSENT)?;
    keep_alive(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    // A pod can turn TCP Fast Open on for all of its listeners (net.ipv4.tcp_fastopen & 0x400). Then a connection would be
    // accepted with its SYN, before the redirection can have handed its original destination over.
    set(&socket, libc::SOL_TCP, libc::TCP_FASTOPEN, 0)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    #[test]
    fn listeners_of_a_device_share_its_connections() {
        let netns = NetNs::new(File::open("/proc/thread-self/ns/net").unwrap().into());
        let first = netns.listen(0, Some("lo")).unwrap();
        let at = first.local_addr().unwrap().port();
        let listeners = [first, netns.listen(at, Some("lo")).unwrap()];
        let _clients: Vec<_> = (0..40).map(|_| TcpStream::connect(("127.0.0.1", at)).unwrap()).collect();
        let (mut taken, end) = ([0, 0], Instant::now() + Duration::from_secs(5));
        while taken.iter().sum::<usize>() < 40 && Instant::now() < end {
            for (listener, taken) in listeners.iter().zip(&mut taken) {
                *taken += std::iter::from_fn(|| listener.accept().ok()).count();
            }
        }
        assert!(taken.iter().sum::<usize>() == 40 && !taken.contains(&0), "{taken:?}");
    }
}
