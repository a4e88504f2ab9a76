//! The second tour: a connection that arrives for a pod, through a tunnel or plainly, to the application.
use super::arriving::{self, Arrival};
use super::delivery::{deliver, Delivery, Port};
use super::Proxy;
use crate::base::{canonical, refusal, Failure, Identity, OriginalDst, Refusal};
use crate::decision::{self, ConnectRequest, Inbound};
use crate::h2::headers::Fields;
use crate::hbone::stream::{Stream, StreamDuplex};
use crate::hbone::tunnel::Tunnel;
use crate::mesh::Workload;
use crate::node::Pod;
use crate::policy::{Admission, Attempt};
use crate::relay::pipe::Pipe;
use crate::relay::TcpDuplex;
use crate::sys::panics::OnPanic;
use crate::sys::sockets::{self, original_destination, reset_on_close};
use crate::telemetry::{ConnectionRecord, Direction, Parties, TraceContext};
use crate::tls::handshake::Handshake;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;

/// A stream that a peer asks for, from its request to its end.
pub async fn serve(proxy: Rc<Proxy>, pod: Rc<Pod>, stream: Rc<Stream>, fields: Fields) {
    let tunnel = stream.tunnel().clone();
    let task = tunnel.task();
    let _guard = OnPanic(|| stream.break_down());
    let authority = fields.authority.as_deref().unwrap_or_default();
    let record = proxy.accept(&pod, Direction::Inbound, tunnel.remote, tunnel.local());
    // Boxed, as it has an end: else every connection would keep room for it, some 2 kB.
    let admission = Box::pin(admit(&proxy, &pod, &stream, (&fields, authority), &record));
    let admitted = stream.unless_broken(admission).await;
    trace(&proxy, &admitted, TraceContext::parse(&fields.traceparent), &record);
    match admitted {
        Ok(Admitted { to, local, by }) => {
            let _listed = pod.list_admitted(stream.clone(), by, &proxy.shared.mesh);
            stream.accept(&pod.baggage(&local));
            task.is_answered();
            match to {
                To::Application(app) => stream.relay(app, record).await,
                To::Requests(arrival) => {
                    let requests = arriving::serve(&proxy, &pod, *arrival, StreamDuplex::new(stream.clone()));
                    Box::pin(requests).await; // else every connection would have room for it, 6 kB
                    record.finish();
                }
            }
        }
        Err(Failure { refusal, detail }) => {
            stream.refuse(refusal);
            record.fail(refusal, &detail);
        }
    }
}

/// Where a connection that was let in leads.
enum To {
    Application(TcpStream),
    /// The application is connected to for each of its requests that is allowed.
    Requests(Box<Arrival>),
}

/// A connection that policies allow, up to the application or to its requests.
struct Admitted {
    to: To,
    local: Arc<Workload>,
    by: Admission,
}

/// Requests have spans of their own.
fn trace(proxy: &Proxy, admitted: &Result<Admitted, Failure>, parent: Option<TraceContext>, record: &ConnectionRecord) {
    if !matches!(admitted, Ok(Admitted { to: To::Requests(_), .. })) {
        record.trace(parent, &mut proxy.rng.borrow_mut());
    }
}

/// Decides about a request, and connects to the application with the client's own address.
async fn admit(
    proxy: &Proxy,
    pod: &Pod,
    stream: &Stream,
    (fields, authority): (&Fields, &str),
    record: &ConnectionRecord,
) -> Result<Admitted, Failure> {
    let tunnel = stream.tunnel();
    let remote = tunnel.remote;
    let Asked { peer, local, inbound } = asked(proxy, pod, tunnel, (fields, authority), record).await?;
    let mesh = proxy.shared.mesh.load_full();
    let baggage = proxy.thread.telemetry.baggage(fields.baggage.as_bytes());
    record.describe(Parties::inbound(&mesh, &local, &peer, remote.ip(), baggage, &inbound));
    let (target, client) = (inbound.target, SocketAddr::new(remote.ip(), inbound.client_port));
    let attempt = Attempt { peer: Some(peer), source: remote.ip(), destination: target, door: None };
    let by = proxy.admit(pod, attempt, record).await?;
    let port = if proxy.may_be_direct(&mesh, &local, remote.ip()) { Port::UnlessTaken } else { Port::Own };
    let (device, early) = (tunnel.device(), stream.waiting() > 0);
    let to = lead(proxy, pod, &by, Delivery { client, target, device, port, early }, record).await?;
    Ok(Admitted { to, local, by })
}

/// A request that is for a pod: who asks, of whom, and for what.
pub struct Asked {
    pub peer: Arc<Identity>,
    pub local: Arc<Workload>,
    pub inbound: Inbound,
}

/// Reads a request, when it is its peer's turn; whether policies let it in is another question.
pub async fn asked(
    proxy: &Proxy,
    pod: &Pod,
    tunnel: &Tunnel,
    (fields, authority): (&Fields, &str),
    record: &ConnectionRecord,
) -> Result<Asked, Failure> {
    let fail = |refusal: Refusal| Failure { refusal, detail: refusal::quoted(authority) };
    let peer = tunnel.peer.get().ok_or_else(|| fail(Refusal::NoCertificate))?;
    record.proven(peer);
    proxy.thread.turns.begin(tunnel.owner()).await;
    if let Some(what) = fields.malformed {
        return Err(Failure { refusal: Refusal::MalformedRequest, detail: what.to_owned() });
    }
    proxy.prefetch_peer(pod, tunnel.remote.ip());
    let local = proxy.workload(pod).await.ok_or_else(|| fail(Refusal::UnknownWorkload))?;
    let request = ConnectRequest {
        method: fields.method.as_deref().unwrap_or_default().as_bytes(),
        authority: authority.as_bytes(),
        forwarded: (!fields.forwarded.is_empty()).then_some(fields.forwarded.as_bytes()),
    };
    let mesh = proxy.shared.mesh.load();
    let inbound = decision::inbound(&mesh, &local, tunnel.local().ip(), &request).map_err(fail)?;
    Ok(Asked { peer: peer.clone(), local, inbound })
}

async fn lead(
    proxy: &Proxy,
    pod: &Pod,
    by: &Admission,
    delivery: Delivery,
    record: &ConnectionRecord,
) -> Result<To, Failure> {
    if proxy.reads_requests(pod, by) {
        let delivery = Delivery { early: false, ..delivery }; // it waits until its requests have been read
        let arrival = Arrival { attempt: by.attempt.clone(), delivery, parties: record.parties() };
        return Ok(To::Requests(Box::new(arrival)));
    }
    deliver(&proxy.thread, pod, delivery).await.map(To::Application)
}

/// A tunnel that a peer opens, from accept to close. `accept` takes the streams that it asks for.
pub async fn serve_tunnel(
    proxy: &Rc<Proxy>,
    pod: &Rc<Pod>,
    sock: TcpStream,
    accept: impl Fn(Rc<Stream>, Fields) + 'static,
) {
    let (Ok(remote), Ok(local)) = (sock.peer_addr(), sock.local_addr()) else { return }; // gone already
    let (remote, local) = (canonical(remote), canonical(local));
    let result = match proxy.credentials_soon(&pod.identity).await {
        Some(credentials) => match Handshake::server(&credentials) {
            Ok(handshake) => {
                let tunnel = Tunnel::server(&proxy.thread, pod.info(), remote, handshake, accept);
                let _known = pod.serves(&tunnel);
                tunnel.run(sock).await.map_err(|failure| (failure, tunnel.peer.get().cloned()))
            }
            Err(failure) => Err((failure, None)),
        },
        None => Err((Failure { refusal: Refusal::NoIdentity, detail: pod.identity.to_string() }, None)),
    };
    // What breaks later is told by the streams that it breaks.
    if let Err((Failure { refusal, detail }, None)) = result {
        proxy.thread.telemetry.refused(remote, local, None, refusal, &detail);
    }
}

/// A connection from outside the mesh, or from a peer that does not tunnel, from accept to close.
pub async fn serve_plain(proxy: Rc<Proxy>, pod: Rc<Pod>, sock: TcpStream, client: SocketAddr) {
    let (client, Ok(local)) = (canonical(client), sock.local_addr()) else { return }; // gone already
    let device = sockets::bind_to_arrival(&sock);
    let wanted = OriginalDst::new(original_destination(&sock).unwrap_or(local));
    let _known = pod.plain.add(client, wanted.address());
    let record = proxy.accept(&pod, Direction::Inbound, client, wanted.address());
    let admitted = Box::pin(admit_plain(&proxy, &pod, (client, device), wanted, &record)).await;
    trace(&proxy, &admitted, None, &record);
    match admitted {
        Ok(Admitted { to: To::Application(app), by, .. }) => {
            let pipe = Pipe::new(&proxy.thread, pod.info(), sock, app, record);
            let _listed = pod.list_admitted(pipe.clone(), by, &proxy.shared.mesh);
            pipe.relay().await;
        }
        Ok(Admitted { to: To::Requests(arrival), by, .. }) => {
            let client = TcpDuplex::accepted(sock, record);
            let _listed = pod.list_admitted(client.live(), by, &proxy.shared.mesh);
            Box::pin(arriving::serve(&proxy, &pod, *arrival, client)).await;
        }
        Err(Failure { refusal, detail }) => {
            reset_on_close(&sock);
            record.fail(refusal, &detail);
        }
    }
}

async fn admit_plain(
    proxy: &Proxy,
    pod: &Pod,
    (client, device): (SocketAddr, Option<i32>),
    wanted: OriginalDst,
    record: &ConnectionRecord,
) -> Result<Admitted, Failure> {
    let fail = |refusal: Refusal| Failure { refusal, detail: String::new() };
    let local = proxy.workload(pod).await.ok_or_else(|| fail(Refusal::UnknownWorkload))?;
    record.describe(Parties::inbound_plain(&proxy.shared.mesh.load(), &local, client.ip()));
    if pod.budget.is_short() {
        return Err(fail(Refusal::OutOfMemory));
    }
    let target = decision::inbound_plain(&local, wanted).map_err(fail)?;
    let attempt = Attempt { peer: None, source: client.ip(), destination: target, door: None };
    let by = proxy.admit(pod, attempt, record).await?;
    let to = lead(proxy, pod, &by, Delivery { client, target, device, port: Port::of_plain(), early: false }, record)
        .await?;
    Ok(Admitted { to, local, by })
}

#[cfg(test)]
mod tests;
