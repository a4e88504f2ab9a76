//! Sockets inside pods' network namespaces: listeners, and connections with a client's own source address.
use crate::base::{Failure, Refusal};
use crate::sys::spare::is_exhausted;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};
use std::cell::{OnceCell, RefCell};
use std::fs::File;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{LazyLock, OnceLock};
use std::{io, io::ErrorKind, io::IoSliceMut, time::Duration};
use tokio::{io::Interest, net::TcpStream};

/// Connections that may wait for `accept`; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Seconds for a tunnel's TCP connect, as the peer has it.
pub const CONNECT_TIMEOUT: u64 = 10;
/// What goes with a request: less than what any peer takes before it has said how much.
const EARLY_MAX: usize = 4096;
/// Bytes that a socket takes before it has sent them: what comes later does not wait behind more, and an application or a
/// peer that does not read costs the kernel no more.
const UNSENT: libc::c_int = 256 << 10;
/// <linux/tcp.h>: with what was read comes how much more there is.
const TCP_INQ: libc::c_int = 36;
/// <linux/in.h>, Linux 6.3
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
/// Sockets made at a time: entering and leaving a namespace costs as much as a few sockets.
const STASH: usize = 8;

/// The namespace in which this process was started.
static HOME: LazyLock<io::Result<File>> = LazyLock::new(|| File::open("/proc/self/ns/net"));

/// A pod's network namespace.
pub struct NetNs {
    fd: OwnedFd,
    cookie: OnceLock<u64>,
}

impl NetNs {
    pub fn new(fd: OwnedFd) -> Self {
        NetNs { fd, cookie: OnceLock::new() }
    }

    /// What `make` gives inside the namespace. The calling thread is back at home afterwards.
    pub fn enter<T>(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
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
            Err(io::Error::last_os_error())
        }
    }

    /// Whether it has a device beside lo. Where a pod goes, its devices go before those who hold its namespace.
    pub fn has_network(&self) -> bool {
        let count = || Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?.lines().count());
        self.enter(count).map_or(true, |lines| lines > 3) // two of head, and lo
    }

    /// Listens on all addresses, IPv4 as well. Several workers, and several processes during an upgrade, share a port.
    pub fn listen(&self, port: u16) -> io::Result<std::net::TcpListener> {
        self.enter(|| {
            let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            // A kernel or a namespace may be without IPv6.
            listen(any6).or_else(|_| listen(SocketAddr::from(([0, 0, 0, 0], port)))).map(Into::into)
        })
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

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = listener(address)?;
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
    ephemeral: OnceCell<RangeInclusive<u16>>,
}

impl Stash {
    fn take(&self, netns: &NetNs, address: SocketAddr) -> io::Result<Socket> {
        let stash = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        if let Some(socket) = stash.borrow_mut().pop() {
            return Ok(socket);
        }
        let make = || (0..STASH).map(|_| open(Domain::for_address(address))).collect::<io::Result<Vec<_>>>();
        let mut made = netns.enter(make)?;
        let socket = made.pop().ok_or(ErrorKind::Other)?;
        *stash.borrow_mut() = made;
        Ok(socket)
    }

    /// Connects to `target` from within `netns`; with `source`, from that address, whoever owns it, and from that port if it
    /// is not 0 and is free.
    ///
    /// Errors: what connect and bind say; ErrorKind::TimedOut when the kernel has given up (net.ipv4.tcp_syn_retries).
    pub async fn connect(
        &self,
        netns: &NetNs,
        source: Option<SocketAddr>,
        target: SocketAddr,
    ) -> io::Result<TcpStream> {
        let (socket, connected) = self.begin(netns, source, target)?;
        finish(socket, connected).await
    }

    /// From `at` to a socket at `from` that is connecting to `at`: both have sent a SYN then, and are connected.
    ///
    /// Errors: what connect and bind say.
    pub async fn meet(&self, netns: &NetNs, at: SocketAddr, from: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.take(netns, from)?;
        keep_alive(&SockRef::from(&socket))?;
        socket.set_reuse_port(true)?; // shares its port with a listener, and with all that do the same
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        let connected = begin(&socket, from)?;
        finish(socket, connected).await
    }

    /// As `connect` to an address of the namespace itself; None if it does not answer at once.
    ///
    /// Errors: what connect and bind say.
    pub fn connect_at_once(
        &self,
        netns: &NetNs,
        source: SocketAddr,
        target: SocketAddr,
    ) -> io::Result<Option<TcpStream>> {
        match self.begin(netns, Some(source), target)? {
            (socket, true) => TcpStream::from_std(socket.into()).map(Some),
            (_, false) => Ok(None),
        }
    }

    /// As `connect_at_once`, in a way that a listener on this device alone hears it. A port that others have is not answered.
    pub fn connect_by(
        &self,
        device: i32,
        netns: &NetNs,
        client: IpAddr,
        target: SocketAddr,
    ) -> io::Result<Option<TcpStream>> {
        let socket = self.take(netns, target)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, device)?;
        if client.is_ipv4() == target.is_ipv4() {
            socket.bind(&SocketAddr::new(client, 0).into())?;
        }
        let connected = begin(&socket, target)?;
        connected.then(|| TcpStream::from_std(socket.into())).transpose()
    }

    /// A socket that connects, and whether the connection is there already.
    fn begin(&self, netns: &NetNs, source: Option<SocketAddr>, target: SocketAddr) -> io::Result<(Socket, bool)> {
        let Some(source) = source.filter(|source| source.is_ipv4() == target.is_ipv4()) else {
            let socket = self.take(netns, target)?;
            let connected = begin(&socket, target)?;
            return Ok((socket, connected));
        };
        match self.begin_from(netns, source, target) {
            Err(e) if source.port() != 0 && is_taken(&e) => {
                self.begin_from(netns, SocketAddr::new(source.ip(), 0), target)
            }
            begun => begun,
        }
    }

    fn begin_from(&self, netns: &NetNs, source: SocketAddr, target: SocketAddr) -> io::Result<(Socket, bool)> {
        let socket = self.take(netns, target)?;
        let range = self.ephemeral.get_or_init(|| ephemeral_ports(netns));
        if range.contains(&source.port()) {
            // A port of these that bind() has taken is one that no connect() takes any more: there would soon be none left
            // for the pod's own connections. Before Linux 6.3 it will be another port.
            let one = i32::from(source.port());
            let _ = set(&socket, libc::SOL_IP, IP_LOCAL_PORT_RANGE, one << 16 | one);
            socket.bind(&SocketAddr::new(source.ip(), 0).into())?;
        } else {
            socket.bind(&source.into())?;
        }
        let connected = begin(&socket, target)?;
        Ok((socket, connected))
    }
}

/// Whether another port may do.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied)
}

/// From which connect() chooses in this namespace.
fn ephemeral_ports(netns: &NetNs) -> RangeInclusive<u16> {
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let text = netns.enter(read).unwrap_or_default();
    let mut ends = text.split_whitespace().map_while(|end| end.parse().ok());
    ends.next().unwrap_or(32768)..=ends.next().unwrap_or(60999)
}

/// What is connecting, however long it takes.
async fn finish(socket: Socket, connected: bool) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(socket.into())?;
    if !connected {
        reset_on_close(&stream); // should nobody wait for it any more
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        SockRef::from(&stream).set_linger(None)?;
    }
    Ok(stream)
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
    socket.set_out_of_band_inline(true)?; // HBONE has no urgent data: as what it was among, rather than not at all
    set(&socket, libc::SOL_TCP, TCP_INQ, 1)?;
    set(&socket, libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT, UNSENT)?;
    if domain == Domain::IPV4 {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
    }
    socket.set_reuse_address(true)?; // lets an application listen on the same port, if it says the same
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

/// Likewise.
fn get(socket: &Socket, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, the pointer and the length describe `value`, which the kernel fills in.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut length) };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Binds an accepted connection to the device by which it came, which it gives.
///
/// Then a connection over lo that bears the same addresses and ports, as one to the application does, is another one to the
/// kernel. Before that it takes the later one for the earlier one, as it does where the listener is without IPv6.
pub fn bind_to_arrival(socket: &TcpStream) -> Option<i32> {
    let device = arrival_device(socket)?;
    // Where it is refused, so may be later connections that are taken for this one.
    let _ = set(&SockRef::from(socket), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, device);
    Some(device)
}

/// The device by which an accepted connection came, as the kernel numbers it.
pub fn arrival_device(socket: &TcpStream) -> Option<i32> {
    // Where the kernel keeps it, for IPv4 as well.
    get(&SockRef::from(socket), libc::SOL_IPV6, libc::IPV6_MULTICAST_IF).ok().filter(|device| *device != 0)
}

/// Why there is no connection `to` there, as connect() says it.
pub fn connect_failure(to: SocketAddr, error: &io::Error) -> Failure {
    let refusal = match error.kind() {
        ErrorKind::TimedOut => Refusal::ConnectTimeout,
        _ if is_exhausted(error) => Refusal::OutOfDescriptors,
        _ => Refusal::ConnectFailed,
    };
    Failure { refusal, detail: format!("{to}: {error}") }
}

/// Where the application wanted to go: the redirection tells (ours through eBPF, another one through netfilter). None if
/// nothing redirected the connection.
pub fn original_destination(socket: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(socket);
    socket.original_dst_v4().or_else(|_| socket.original_dst_v6()).ok()?.as_socket()
}

/// What a read of a socket gave. `empty`: there is no more to read, for the moment.
pub struct Received {
    pub size: usize,
    pub empty: bool,
}

/// Reads once, of a socket that `listen` or `open` has made. A size of 0 is the end.
///
/// That it gives less than there is room for does not say that there is no more: the kernel stops in front of an urgent byte.
pub fn receive(socket: &TcpStream, bufs: &mut [IoSliceMut]) -> io::Result<Received> {
    // SAFETY: all zeros is a message of nothing.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_iov = bufs.as_mut_ptr().cast(); // an IoSliceMut is an iovec
    message.msg_iovlen = bufs.len();
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the descriptor is open; the message describes `bufs` and `control`, which live longer than the call.
    let size = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
    let told = control.head.cmsg_type == TCP_INQ; // the one message that such a socket gives
    Ok(Received { size, empty: told && size > 0 && control.more == 0 })
}

/// What comes with `TCP_INQ`.
#[repr(C)]
struct Control {
    head: libc::cmsghdr,
    more: libc::c_int,
}

/// What an application has said already, which stays where it is; it may be nothing. At most `EARLY_MAX` bytes.
///
/// Errors: the socket's. The kernel tells it once: whoever reads later would see an end.
pub fn peek(socket: &TcpStream) -> io::Result<Vec<u8>> {
    let mut early = [0; EARLY_MAX];
    match rustix::net::recv(socket, &mut early, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((n, _)) => Ok(early[..n].to_vec()),
        Err(Errno::AGAIN) => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

/// The error of a socket that nobody reads at present: its peer has reset it, or is gone.
pub async fn failure(socket: &TcpStream) -> io::Error {
    let taken = || socket.take_error()?.ok_or_else(|| ErrorKind::WouldBlock.into());
    socket.async_io(Interest::ERROR, taken).await.unwrap_or_else(|error| error)
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
