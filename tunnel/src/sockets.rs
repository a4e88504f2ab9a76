//! Sockets inside pods' network namespaces: listeners, and connections with a client's own source address.
use crate::clock::Clock;
use crate::refusal::Refusal;
use rustix::net::RecvFlags;
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::cell::RefCell;
use std::fs::File;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::LazyLock;
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// Connections that may wait for `accept`; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Seconds for a TCP connect, as the peer has it.
pub const CONNECT_TIMEOUT: u64 = 10;
/// What goes with a request: less than what any peer takes before it has said how much.
const EARLY_MAX: usize = 4096;
/// Bytes that a socket takes before it has sent them: what comes later does not wait behind more, and an application or a
/// peer that does not read costs the kernel no more.
const UNSENT: libc::c_int = 256 << 10;
/// Sockets made at a time: entering and leaving a namespace costs as much as a few sockets.
const STASH: usize = 8;

/// The namespace in which this process was started.
static HOME: LazyLock<io::Result<File>> = LazyLock::new(|| File::open("/proc/self/ns/net"));

/// A pod's network namespace.
pub struct NetNs(OwnedFd);

impl NetNs {
    pub fn new(fd: OwnedFd) -> Self {
        NetNs(fd)
    }

    /// What `make` gives inside the namespace. The calling thread is back at home afterwards.
    pub fn enter<T>(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let home = HOME.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
        let result = make();
        if move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)).is_err() {
            // Going on would open sockets for everybody inside one pod.
            std::process::abort();
        }
        result
    }

    /// The number by which the redirection knows it, never given twice.
    pub fn cookie(&self) -> io::Result<u64> {
        let socket = self.enter(|| Socket::new(Domain::IPV4, Type::DGRAM, None))?;
        let mut cookie = 0u64;
        let mut length = size_of_val(&cookie) as libc::socklen_t;
        // SAFETY: the descriptor is open, the pointer and the length describe `cookie`, which the kernel fills in.
        let result = unsafe {
            let to = (&raw mut cookie).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, to, &raw mut length)
        };
        if result == 0 {
            Ok(cookie)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Listens on all addresses, IPv4 as well. Several workers, and several processes during an upgrade, share a port.
    pub fn listen(&self, port: u16) -> io::Result<std::net::TcpListener> {
        self.enter(|| {
            let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            // A kernel or a namespace may be without IPv6.
            listen(any6).or_else(|_| listen(SocketAddr::from(([0, 0, 0, 0], port)))).map(Into::into)
        })
    }
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?; // inherited by what it accepts, as are the next
    set(&socket, libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT, UNSENT)?;
    keep_alive(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    // A pod can turn TCP Fast Open on for all of its listeners (net.ipv4.tcp_fastopen & 0x400). Then a connection would be
    // accepted with its SYN, before the redirection can have handed its original destination over.
    set(&socket, libc::SOL_TCP, libc::TCP_FASTOPEN, 0)?;
    Ok(socket)
}

/// A peer that vanished is noticed within half an hour, even on a stream that only reads.
pub fn keep_alive(socket: &SockRef) -> io::Result<()> {
    let three_minutes = Duration::from_secs(180);
    let params = TcpKeepalive::new().with_time(three_minutes).with_interval(three_minutes).with_retries(9);
    socket.set_tcp_keepalive(&params)
}

/// Sockets of one pod, made ahead of need.
#[derive(Default)]
pub struct Stash {
    v4: RefCell<Vec<Socket>>,
    v6: RefCell<Vec<Socket>>,
}

impl Stash {
    fn take(&self, netns: &NetNs, address: SocketAddr) -> io::Result<Socket> {
        let stash = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        if let Some(socket) = stash.borrow_mut().pop() {
            return Ok(socket);
        }
        let make = || (0..STASH).map(|_| open(Domain::for_address(address))).collect::<io::Result<Vec<_>>>();
        let mut made = netns.enter(make)?;
        let socket = made.pop().ok_or(io::ErrorKind::Other)?;
        *stash.borrow_mut() = made;
        Ok(socket)
    }

    /// Connects to `target` from within `netns`; with `source`, from that address, whoever owns it.
    ///
    /// Errors: ErrorKind::TimedOut after `CONNECT_TIMEOUT`; what connect and bind say.
    pub async fn connect(
        &self,
        netns: &NetNs,
        clock: &Clock,
        source: Option<IpAddr>,
        target: SocketAddr,
    ) -> io::Result<TcpStream> {
        let socket = self.take(netns, target)?;
        if let Some(source) = source.filter(|source| source.is_ipv4() == target.is_ipv4()) {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        let connected = begin(&socket, target)?;
        let stream = TcpStream::from_std(socket.into())?;
        if !connected {
            let writable = clock.timeout(CONNECT_TIMEOUT, stream.writable()).await;
            writable.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
        }
        Ok(stream)
    }

    /// Connects to `target`, an address of the namespace itself, if it answers at once. None if it does not, or if the
    /// port of `source` is taken.
    ///
    /// Errors: what connect says.
    pub fn connect_from(&self, netns: &NetNs, source: SocketAddr, target: SocketAddr) -> io::Result<Option<TcpStream>> {
        let socket = self.take(netns, target)?;
        socket.set_reuse_address(true)?; // lets an application listen on this port, if it says the same
        let connected = socket.bind(&source.into()).and_then(|()| begin(&socket, target));
        match connected {
            Ok(true) => TcpStream::from_std(socket.into()).map(Some),
            Ok(false) => Ok(None),
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Whether the connection is there already.
fn begin(socket: &Socket, target: SocketAddr) -> io::Result<bool> {
    match socket.connect(&target.into()) {
        Ok(()) => Ok(true),
        // Within a node the handshake is over when the call returns: asking again tells.
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => match socket.connect(&target.into()) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::EALREADY) => Ok(false),
            Err(e) => Err(e),
        },
        Err(e) => Err(e),
    }
}

fn open(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    set(&socket, libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT, UNSENT)?;
    if domain == Domain::IPV4 {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
    }
    // Leaves the choice of the source port to connect(), which can use a port once for each destination.
    set(&socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    Ok(socket)
}

/// An option that socket2 does not know.
fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, the pointer and the length describe `value`, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The name of what connect() says.
pub fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::TimedOut => Refusal::ConnectTimeout,
        _ => Refusal::ConnectFailed,
    }
}

/// Where the application wanted to go: the redirection tells (ours through eBPF, another one through netfilter). None if
/// nothing redirected the connection.
pub fn original_destination(socket: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(socket);
    socket.original_dst_v4().or_else(|_| socket.original_dst_v6()).ok()?.as_socket()
}

/// What an application has said already, which stays where it is; it may be nothing. At most `EARLY_MAX` bytes.
pub fn peek(socket: &TcpStream) -> Vec<u8> {
    let mut early = [0; EARLY_MAX];
    // An error, also that there is nothing yet, will be met again by whoever reads.
    let n = rustix::net::recv(socket, &mut early, RecvFlags::PEEK | RecvFlags::DONTWAIT).map_or(0, |(n, _)| n);
    early[..n].to_vec()
}

/// Takes `n` bytes that were peeked at.
pub fn discard(socket: &TcpStream, n: usize) {
    let mut seen = [0; EARLY_MAX];
    if n > 0 {
        // They are there, so this fails only after a reset, which the next read will meet.
        let _ = rustix::net::recv(socket, &mut seen[..n], RecvFlags::DONTWAIT);
    }
}

/// Makes `close` send a reset instead of an end.
pub fn reset_on_close(socket: &TcpStream) {
    // Refused only for a socket that is gone, for which it no longer matters.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
