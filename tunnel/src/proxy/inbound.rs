//! The second tour: a connection that arrives for a pod, through a tunnel or plainly, to the application.
use crate::base::canonical;
use crate::base::refusal;
use crate::base::Failure;
use crate::base::OriginalDst;
use crate::base::Refusal;
use crate::decision::{self, ConnectRequest};
use crate::engine::worker::Worker;
use crate::h2::headers::Fields;
use crate::hbone::stream::Stream;
use crate::hbone::tunnel::Tunnel;
use crate::mesh::Workload;
use crate::node::pod::Pod;
use crate::policy::{Admission, Attempt};
use crate::relay::pipe::Pipe;
use crate::sys::panics::OnPanic;
use crate::sys::sockets::{self, original_destination, reset_on_close};
use crate::telemetry::{ConnectionRecord, Direction, Parties};
use crate::tls::handshake::Handshake;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;

/// A stream that a peer asks for, from its request to its end.
pub async fn serve(stream: Rc<Stream>, fields: Fields) {
    let tunnel = stream.tunnel().clone();
    let _task = tunnel.task();
    let _guard = OnPanic(|| stream.break_down());
    let authority = fields.authority.as_deref().unwrap_or_default();
    let record = tunnel.worker.telemetry.accept(Direction::Inbound, tunnel.remote, tunnel.local());
    match stream.unless_broken(admit(&tunnel, &fields, authority, &record)).await {
        Ok(Admitted { app, local, by }) => {
            let _listed = tunnel.pod.list_admitted(stream.clone(), by, &tunnel.worker.shared.mesh);
            stream.accept(&tunnel.pod.baggage(&local));
            stream.relay(app, record).await;
        }
        Err(Failure { refusal, detail }) => {
            stream.refuse(refusal);
            record.fail(refusal, &detail);
        }
    }
}

/// A connection that policies allow, up to the application.
struct Admitted {
    app: TcpStream,
    local: Arc<Workload>,
    by: Admission,
}

/// Decides about a request, and connects to the application with the client's own address.
async fn admit(
    tunnel: &Tunnel,
    fields: &Fields,
    authority: &str,
    record: &ConnectionRecord,
) -> Result<Admitted, Failure> {
    let Tunnel { worker, pod, remote, .. } = tunnel;
    let fail = |refusal: Refusal| Failure { refusal, detail: refusal::quoted(authority) };
    let peer = tunnel.peer.get().ok_or_else(|| fail(Refusal::NoCertificate))?;
    record.proven(peer);
    if let Some(what) = fields.malformed {
        return Err(Failure { refusal: Refusal::MalformedRequest, detail: what.to_owned() });
    }
    if tunnel.budget.is_short() {
        return Err(fail(Refusal::OutOfMemory));
    }
    worker.meet(pod, remote.ip());
    let local = worker.workload(pod).await.ok_or_else(|| fail(Refusal::UnknownWorkload))?;
    let mesh = worker.shared.mesh.load_full();
    let request = ConnectRequest {
        method: fields.method.as_deref().unwrap_or_default().as_bytes(),
        authority: authority.as_bytes(),
        forwarded: (!fields.forwarded.is_empty()).then_some(fields.forwarded.as_bytes()),
    };
    let inbound = decision::inbound(&mesh, &local, tunnel.local().ip(), &request).map_err(fail)?;
    let baggage = worker.telemetry.baggage(fields.baggage.as_bytes());
    record.describe(Parties::inbound(&mesh, &local, peer, remote.ip(), baggage, &inbound));
    let (target, client) = (inbound.target, SocketAddr::new(remote.ip(), inbound.client_port));
    let attempt = Attempt { peer: Some(peer.clone()), source: remote.ip(), destination: target };
    let by = worker.admit(pod, attempt, record).await?;
    let apart = worker.may_be_direct(&mesh, &local, remote.ip());
    let app = connect(pod, Delivery { client, target, device: tunnel.device(), apart }).await?;
    Ok(Admitted { app, local, by })
}

/// Ports that are tried for a connection, where others of this client may not be in a tunnel.
const TRIES: usize = 16;

/// How the application is connected to.
struct Delivery {
    /// The application sees this address, and this port unless it is taken: a client may reach a pod by more than one of
    /// the pod's addresses.
    client: SocketAddr,
    target: SocketAddr,
    /// By which the client came.
    device: Option<i32>,
    /// Whether connections of this client may come that are not in a tunnel, plain or direct ones.
    apart: bool,
}

/// Connects to the application.
async fn connect(pod: &Pod, delivery: Delivery) -> Result<TcpStream, Failure> {
    let Delivery { client, target, device, .. } = delivery;
    match try_connect(pod, &delivery).await {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            // A listener that is bound to a device (SO_BINDTODEVICE) does not hear what comes by lo.
            let connect_by = |device| pod.stash.connect_by(device, &pod.netns, client.ip(), target).ok().flatten();
            device.and_then(connect_by).ok_or(e)
        }
        connected => connected,
    }
    .map_err(|error| Failure { refusal: sockets::refusal(&error), detail: format!("{target}: {error}") })
}

/// The application's connection ends in the namespace in which it begins, and has the client's address, as that of a direct
/// one has: where both have one port as well, the kernel takes one for the other, and the later one is not answered. Then
/// another port is tried. The other way round nothing is mistaken: the application's side of what comes over lo is bound
/// to lo (bpf/sockops.bpf.c), the tunnel's side of what comes plainly to the device by which it came.
async fn try_connect(pod: &Pod, delivery: &Delivery) -> io::Result<TcpStream> {
    let Delivery { client, target, apart, .. } = *delivery;
    // A pod that calls itself needs no help to have its own address.
    let source = (client.ip() != target.ip() && client.is_ipv4() == target.is_ipv4()).then_some(client);
    if let Some(client) = source.filter(|_| apart) {
        for port in std::iter::once(client.port()).chain(std::iter::repeat_n(0, TRIES)) {
            let source = SocketAddr::new(client.ip(), port);
            if let Some(app) = pod.stash.connect_at_once(&pod.netns, source, target)? {
                return Ok(app);
            }
        }
    }
    pod.stash.connect(&pod.netns, source, target).await
}

/// A tunnel that a peer opens, from accept to close.
pub async fn serve_tunnel(worker: &Rc<Worker>, pod: &Rc<Pod>, sock: TcpStream) {
    let (Ok(remote), Ok(local)) = (sock.peer_addr(), sock.local_addr()) else { return }; // gone already
    let (remote, local) = (canonical(remote), canonical(local));
    let result = match worker.credentials_soon(&pod.identity).await {
        Some(credentials) => match Handshake::server(&credentials) {
            Ok(handshake) => {
                let tunnel = Tunnel::new(worker, pod, remote, handshake);
                pod.serves(&tunnel);
                tunnel.run(sock).await.map_err(|failure| (failure, tunnel.peer.get().cloned()))
            }
            Err(failure) => Err((failure, None)),
        },
        None => Err((Failure { refusal: Refusal::NoIdentity, detail: pod.identity.to_string() }, None)),
    };
    // What breaks later is told by the streams that it breaks.
    if let Err((Failure { refusal, detail }, None)) = result {
        worker.telemetry.refused(remote, local, None, refusal, &detail);
    }
}

/// A connection from outside the mesh, or from a peer that does not tunnel, from accept to close.
pub async fn serve_plain(worker: Rc<Worker>, pod: Rc<Pod>, sock: TcpStream, client: SocketAddr) {
    let (client, Ok(local)) = (canonical(client), sock.local_addr()) else { return }; // gone already
    let device = sockets::bind_to_arrival(&sock);
    let wanted = OriginalDst::new(original_destination(&sock).unwrap_or(local));
    let record = worker.telemetry.accept(Direction::Inbound, client, wanted.address());
    match admit_plain(&worker, &pod, (client, device), wanted, &record).await {
        Ok(Admitted { app, by, .. }) => {
            let pipe = Pipe::new(&worker, &pod, sock, app, record);
            let _listed = pod.list_admitted(pipe.clone(), by, &worker.shared.mesh);
            pipe.relay().await;
        }
        Err(Failure { refusal, detail }) => {
            reset_on_close(&sock);
            record.fail(refusal, &detail);
        }
    }
}

async fn admit_plain(
    worker: &Worker,
    pod: &Pod,
    (client, device): (SocketAddr, Option<i32>),
    wanted: OriginalDst,
    record: &ConnectionRecord,
) -> Result<Admitted, Failure> {
    let fail = |refusal: Refusal| Failure { refusal, detail: String::new() };
    let local = worker.workload(pod).await.ok_or_else(|| fail(Refusal::UnknownWorkload))?;
    record.describe(Parties::inbound_plain(&worker.shared.mesh.load(), &local, client.ip()));
    if pod.budget.is_short() {
        return Err(fail(Refusal::OutOfMemory));
    }
    let target = decision::inbound_plain(&local, wanted).map_err(fail)?;
    let attempt = Attempt { peer: None, source: client.ip(), destination: target };
    let by = worker.admit(pod, attempt, record).await?;
    let app = connect(pod, Delivery { client, target, device, apart: true }).await?;
    Ok(Admitted { app, local, by })
}
