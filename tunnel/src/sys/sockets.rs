//! What is asked of a connected socket: options, what it was meant for, its bytes.
use crate::base::{Failure, Refusal};
use crate::sys::spare::is_exhausted;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{SockRef, Socket, TcpKeepalive};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::{io, io::ErrorKind, io::IoSliceMut, time::Duration};
use tokio::{io::Interest, net::TcpStream};

/// What goes with a request: less than what any peer takes before it has said how much.
const EARLY_MAX: usize = 4096;
/// Bytes that a socket takes before it has sent them: what comes later does not wait behind more, and an application or a
/// peer that does not read costs the kernel no more.
pub(super) const UNSENT: libc::c_int = 64 << 10;
/// <linux/tcp.h>: with what was read comes how much more there is.
pub(super) const TCP_INQ: libc::c_int = 36;

/// A peer that vanished is noticed within half an hour, even on a stream that only reads.
pub fn keep_alive(socket: &SockRef) -> io::Result<()> {
    let three_minutes = Duration::from_secs(180);
    let params = TcpKeepalive::new().with_time(three_minutes).with_interval(three_minutes).with_retries(9);
    socket.set_tcp_keepalive(&params)
}

/// After how long, how often and how many times the kernel asks a silent peer; None: as it is.
pub fn keep_alive_as(sock: &TcpStream, time: Option<Duration>, interval: Option<Duration>, probes: Option<u32>) {
    let mut params = TcpKeepalive::new();
    params = time.map_or(params.clone(), |time| params.with_time(time));
    params = interval.map_or(params.clone(), |interval| params.with_interval(interval));
    params = probes.map_or(params.clone(), |probes| params.with_retries(probes));
    // Fails only where the socket is gone, which whoever reads next will meet.
    let _ = SockRef::from(sock).set_tcp_keepalive(&params);
}

/// An option that socket2 does not know.
pub(super) fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
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

/// The round trip as TCP measures it, smoothed.
pub fn rtt(socket: &impl AsRawFd) -> Option<Duration> {
    info(socket).map(|info| Duration::from_micros(info.tcpi_rtt.into()))
}

/// The shortest round trip of the last minutes (net.ipv4.tcp_min_rtt_wlen). None before there was one.
pub fn least_rtt(socket: &impl AsRawFd) -> Option<Duration> {
    let least = info(socket)?.tcpi_min_rtt;
    (least != u32::MAX).then(|| Duration::from_micros(least.into()))
}

fn info(socket: &impl AsRawFd) -> Option<libc::tcp_info> {
    // SAFETY: all zeros is a `tcp_info` of nothing.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the descriptor is open, the pointer and the length describe `info`, of which the kernel fills in what it has.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut info).cast(), &raw mut length) };
    (result == 0).then_some(info)
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
    if n == 0 {
        return;
    }
    let mut seen = [0; EARLY_MAX];
    let mut take = || receive(socket, &mut [IoSliceMut::new(&mut seen[..n])]);
    // Not by `try_io`, which takes nothing where epoll has not told of the socket yet. That they were all saves the read that
    // would only say so. They are there, so this fails only after a reset, which the next read will meet.
    if take().is_ok_and(|received| received.empty) {
        let _: io::Result<()> = socket.try_io(Interest::READABLE, || Err(ErrorKind::WouldBlock.into()));
    }
}

/// Has the kernel acknowledge at once what comes next, as it does on a connection that is new to it. A server that writes the
/// head of its answer and then the body waits for that with the body (Nagle's algorithm), else for 40 ms.
pub fn acknowledge_at_once(socket: &TcpStream) {
    // Refused only for a socket that is gone.
    let _ = set(&SockRef::from(socket), libc::SOL_TCP, libc::TCP_QUICKACK, 1);
}

/// Makes `close` send a reset instead of an end.
pub fn reset_on_close(socket: &TcpStream) {
    // Refused only for a socket that is gone, for which it no longer matters.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};
    use tokio::net::TcpListener;

    fn is_read(sock: &TcpStream) -> bool {
        sock.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn who_was_taken_all_from_counts_as_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (sock, _) = listener.accept().await.unwrap();
        set(&SockRef::from(&sock), libc::SOL_TCP, TCP_INQ, 1).unwrap();
        for (said, taken) in [(&b"early"[..], 5), (b"more", 1)] {
            assert_eq!(client.try_write(said).unwrap(), said.len());
            sock.readable().await.unwrap();
            assert_eq!(peek(&sock).unwrap(), said);
            discard(&sock, taken);
            assert_eq!(is_read(&sock), taken == said.len());
            assert_eq!(peek(&sock).unwrap(), said[taken..]);
        }
    }
}
