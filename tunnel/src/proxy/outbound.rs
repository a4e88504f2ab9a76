//! The first tour: a connection that an application makes, from its socket into a tunnel.
use super::caller::Caller;
use super::connector::Source;
use super::{named, requests, Proxy};
use crate::base::refusal::quoted;
use crate::base::{canonical, Failure, OriginalDst, Refusal};
use crate::decision::{self, Outbound, Plain, Route, Routed};
use crate::mesh::Workload;
use crate::node::{Listed, Pod};
use crate::pending::Unreachable;
use crate::relay::pipe::Pipe;
use crate::relay::{CloseReason, Live, TcpDuplex};
use crate::sys::sockets;
use crate::telemetry::{ConnectionRecord, Direction, Parties};
use crate::tls::client_hello::server_name;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// Seconds for a ClientHello, where routes look at it; who says nothing for so long is not TLS.
const HELLO_TIMEOUT: u64 = 5;

/// A connection of a pod's application, from its SYN or its accept to close.
pub async fn serve(proxy: Rc<Proxy>, pod: Rc<Pod>, caller: Caller) {
    let wanted = caller.wanted();
    let source = proxy.workload(&pod).await;
    let client = canonical(caller.client());
    let client = source.as_ref().map_or(client, |source| own(source, client, wanted));
    let record = proxy.thread.telemetry.accept(Direction::Outbound, client, wanted.address());
    let Some(source) = source else {
        return refuse(&proxy, &pod, caller, &record, Refusal::UnknownWorkload);
    };
    let caller = match proxy.may_ask(&pod, wanted) {
        true => match caller.accept(&proxy, &pod).await {
            Ok(app) if proxy.answer_stream(&pod, &app).await => Caller::Connected(app, client),
            Ok(_) => return record.finish(),
            Err(Failure { refusal, detail }) => return record.fail(refusal, &detail),
        },
        false => caller,
    };
    proxy.resolve_on_demand(&source, wanted).await;
    let decision = decision::outbound(&proxy.shared.mesh.load(), &source, wanted, &mut proxy.rng.borrow_mut());
    let decided = match decision {
        Outbound::Tls(routed) => by_sni(&proxy, &pod, caller, &source, wanted, routed).await,
        Outbound::Named => by_name(&proxy, &pod, caller, &source, wanted, &record).await,
        decision => Ok((caller, decision)),
    };
    let (caller, decision) = match decided {
        Ok(decided) => decided,
        Err(Failure { refusal, detail }) => return record.fail(refusal, &detail),
    };
    record.describe(Parties::outbound(&source, &decision));
    go(&proxy, Source { pod: &pod, workload: &source, client }, wanted, caller, decision, record).await;
}

/// Does what was decided for a connection.
pub async fn go(
    proxy: &Rc<Proxy>,
    source: Source<'_>,
    wanted: OriginalDst,
    caller: Caller,
    decision: Outbound,
    record: ConnectionRecord,
) {
    let pod = source.pod;
    match decision {
        _ if pod.budget.is_short() => refuse(proxy, pod, caller, &record, Refusal::OutOfMemory),
        Outbound::Hbone(route) => through_tunnel(proxy, source, wanted, caller, &route, record).await,
        Outbound::Plain(Plain { addr, .. }) => plain(proxy, pod, caller, addr, record, |pipe| pod.list(pipe)).await,
        Outbound::Passthrough { addr } => {
            let list = |pipe| pod.list_leaving(pipe, wanted, &proxy.shared.mesh);
            plain(proxy, pod, caller, addr, record, list).await;
        }
        Outbound::Refuse(why) => refuse(proxy, pod, caller, &record, why),
        Outbound::Http(routed) => match caller.accept(proxy, pod).await {
            Ok(app) => requests::serve(proxy, source, wanted, TcpDuplex::accepted(app, record), routed).await,
            Err(Failure { refusal, detail }) => record.fail(refusal, &detail),
        },
        // `by_sni` and `by_name` give none of these.
        Outbound::Tls(_) | Outbound::Named => refuse(proxy, pod, caller, &record, Refusal::NoRoute),
    }
}

/// Accepts a connection, to decide by the server that its ClientHello names. What was said stays in the socket.
async fn by_sni(
    proxy: &Proxy,
    pod: &Pod,
    caller: Caller,
    source: &Workload,
    wanted: OriginalDst,
    routed: Routed,
) -> Result<(Caller, Outbound), Failure> {
    let client = caller.client();
    let app = caller.accept(proxy, pod).await?;
    let sni = proxy.thread.clock.timeout(HELLO_TIMEOUT, server_name(&app)).await.unwrap_or_default();
    let mesh = proxy.shared.mesh.load();
    let decision = routed.connect(&mesh, source, wanted, sni.as_deref(), &mut proxy.rng.borrow_mut());
    Ok((Caller::Connected(app, client), decision.unwrap_or_else(Outbound::Refuse)))
}

/// Accepts a connection, to decide by the service that its client names.
async fn by_name(
    proxy: &Proxy,
    pod: &Pod,
    caller: Caller,
    source: &Arc<Workload>,
    wanted: OriginalDst,
    record: &ConnectionRecord,
) -> Result<(Caller, Outbound), Failure> {
    let client = caller.client();
    let app = caller.accept(proxy, pod).await?;
    let by: Vec<_> = proxy.shared.mesh.load().named_in(wanted.port()).collect();
    let said = proxy.thread.clock.timeout(HELLO_TIMEOUT, named::said(&app, &by)).await.unwrap_or_default();
    let mesh = proxy.shared.mesh.load(); // what it names may have become known while it was waited for
    let decision = decision::named(&mesh, source, wanted, said.as_ref(), &mut proxy.rng.borrow_mut());
    let caller = Caller::Connected(app, client);
    match (decision, said) {
        (Err(refusal), Some(said)) => {
            let detail = format!("the client names {}", quoted(&said.name));
            record.describe(Parties::outbound(source, &Outbound::Refuse(refusal)));
            caller.refuse(proxy, pod, record, &Failure { refusal, detail }, Unreachable::Port);
            Err(Failure { refusal, detail: String::new() }) // its record is written
        }
        (decision, _) => Ok((caller, decision.unwrap_or_else(Outbound::Refuse))),
    }
}

/// The client as others know it: the redirection has made its address loopback.
fn own(source: &Workload, client: SocketAddr, wanted: OriginalDst) -> SocketAddr {
    let family = |ip: &&IpAddr| ip.is_ipv4() == wanted.ip().is_ipv4();
    let ip = source.addresses.iter().find(family).copied().unwrap_or(client.ip());
    SocketAddr::new(ip, client.port())
}

async fn through_tunnel(
    proxy: &Rc<Proxy>,
    source: Source<'_>,
    wanted: OriginalDst,
    mut caller: Caller,
    route: &Route,
    record: ConnectionRecord,
) {
    let pod = source.pod;
    // What the application says first goes with the request, which saves a round trip. It stays in the socket until
    // the far end has accepted: then it counts as delivered, and as often as it takes it can be sent again.
    let (early, failed) = match caller.early() {
        Ok(early) => (early, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let opened = caller.wait(&proxy.thread.clock, proxy.open(&source, route, &early)).await;
    let (asked, sent) = match opened.and_then(|opened| opened) {
        Ok(opened) => opened,
        Err(why) => return caller.refuse(proxy, pod, &record, &why, Unreachable::Port),
    };
    proxy.offer_direct(pod, source.workload, wanted, &route.destination);
    match caller.accept(proxy, pod).await {
        Ok(app) => {
            let stream = asked.take();
            sockets::discard(&app, sent);
            record.sent(sent as u64);
            let _listed = pod.list(stream.clone());
            if let Some(error) = failed {
                stream.fail(CloseReason::App(Rc::new(error))); // the far end's application learns it, too
            }
            stream.relay(app, record).await;
        }
        Err(Failure { refusal, detail }) => record.fail(refusal, &detail),
    }
}

/// To a destination that has no tunnel.
async fn plain(
    proxy: &Rc<Proxy>,
    pod: &Rc<Pod>,
    mut caller: Caller,
    to: SocketAddr,
    record: ConnectionRecord,
    list: impl FnOnce(Rc<dyn Live>) -> Listed,
) {
    let (why, as_seen) = match caller.wait(&proxy.thread.clock, proxy.dial(pod, to)).await {
        Ok(Ok(server)) => {
            match caller.accept(proxy, pod).await {
                Ok(app) => {
                    let pipe = Pipe::new(&proxy.thread, pod.info(), app, server, record);
                    let _listed = list(pipe.clone());
                    pipe.relay().await;
                }
                Err(Failure { refusal, detail }) => record.fail(refusal, &detail),
            }
            return;
        }
        Ok(Err(error)) => (sockets::connect_failure(to, &error), Unreachable::from(&error)),
        Err(why) => (why, Unreachable::Port),
    };
    caller.refuse(proxy, pod, &record, &why, as_seen);
}

fn refuse(proxy: &Proxy, pod: &Pod, caller: Caller, record: &ConnectionRecord, refusal: Refusal) {
    caller.refuse(proxy, pod, record, &Failure { refusal, detail: String::new() }, Unreachable::Port);
}
