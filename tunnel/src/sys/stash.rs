//! Connections from within a namespace, also with a client's own source address.
use super::netns::NetNs;
use super::sockets::{keep_alive, reset_on_close, set, TCP_INQ, UNSENT};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::cell::{OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::{io, io::ErrorKind};
use tokio::net::TcpStream;

/// Sockets made at a time: entering and leaving a namespace costs as much as a few sockets.
const STASH: usize = 8;
/// <linux/in.h>, Linux 6.3
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

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
    /// is not 0 and is free. `early`: whether something is written as soon as it is there, with which the handshake's last
    /// segment goes.
    ///
    /// Errors: what connect and bind say; ErrorKind::TimedOut when the kernel has given up (net.ipv4.tcp_syn_retries).
    pub async fn connect(
        &self,
        netns: &NetNs,
        source: Option<SocketAddr>,
        target: SocketAddr,
        early: bool,
    ) -> io::Result<TcpStream> {
        let (socket, connected) = self.begin(netns, source, target, early)?;
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

    /// As `connect` to an address of the namespace itself, from a source of its family and from no other port, if the kernel
    /// can (`begin_from`); None if that is taken, or if it does not answer at once.
    ///
    /// Errors: what connect and bind say.
    pub fn connect_at_once(
        &self,
        netns: &NetNs,
        source: SocketAddr,
        target: SocketAddr,
        early: bool,
    ) -> io::Result<Option<TcpStream>> {
        match self.begin_from(netns, source, target, early) {
            Ok((socket, true)) => TcpStream::from_std(socket.into()).map(Some),
            Ok((_, false)) => Ok(None),
            Err(e) if source.port() != 0 && is_taken(&e) => Ok(None),
            Err(e) => Err(e),
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
    fn begin(
        &self,
        netns: &NetNs,
        source: Option<SocketAddr>,
        target: SocketAddr,
        early: bool,
    ) -> io::Result<(Socket, bool)> {
        let Some(source) = source.filter(|source| source.is_ipv4() == target.is_ipv4()) else {
            let socket = self.take(netns, target)?;
            hold_last_segment(&socket, early);
            let connected = begin(&socket, target)?;
            return Ok((socket, connected));
        };
        match self.begin_from(netns, source, target, early) {
            Err(e) if source.port() != 0 && is_taken(&e) => {
                self.begin_from(netns, SocketAddr::new(source.ip(), 0), target, early)
            }
            begun => begun,
        }
    }

    fn begin_from(
        &self,
        netns: &NetNs,
        source: SocketAddr,
        target: SocketAddr,
        early: bool,
    ) -> io::Result<(Socket, bool)> {
        let socket = self.take(netns, target)?;
        hold_last_segment(&socket, early);
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

/// Has the kernel acknowledge the other end's SYN with the first bytes, up to 200 ms later: a segment less, and who accepts has
/// something to read. These bytes then look like an answer, so that the kernel lets acknowledgements wait: who has written
/// them says that they shall not (`acknowledge_at_once`).
fn hold_last_segment(socket: &Socket, early: bool) {
    if early {
        let _ = set(socket, libc::SOL_TCP, libc::TCP_QUICKACK, 0); // without it there is a segment more
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
