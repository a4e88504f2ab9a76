//! The last step of a connection that is let in: the application is connected to, with the client's own address.
use crate::base::Failure;
use crate::node::Pod;
use crate::relay::Thread;
use crate::sys::sockets;
use crate::telemetry::Direction;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::net::TcpStream;

/// Ports that are tried for a connection, where others of this client may not be in a tunnel.
const TRIES: usize = 16;

/// How the application is connected to.
#[derive(Clone, Copy)]
pub struct Delivery {
    /// The application sees this address, and this port unless it is taken: a client may reach a pod by more than one of
    /// the pod's addresses.
    pub client: SocketAddr,
    pub target: SocketAddr,
    /// By which the client came.
    pub device: Option<i32>,
    /// Whether connections of this client may come that are not in a tunnel, plain or direct ones.
    pub apart: bool,
    /// Whether the client has said something already, which the application is given at once.
    pub early: bool,
}

/// Connects to the application.
pub async fn deliver(thread: &Thread, pod: &Pod, delivery: Delivery) -> Result<TcpStream, Failure> {
    let Delivery { client, target, device, .. } = delivery;
    let began = Instant::now();
    match try_connect(pod, &delivery).await {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            // A listener that is bound to a device (SO_BINDTODEVICE) does not hear what comes by lo.
            let connect_by = |device| pod.stash.connect_by(device, &pod.netns, client.ip(), target).ok().flatten();
            device.and_then(connect_by).ok_or(e)
        }
        connected => connected,
    }
    .inspect(|_| thread.telemetry.connected(Direction::Inbound, began.elapsed()))
    .map_err(|error| sockets::connect_failure(target, &error))
}

/// The application's connection ends in the namespace in which it begins, and has the client's address, as that of a direct
/// one has: where both have one port as well, the kernel takes one for the other, and the later one is not answered. Then
/// another port is tried. The other way round nothing is mistaken: the application's side of what comes over lo is bound
/// to lo (bpf/sockops.bpf.c), the tunnel's side of what comes plainly to the device by which it came.
async fn try_connect(pod: &Pod, delivery: &Delivery) -> io::Result<TcpStream> {
    let Delivery { client, target, apart, early, .. } = *delivery;
    // A pod that calls itself needs no help to have its own address.
    let source = (client.ip() != target.ip() && client.is_ipv4() == target.is_ipv4()).then_some(client);
    if let Some(client) = source.filter(|_| apart) {
        for port in std::iter::once(client.port()).chain(std::iter::repeat_n(0, TRIES)) {
            let source = SocketAddr::new(client.ip(), port);
            if let Some(app) = pod.stash.connect_at_once(&pod.netns, source, target, early)? {
                return Ok(app);
            }
        }
    }
    pod.stash.connect(&pod.netns, source, target, early).await
}
