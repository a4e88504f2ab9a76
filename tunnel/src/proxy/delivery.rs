//! The last step of a connection that is let in: the application is connected to, with the client's own address.
use crate::base::Failure;
use crate::node::Pod;
use crate::relay::Thread;
use crate::sys::{kernel, sockets};
use crate::telemetry::Direction;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::net::TcpStream;

/// Ports that are left to the kernel, where those that are wanted are taken.
const TRIES: usize = 16;
/// Ports beside a client's own that may do.
const BESIDE: u16 = 3;

/// How the application is connected to.
#[derive(Clone, Copy)]
pub struct Delivery {
    /// The application sees this address.
    pub client: SocketAddr,
    pub target: SocketAddr,
    /// By which the client came.
    pub device: Option<i32>,
    pub port: Port,
    /// Whether the client has said something already, which the application is given at once.
    pub early: bool,
}

/// Which port of the client's the application sees.
#[derive(Clone, Copy)]
pub enum Port {
    /// Its own: all of its connections come in tunnels.
    Own,
    /// Its own unless that is taken: it may have direct connections as well, and reach a pod by more than one of the pod's
    /// addresses.
    UnlessTaken,
    /// One beside its own, by which it has no connection: this one comes plainly. Until the application has accepted a
    /// connection, and its side is bound to lo, the kernel takes what the client says by the same port for this side's, and
    /// resets the client.
    Beside,
}

impl Port {
    /// For a connection that comes plainly. Before Linux 5.17 a client that took the port beside its own could pass for us
    /// (bpf/sk_lookup.bpf.c). What an earlier generation of the tunnel carries is not known here.
    pub fn of_plain() -> Port {
        if kernel::tells_device() {
            Port::Beside
        } else {
            Port::UnlessTaken
        }
    }

    /// Those to try, the best first; 0 leaves it to the kernel.
    fn choices(self, pod: &Pod, client: SocketAddr, target: SocketAddr) -> Vec<u16> {
        let own = client.port();
        let mut choices = match self {
            Port::Own => return vec![],
            Port::UnlessTaken => vec![own],
            Port::Beside => {
                let is_live = |port: &u16| pod.plain.has(SocketAddr::new(client.ip(), *port), target);
                let (live, idle): (Vec<_>, Vec<_>) = (1..=BESIDE).map(|n| own ^ n).partition(is_live);
                // A client of tens of thousands of connections leaves no port idle, and each of them has one beside it.
                let own = (!live.is_empty()).then_some(own);
                idle.into_iter().chain(live).chain(own).collect()
            }
        };
        choices.resize(choices.len() + TRIES, 0);
        choices
    }
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
/// another port is tried. The other way round nothing is mistaken as soon as both are there: the application's side of what
/// comes over lo is bound to lo (bpf/sockops.bpf.c), the tunnel's side of what comes plainly to the device by which it came.
async fn try_connect(pod: &Pod, delivery: &Delivery) -> io::Result<TcpStream> {
    let Delivery { client, target, port, early, .. } = *delivery;
    // A pod that calls itself needs no help to have its own address.
    let source = (client.ip() != target.ip() && client.is_ipv4() == target.is_ipv4()).then_some(client);
    let choices = source.map_or(vec![], |client| port.choices(pod, client, target));
    let by = |port| source.map(|client| SocketAddr::new(client.ip(), port));
    for source in choices.iter().filter_map(|port| by(*port)) {
        if let Some(app) = pod.stash.connect_at_once(&pod.netns, source, target, early)? {
            return Ok(app);
        }
    }
    let best = choices.first().and_then(|port| by(*port)).or(source);
    pod.stash.connect(&pod.netns, best, target, early).await
}
