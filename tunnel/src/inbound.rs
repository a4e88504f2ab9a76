//! The second tour: a connection that arrives for a pod, through a tunnel or plainly, to the application.
use crate::decision::{self, ConnectRequest, Inbound, OriginalDst};
use crate::handshake::{Failure, Handshake};
use crate::headers::Fields;
use crate::mesh::{canonical, Workload};
use crate::pipe::Pipe;
use crate::pod::Pod;
use crate::policy::{Admission, Attempt};
use crate::refusal::Refusal;
use crate::sockets::{self, original_destination, reset_on_close};
use crate::stream::Stream;
use crate::telemetry::{Connection, Direction, Parties};
use crate::tunnel::Tunnel;
use crate::worker::Worker;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;

/// A stream that a peer asks for, from its request to its end.
pub async fn serve(stream: Rc<Stream>, fields: Fields) {
    let tunnel = stream.tunnel().clone();
    let _task = tunnel.task();
    let authority = fields.authority.as_deref().unwrap_or_default();
    let record = tunnel.worker.telemetry.accept(Direction::Inbound, tunnel.remote, tunnel.local());
    match stream.unless_broken(admit(&tunnel, &fields, authority, &record)).await {
        Ok(Admitted { app, local, by }) => {
            let _listed = tunnel.pod.list_admitted(stream.clone(), by, &tunnel.worker.shared.mesh);
            stream.accept(&tunnel.pod.baggage(&local));
            stream.relay(app, record).await;
        }
        Err(Failure { refusal, detail }) => {
            stream.refuse(refusal.status());
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
    let fail = |refusal: Refusal| Failure { refusal, detail: authority.to_owned() };
    let peer = tunnel.peer.get().ok_or_else(|| fail(Refusal::NoCertificate))?;
    record.proven(peer);
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
    let app = connect(worker, pod, remote.ip(), target).await?;
    Ok(Admitted { app, local, by })
}

/// The application sees the client's own address. A pod that calls itself needs no help with that.
async fn connect(worker: &Worker, pod: &Pod, client: IpAddr, target: SocketAddr) -> Result<TcpStream, Failure> {
    let source = (client != target.ip()).then_some(client);
    let connected = pod.stash.connect(&pod.netns, &worker.clock, source, target).await;
    connected.map_err(|error| Failure { refusal: sockets::refusal(&error), detail: format!("{target}: {error}") })
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
            let pipe = Pipe::new(&worker, sock, app, record);
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
    let target = decision::inbound_plain(&local, wanted).map_err(fail)?;
    let attempt = Attempt { peer: None, source: client.ip(), destination: target };
    let by = worker.admit(pod, attempt, record).await?;
    let app = connect(worker, pod, client.ip(), target).await?;
    Ok(Admitted { app, local, by })
}
