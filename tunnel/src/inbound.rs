//! The second tour: a connection that arrives for a pod, through a tunnel or plainly, to the application.
use crate::decision::{self, ConnectRequest, Inbound, OriginalDst};
use crate::handshake::{Failure, Handshake};
use crate::headers::Fields;
use crate::mesh::{canonical, Workload};
use crate::panics::OnPanic;
use crate::pipe::Pipe;
use crate::pod::Pod;
use crate::policy::{Admission, Attempt};
use crate::refusal::{self, Refusal};
use crate::sockets::{self, original_destination, reset_on_close};
use crate::stream::Stream;
use crate::telemetry::{Connection, Direction, Parties};
use crate::tunnel::Tunnel;
use crate::worker::Worker;
use std::io;
use std::net::{IpAddr, SocketAddr};
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
async fn admit(tunnel: &Tunnel, fields: &Fields, authority: &str, record: &Connection) -> Result<Admitted, Failure> {
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
    let Inbound { target, .. } = inbound;
    let attempt = Attempt { peer: Some(peer.clone()), source: remote.ip(), destination: target };
    let by = worker.admit(pod, attempt, record).await?;
    let app = match worker.may_be_direct(&mesh, &local, remote.ip()) {
        true => connect_apart(worker, pod, remote.ip(), target).await?,
        false => connect(worker, pod, remote.ip(), target).await?,
    };
    Ok(Admitted { app, local, by })
}

/// Ports of ours that are tried for a connection that came plainly.
const TRIES: usize = 8;

/// As `connect`, from a port that the client has not chosen itself, as far as one can tell: for a client of which
/// connections come that are not in a tunnel, plain or direct ones.
///
/// Such a connection ends in the namespace in which the application's begins, and both have the client's address: if
/// both had one port, the kernel would take one for the other, and the later one would never be answered. Linux clients
/// choose ports from 32768 on, others from 49152 on; and Linux' connect() takes those of one parity first, whatever the
/// range: the even ones, where it begins with an even one. So the odd ones below are ours. One that an open connection has
/// nevertheless does not answer, and another one is tried. Chance says which, because workers, and processes during an
/// upgrade, do not know each other's.
///
/// What remains: a new connection from a port that we use for that client at that time gets no answer, and has to be tried
/// from another port. It was bound to such a port, or an address translation chose it out of all; or that client had so many
/// open connections that the choice was left to the kernel.
async fn connect_apart(worker: &Worker, pod: &Pod, client: IpAddr, target: SocketAddr) -> Result<TcpStream, Failure> {
    if client != target.ip() && client.is_ipv4() == target.is_ipv4() {
        for _ in 0..TRIES {
            let source = SocketAddr::new(client, own_port(worker.rng.borrow_mut().draw()));
            let connected = pod.stash.connect_from(&pod.netns, source, target);
            if let Some(app) = connected.map_err(|error| failure(target, &error))? {
                return Ok(app);
            }
        }
    }
    connect(worker, pod, client, target).await
}

/// An odd one in 16385..=32767: below are the ports of most servers.
fn own_port(chance: u64) -> u16 {
    0x4001 | (chance as u16 & 0x3ffe)
}

/// The application sees the client's own address. A pod that calls itself needs no help with that.
async fn connect(worker: &Worker, pod: &Pod, client: IpAddr, target: SocketAddr) -> Result<TcpStream, Failure> {
    let source = (client != target.ip()).then_some(client);
    let connected = pod.stash.connect(&pod.netns, &worker.clock, source, target).await;
    connected.map_err(|error| failure(target, &error))
}

fn failure(target: SocketAddr, error: &io::Error) -> Failure {
    Failure { refusal: sockets::refusal(error), detail: format!("{target}: {error}") }
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
    let wanted = OriginalDst::new(original_destination(&sock).unwrap_or(local));
    let record = worker.telemetry.accept(Direction::Inbound, client, wanted.address());
    match admit_plain(&worker, &pod, client, wanted, &record).await {
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
    client: SocketAddr,
    wanted: OriginalDst,
    record: &Connection,
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
    let app = connect_apart(worker, pod, client.ip(), target).await?;
    Ok(Admitted { app, local, by })
}
