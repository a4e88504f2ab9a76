//! The connector: dials, pools and opens what leads to a destination. Whoever asks says where, and carries the bytes.
use super::arriving::{Arrival, Serving};
use super::delivery::{deliver, Delivery, Port};
use super::here;
use super::upstream::Upstream;
use super::Proxy;
use crate::base::{Failure, Refusal};
use crate::decision::{self, Direct, Plain, Route, Target, Way};
use crate::h2::frame::Code;
use crate::h2::headers::Block;
use crate::hbone::stream::{Answer, Stream};
use crate::mesh::{Mesh, TunnelProtocol, Workload};
use crate::node::{Listed, Pod};
use crate::policy::{Admission, Attempt};
use crate::relay::{Live, TcpDuplex};
use crate::sys::sockets;
use crate::telemetry::{ConnectionRecord, Direction, Parties, TraceContext};
use arc_swap::ArcSwap;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

/// How often a stream is asked for, where a peer says that it has not looked at it.
const ATTEMPTS: usize = 3;

/// On whose behalf something is connected to.
pub struct Source<'a> {
    pub pod: &'a Rc<Pod>,
    pub workload: &'a Arc<Workload>,
    /// As others know it.
    pub client: SocketAddr,
    /// The span, where it is a connection with one.
    pub span: Option<TraceContext>,
    /// By what its client was let in, where that is from outside of the mesh.
    pub by: Option<&'a Admission>,
}

impl Source<'_> {
    /// Puts a connection on the pod's list, for as long as policies let its client in.
    pub fn list(&self, connection: Rc<dyn Live>, mesh: &ArcSwap<Mesh>) -> Listed {
        match self.by {
            Some(by) => self.pod.list_admitted(connection, by.clone(), mesh),
            None => self.pod.list(connection),
        }
    }
}

/// A stream that was asked for. Dropped before `take`, it is cancelled.
pub struct Asked(Option<Rc<Stream>>);

impl Asked {
    pub fn take(mut self) -> Rc<Stream> {
        self.0.take().expect("only `take` and `give_up` take it, and they consume this")
    }

    /// Ends it; with a code, the peer is told that it broke.
    fn give_up(mut self, code: Option<Code>) {
        if let Some(stream) = self.0.take() {
            stream.tunnel().close(stream.id, code);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        match self.0.take() {
            Some(stream) if std::thread::panicking() => stream.break_down(),
            Some(stream) => stream.tunnel().close(stream.id, Some(Code::CANCEL)),
            None => {}
        }
    }
}

impl Proxy {
    /// A connection to an endpoint, for whoever reads and writes it: through a tunnel, plainly, or to another pod of this
    /// node without TLS to ourselves. No time-out of its own: dropping the future gives it up.
    pub async fn connect(self: &Rc<Self>, source: &Source<'_>, target: &Target) -> Result<Upstream, Failure> {
        if let Some(destination) = self.on_this_node(target) {
            return self.deliver_here(source, target, &destination).await;
        }
        self.reach(source, target.way()).await
    }

    /// The same, to where a decision leads.
    pub async fn reach(&self, source: &Source<'_>, way: Way) -> Result<Upstream, Failure> {
        match way {
            Way::Hbone(route) => {
                let (asked, _) = self.open(source, &route, b"").await?;
                Ok(Upstream::stream(asked.take(), source.pod))
            }
            Way::Plain(Plain { addr, .. }) => {
                let dialled = self.dial(source.pod, addr).await;
                let sock = dialled.map_err(|error| sockets::connect_failure(addr, &error))?;
                let sock = TcpDuplex::to_peer(sock);
                let listed = source.pod.list(sock.live());
                Ok(Upstream::socket(sock, listed))
            }
        }
    }

    /// The endpoint's pod, where it is here and takes what comes through a tunnel; a gateway, which is the only pod of its
    /// process, takes it at its listeners.
    fn on_this_node(&self, target: &Target) -> Option<Rc<Pod>> {
        let is_gateway = self.shared.mesh.load().listeners().is_some();
        let is_captured = !is_gateway && target.behind.is_none() && target.workload.tunnel == TunnelProtocol::Hbone;
        is_captured.then(|| self.pods.named(&target.workload.key())).flatten()
    }

    /// As the destination's end of a tunnel does it: its policies are asked, with the source's identity as the peer's, and
    /// its application is connected to with the source's address, from its own namespace.
    async fn deliver_here(
        self: &Rc<Self>,
        source: &Source<'_>,
        target: &Target,
        destination: &Rc<Pod>,
    ) -> Result<Upstream, Failure> {
        let to = SocketAddr::new(target.ip, target.port);
        let record = self.accept(destination, Direction::Inbound, source.client, to);
        let admitted = self.admit_here(source, target, destination, &record).await;
        let delivered = match admitted {
            Ok((delivery, by)) if self.reads_requests(destination, &by) => {
                let arrival = Arrival { attempt: by.attempt.clone(), delivery, parties: record.parties() };
                return Ok(self.judge_here(destination, arrival, by, record));
            }
            Ok((delivery, by)) => deliver(&self.thread, destination, delivery).await.map(|app| (app, by)),
            Err(why) => Err(why),
        };
        match delivered {
            Ok((app, by)) => {
                let sock = TcpDuplex::new(app, Some(record));
                let listed = destination.list_admitted(sock.live(), by, &self.shared.mesh);
                Ok(Upstream::socket(sock, listed))
            }
            Err(why) => {
                record.fail(why.refusal, &why.detail);
                Err(why)
            }
        }
    }

    async fn admit_here(
        &self,
        source: &Source<'_>,
        target: &Target,
        destination: &Pod,
        record: &ConnectionRecord,
    ) -> Result<(Delivery, Admission), Failure> {
        let to = SocketAddr::new(target.ip, target.port);
        let fail = |refusal: Refusal| Failure { refusal, detail: to.to_string() };
        // As the mesh has it now: the endpoint may have been chosen a while ago.
        let local = self.workload(destination).await.ok_or_else(|| fail(Refusal::UnknownWorkload))?;
        let application = decision::inbound_local(&local, to).map_err(fail)?;
        let direct = Direct { destination: local, target: application, service: target.service.clone() };
        record.describe(Parties::direct(source.workload, &direct));
        if destination.budget.is_short() {
            return Err(fail(Refusal::OutOfMemory));
        }
        let attempt = Attempt {
            peer: Some(source.workload.identity.clone()),
            source: source.client.ip(),
            destination: application,
            door: None,
        };
        let by = self.admit(destination, attempt, record).await?;
        // Direct connections of the same client may come beside it.
        let (client, target) = (source.client, application);
        Ok((Delivery { client, target, device: None, port: Port::UnlessTaken, early: false }, by))
    }

    /// Has the destination's policies judge the requests, as if they had come through a tunnel.
    fn judge_here(
        self: &Rc<Self>,
        destination: &Rc<Pod>,
        arrival: Arrival,
        by: Admission,
        record: ConnectionRecord,
    ) -> Upstream {
        let (mut ours, theirs) = here::pair();
        let serving = Serving::new(self, destination, arrival);
        let peer = serving.peer.clone();
        ours.peer = Some(peer.clone());
        let (proxy, pod) = (self.clone(), destination.clone());
        let live: Rc<here::Cut> = Rc::default();
        let listed = pod.list_admitted(live.clone(), by, &self.shared.mesh);
        spawn_local(async move {
            let _listed = listed;
            tokio::select! {
                () = serving.run(&proxy, &pod, theirs) => record.finish(),
                (why, detail) = live.ordered() => {
                    peer.break_off();
                    record.fail(why, &detail);
                }
            }
        });
        Upstream::here(ours)
    }

    /// A stream that the far end has accepted, and how much of `early` went with the request.
    pub async fn open(&self, source: &Source<'_>, route: &Route, early: &[u8]) -> Result<(Asked, usize), Failure> {
        let Source { pod, .. } = source;
        if self.credentials_soon(&pod.identity).await.is_none() {
            return Err(Failure { refusal: Refusal::NoIdentity, detail: pod.identity.to_string() });
        }
        let (request, began) = (self.request(source, route), Instant::now());
        let mut lost = Failure { refusal: Refusal::TunnelLost, detail: String::new() };
        for _ in 0..ATTEMPTS {
            let tunnel = pod.pool.tunnel(route, || self.credentials(&pod.identity))?;
            let was_up = tunnel.peer.get().is_some();
            let (stream, sent) = tunnel.open(&request, early);
            let asked = Asked(Some(stream.clone()));
            lost = match stream.answer().await {
                Answer::Open => {
                    self.thread.telemetry.connected(Direction::Outbound, began.elapsed());
                    return Ok((asked, sent));
                }
                Answer::Refused(status) => {
                    let detail = format!("{} answers {status}", route.dial);
                    return Err(Failure { refusal: Refusal::from_status(status), detail });
                }
                // Whoever asks still has all that it said, so asking again does no harm.
                Answer::Unprocessed => {
                    asked.give_up(None);
                    Failure { refusal: Refusal::TunnelLost, detail: format!("{} takes no more streams", route.dial) }
                }
                Answer::Wrong(violation) => {
                    let detail = format!("{}: {violation}", route.dial);
                    asked.give_up(Some(violation.code));
                    return Err(Failure { refusal: Refusal::StreamViolation, detail });
                }
                Answer::Lost(refusal, detail) => {
                    asked.give_up(None);
                    match refusal {
                        Refusal::TunnelLost | Refusal::TunnelViolation if was_up => Failure { refusal, detail },
                        _ => return Err(Failure { refusal, detail }),
                    }
                }
            };
        }
        Err(lost)
    }

    /// The CONNECT request (facts of HBONE: authority, and who asks on whose behalf).
    fn request(&self, source: &Source<'_>, route: &Route) -> Block {
        let Source { pod, workload, client, span, .. } = source;
        let mut block = Block::connect(&route.authority.to_string());
        block.fields(&pod.baggage(workload));
        match &route.service {
            Some(service) => block.field("forwarded", &format!("for=\"{client}\";host={}", service.key.hostname())),
            None => block.field("forwarded", &format!("for=\"{client}\"")),
        };
        let mut rng = self.rng.borrow_mut();
        let nobodys = || TraceContext::of_nobody(&mut rng);
        block.field("traceparent", &span.unwrap_or_else(nobodys).to_string());
        block
    }

    /// A connection to a destination that has no tunnel.
    pub async fn dial(&self, pod: &Pod, to: SocketAddr) -> io::Result<TcpStream> {
        let began = Instant::now();
        let server = pod.stash.connect(&pod.netns, None, to, false).await?;
        self.thread.telemetry.connected(Direction::Outbound, began.elapsed());
        // Fails only where the socket is gone, which whoever reads next will meet.
        let _ = sockets::keep_alive(&SockRef::from(&server));
        Ok(server)
    }
}

#[cfg(test)]
mod tests;
