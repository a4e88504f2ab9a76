//! The first tour: a connection that an application makes, from its socket into a tunnel.
use crate::base::canonical;
use crate::base::Failure;
use crate::base::OriginalDst;
use crate::base::Refusal;
use crate::decision::{self, Outbound, Plain, Route};
use crate::engine::worker::Worker;
use crate::h2::frame::Code;
use crate::h2::headers::Block;
use crate::hbone::stream::{Answer, Stream};
use crate::mesh::Workload;
use crate::node::pod::{Listed, Pod};
use crate::pending::Unreachable;
use crate::proxy::caller::Caller;
use crate::relay::pipe::Pipe;
use crate::relay::CloseReason;
use crate::relay::Live;
use crate::sys::panics::OnPanic;
use crate::sys::sockets;
use crate::telemetry::{Baggage, ConnectionRecord, Direction, Parties};
use socket2::SockRef;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// How often a stream is asked for, where a peer says that it has not looked at it.
const ATTEMPTS: usize = 3;

/// A connection of a pod's application, from its SYN or its accept to close.
pub async fn serve(worker: Rc<Worker>, pod: Rc<Pod>, caller: Caller) {
    let wanted = caller.wanted();
    let source = worker.workload(&pod).await;
    let client = canonical(caller.client());
    let client = source.as_ref().map_or(client, |source| own(source, client, wanted));
    let record = worker.telemetry.accept(Direction::Outbound, client, wanted.address());
    let Some(source) = source else {
        return refuse(&worker, &pod, caller, &record, Refusal::UnknownWorkload);
    };
    worker.acquaint(&source, wanted).await;
    let decision = decision::outbound(&worker.shared.mesh.load(), &source, wanted, &mut worker.rng.borrow_mut());
    record.describe(Parties::outbound(&source, &decision));
    match decision {
        _ if pod.budget.is_short() => refuse(&worker, &pod, caller, &record, Refusal::OutOfMemory),
        Outbound::Hbone(route) => {
            let from = Origin { client, source: &source, wanted };
            through_tunnel(&worker, &pod, caller, from, &route, record).await;
        }
        Outbound::Plain(Plain { addr, .. }) => plain(&worker, &pod, caller, addr, record, |pipe| pod.list(pipe)).await,
        Outbound::Passthrough { addr } => {
            let list = |pipe| pod.list_leaving(pipe, wanted, &worker.shared.mesh);
            plain(&worker, &pod, caller, addr, record, list).await;
        }
        Outbound::Refuse(why) => refuse(&worker, &pod, caller, &record, why),
    }
}

/// The client as others know it: the redirection has made its address loopback.
fn own(source: &Workload, client: SocketAddr, wanted: OriginalDst) -> SocketAddr {
    let family = |ip: &&IpAddr| ip.is_ipv4() == wanted.ip().is_ipv4();
    let ip = source.addresses.iter().find(family).copied().unwrap_or(client.ip());
    SocketAddr::new(ip, client.port())
}

/// What an application wants: who it is, and where to.
struct Origin<'a> {
    client: SocketAddr,
    source: &'a Arc<Workload>,
    wanted: OriginalDst,
}

async fn through_tunnel(
    worker: &Rc<Worker>,
    pod: &Rc<Pod>,
    mut caller: Caller,
    Origin { client, source, wanted }: Origin<'_>,
    route: &Route,
    record: ConnectionRecord,
) {
    if worker.credentials_soon(&pod.identity).await.is_none() {
        let why = Failure { refusal: Refusal::NoIdentity, detail: pod.identity.to_string() };
        return caller.refuse(worker, pod, &record, &why, Unreachable::Port);
    }
    let request = request(worker, pod, client, source, route);
    // What the application says first goes with the request, which saves a round trip. It stays in the socket until
    // the far end has accepted: then it counts as delivered, and as often as it takes it can be sent again.
    let (early, failed) = match caller.early() {
        Ok(early) => (early, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let (stream, sent) = match open(worker, pod, &mut caller, route, &request, &early).await {
        Ok(opened) => opened,
        Err(why) => return caller.refuse(worker, pod, &record, &why, Unreachable::Port),
    };
    worker.offer_direct(pod, source, wanted, &route.destination);
    match caller.accept(worker, pod).await {
        Ok(app) => {
            sockets::discard(&app, sent);
            record.sent(sent as u64);
            let _listed = pod.list(stream.clone());
            if let Some(error) = failed {
                stream.fail(CloseReason::App(Rc::new(error))); // the far end's application learns it, too
            }
            stream.relay(app, record).await;
        }
        Err(Failure { refusal, detail }) => {
            stream.tunnel().close(stream.id, Some(Code::CANCEL));
            record.fail(refusal, &detail);
        }
    }
}

/// A stream that the far end has accepted, and how much of `early` went with the request.
async fn open(
    worker: &Rc<Worker>,
    pod: &Rc<Pod>,
    caller: &mut Caller,
    route: &Route,
    request: &Block,
    early: &[u8],
) -> Result<(Rc<Stream>, usize), Failure> {
    let mut lost = Failure { refusal: Refusal::TunnelLost, detail: String::new() };
    for _ in 0..ATTEMPTS {
        let tunnel = pod.pool.tunnel(worker, pod, route)?;
        let was_up = tunnel.peer.get().is_some();
        let (stream, sent) = tunnel.open(request, early);
        let _guard = OnPanic(|| stream.break_down());
        let answer = caller.wait(&worker.clock, stream.answer()).await;
        lost = match answer {
            Ok(Answer::Open) => return Ok((stream.clone(), sent)),
            Ok(Answer::Refused(status)) => {
                tunnel.close(stream.id, Some(Code::CANCEL));
                let detail = format!("{} answers {status}", route.dial);
                return Err(Failure { refusal: Refusal::from_status(status), detail });
            }
            // The application still has all that it said, so asking again does no harm.
            Ok(Answer::Unprocessed) => {
                tunnel.close(stream.id, None);
                Failure { refusal: Refusal::TunnelLost, detail: format!("{} takes no more streams", route.dial) }
            }
            Ok(Answer::Wrong(violation)) => {
                tunnel.close(stream.id, Some(violation.code));
                let detail = format!("{}: {violation}", route.dial);
                return Err(Failure { refusal: Refusal::StreamViolation, detail });
            }
            Ok(Answer::Lost(refusal, detail)) => {
                tunnel.close(stream.id, None);
                match refusal {
                    Refusal::TunnelLost | Refusal::TunnelViolation if was_up => Failure { refusal, detail },
                    _ => return Err(Failure { refusal, detail }),
                }
            }
            Err(why) => {
                tunnel.close(stream.id, Some(Code::CANCEL));
                return Err(why);
            }
        };
    }
    Err(lost)
}

/// The CONNECT request (facts of HBONE: authority, and who asks on whose behalf).
fn request(worker: &Worker, pod: &Pod, client: SocketAddr, source: &Arc<Workload>, route: &Route) -> Block {
    let mut block = Block::connect(&route.authority.to_string());
    block.fields(&pod.baggage(source));
    match &route.service {
        Some(service) => block.field("forwarded", &format!("for=\"{client}\";host={}", service.key.hostname())),
        None => block.field("forwarded", &format!("for=\"{client}\"")),
    };
    let mut rng = worker.rng.borrow_mut();
    let trace = format!("00-{:016x}{:016x}-{:016x}-00", rng.draw(), rng.draw(), rng.draw());
    block.field("traceparent", &trace);
    block
}

/// To a destination that has no tunnel.
async fn plain(
    worker: &Rc<Worker>,
    pod: &Rc<Pod>,
    mut caller: Caller,
    to: SocketAddr,
    record: ConnectionRecord,
    list: impl FnOnce(Rc<dyn Live>) -> Listed,
) {
    let (why, as_seen) = match caller.wait(&worker.clock, pod.stash.connect(&pod.netns, None, to)).await {
        Ok(Ok(server)) => {
            // Fails only where the socket is gone, which whoever reads next will meet.
            let _ = sockets::keep_alive(&SockRef::from(&server));
            match caller.accept(worker, pod).await {
                Ok(app) => {
                    let pipe = Pipe::new(worker, pod, app, server, record);
                    let _listed = list(pipe.clone());
                    pipe.relay().await;
                }
                Err(Failure { refusal, detail }) => record.fail(refusal, &detail),
            }
            return;
        }
        Ok(Err(error)) => {
            let why = Failure { refusal: sockets::refusal(&error), detail: format!("{to}: {error}") };
            (why, Unreachable::from(&error))
        }
        Err(why) => (why, Unreachable::Port),
    };
    caller.refuse(worker, pod, &record, &why, as_seen);
}

fn refuse(worker: &Worker, pod: &Pod, caller: Caller, record: &ConnectionRecord, refusal: Refusal) {
    caller.refuse(worker, pod, record, &Failure { refusal, detail: String::new() }, Unreachable::Port);
}

/// What a pod says of itself to its peers.
pub fn baggage(workload: &Workload) -> Block {
    let mut block = Block::default();
    block.field("baggage", &Baggage::of(workload).to_string());
    block
}
