//! The first tour: a connection that an application makes, from its socket into a tunnel.
use super::caller::Caller;
use super::connector::Source;
use super::reached::{failed, join, reach, Joined, Lost, Reached};
use super::{governed, named, requests, Proxy};
use crate::base::refusal::quoted;
use crate::base::{canonical, Failure, OriginalDst, Refusal};
use crate::decision::{self, Hello, Outbound, Plain, Routed, Said, Way};
use crate::mesh::Workload;
use crate::node::Pod;
use crate::pending::Unreachable;
use crate::relay::TcpDuplex;
use crate::routes::Scope;
use crate::telemetry::{ConnectionRecord, Direction, Parties};
use crate::tls::client_hello::server_name;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// Seconds for a ClientHello, where routes look at it; who says nothing for so long is not TLS.
const HELLO_TIMEOUT: u64 = 5;
/// Endpoints that are tried for a connection (Istio's max_connect_attempts), and how often another one is drawn for.
const ATTEMPTS: usize = 10;
const DRAWS: usize = 16;

/// Decides for a connection, as often as it is asked: each time one of several endpoints may be drawn.
type Decide<'a> = &'a dyn Fn() -> Outbound;

/// A connection of a pod's application, from its SYN or its accept to close.
pub async fn serve(proxy: Rc<Proxy>, pod: Rc<Pod>, caller: Caller) {
    // Boxed, as it has an end: else every connection would keep room for how it began, 4 kB.
    if let Some(joined) = Box::pin(begin(&proxy, &pod, caller)).await {
        joined.carry().await;
    }
}

/// Up to where bytes are only carried; a connection whose requests are read is served to its end, and None.
async fn begin(proxy: &Rc<Proxy>, pod: &Rc<Pod>, caller: Caller) -> Option<Joined> {
    let wanted = caller.wanted();
    let source = proxy.workload(pod).await;
    let client = canonical(caller.client());
    let client = source.as_ref().map_or(client, |source| own(source, client, wanted));
    let record = proxy.accept(pod, Direction::Outbound, client, wanted.address());
    let Some(workload) = source else {
        return refuse(proxy, pod, caller, &record, Refusal::UnknownWorkload);
    };
    let caller = match proxy.may_ask(pod, wanted) {
        true => match caller.accept(proxy, pod).await {
            Ok(app) if proxy.answer_stream(pod, &app).await => Caller::Connected(app, client),
            Ok(_) => {
                record.finish();
                return None;
            }
            Err(failure) => return failed(&record, &failure),
        },
        false => caller,
    };
    proxy.resolve_on_demand(&workload, wanted).await;
    let decide = || decision::outbound(&proxy.shared.mesh.load(), &workload, wanted, &mut proxy.rng.borrow_mut());
    let source = Source { pod, workload: &workload, client, span: None, by: None };
    match decide() {
        Outbound::Tls(routed) => match hello(proxy, pod, caller).await {
            Ok((caller, sni)) => go_by_sni(proxy, source, wanted, caller, &routed, sni, record).await,
            Err(failure) => failed(&record, &failure),
        },
        Outbound::Named => match by_name(proxy, pod, caller, &workload, wanted, &record).await {
            Ok((caller, Outbound::Tls(routed), said)) => {
                let sni = said.map(|said| said.name);
                go_by_sni(proxy, source, wanted, caller, &routed, sni, record).await
            }
            Ok((caller, decision, said)) => {
                let by_name = || named_again(proxy, &workload, wanted, said.as_ref());
                go(proxy, source, wanted, caller, decision, &by_name, record).await
            }
            Err(failure) => failed(&record, &failure),
        },
        decision => go(proxy, source, wanted, caller, decision, &decide, record).await,
    }
}

/// By the rules for what a ClientHello names.
async fn go_by_sni(
    proxy: &Rc<Proxy>,
    source: Source<'_>,
    wanted: OriginalDst,
    caller: Caller,
    routed: &Routed,
    sni: Option<String>,
    record: ConnectionRecord,
) -> Option<Joined> {
    let (workload, addresses) = (source.workload, look_up(proxy, &routed.scope, sni.as_deref()).await);
    let decide = || {
        let (mesh, hello) = (proxy.shared.mesh.load(), Hello { sni: sni.as_deref(), addresses: &addresses });
        let decided = routed.connect(&mesh, workload, wanted, hello, &mut proxy.rng.borrow_mut());
        decided.unwrap_or_else(Outbound::Refuse)
    };
    go(proxy, source, wanted, caller, decide(), &decide, record).await
}

/// What DNS has for the server that a client names, where rules may send there.
pub async fn look_up(proxy: &Proxy, scope: &Scope, sni: Option<&str>) -> Arc<[IpAddr]> {
    match sni.and_then(|sni| scope.name_of(sni)) {
        Some(name) => proxy.look_up(&name).await,
        None => Arc::default(),
    }
}

fn named_again(proxy: &Proxy, source: &Workload, wanted: OriginalDst, said: Option<&Said>) -> Outbound {
    let decided = decision::named(&proxy.shared.mesh.load(), source, wanted, said, &mut proxy.rng.borrow_mut());
    decided.unwrap_or_else(Outbound::Refuse)
}

/// Does what was decided for a connection; `decide` gives other endpoints than that. What is left is to carry its bytes.
pub async fn go(
    proxy: &Rc<Proxy>,
    source: Source<'_>,
    wanted: OriginalDst,
    mut caller: Caller,
    decision: Outbound,
    decide: Decide<'_>,
    record: ConnectionRecord,
) -> Option<Joined> {
    let pod = source.pod;
    let span = match decision {
        Outbound::Http(_) => None, // its requests have their own
        _ => record.trace(None, &mut proxy.rng.borrow_mut()),
    };
    let source = Source { span, ..source };
    if pod.budget.is_short() {
        record.describe(Parties::outbound(source.workload, &decision));
        return refuse(proxy, pod, caller, &record, Refusal::OutOfMemory);
    }
    // What reads requests is boxed: else every connection would begin with room for what a router needs, 6 kB.
    match decision {
        Outbound::Hbone(route) => anywhere(proxy, source, wanted, caller, Way::Hbone(route), decide, record).await,
        Outbound::Plain(plain) => anywhere(proxy, source, wanted, caller, Way::Plain(plain), decide, record).await,
        Outbound::Governed(governed) => {
            Box::pin(governed::serve(proxy, source, wanted, caller, governed, record)).await;
            None
        }
        Outbound::Http(_) | Outbound::Tls(_) | Outbound::Named | Outbound::Passthrough { .. } | Outbound::Refuse(_) => {
            record.describe(Parties::outbound(source.workload, &decision));
            match decision {
                Outbound::Http(routed) => match caller.accept(proxy, pod).await {
                    Ok(app) => {
                        let app = TcpDuplex::accepted(app, record);
                        Box::pin(requests::serve(proxy, source, wanted, app, routed)).await;
                        None
                    }
                    Err(failure) => failed(&record, &failure),
                },
                Outbound::Passthrough { addr } => {
                    let way = Way::Plain(Plain { addr, destination: None, service: None });
                    match reach(proxy, &source, &way, &mut caller).await {
                        Ok(reached) => {
                            let list = |pipe| pod.list_leaving(pipe, wanted, &proxy.shared.mesh);
                            join(proxy, pod, caller, reached, record, list).await
                        }
                        Err(Lost { why, as_seen, .. }) => {
                            caller.refuse(proxy, pod, &record, &why, as_seen);
                            None
                        }
                    }
                }
                Outbound::Refuse(why) => refuse(proxy, pod, caller, &record, why),
                _ => refuse(proxy, pod, caller, &record, Refusal::NoRoute), // what the client says first has been read
            }
        }
    }
}

/// To one endpoint, or if it cannot be reached to another one.
async fn anywhere(
    proxy: &Rc<Proxy>,
    source: Source<'_>,
    wanted: OriginalDst,
    mut caller: Caller,
    mut way: Way,
    decide: Decide<'_>,
    record: ConnectionRecord,
) -> Option<Joined> {
    let (pod, mut tried) = (source.pod, vec![]);
    loop {
        let reached = reach(proxy, &source, &way, &mut caller).await;
        let described = || record.describe(Parties::outbound(source.workload, &way.clone().into()));
        let lost = match reached {
            Ok(reached) => {
                described();
                if let (Way::Hbone(route), Reached::Stream { .. }) = (&way, &reached) {
                    proxy.offer_direct(pod, source.workload, wanted, &route.destination);
                }
                let list = |pipe| source.list(pipe, &proxy.shared.mesh);
                return join(proxy, pod, caller, reached, record, list).await;
            }
            Err(lost) => lost,
        };
        tried.push(way.dials());
        let again = lost.again && tried.len() < ATTEMPTS;
        match again.then(|| another(decide, &tried)).flatten() {
            Some(another) => way = another,
            None => {
                described();
                caller.refuse(proxy, pod, &record, &lost.why, lost.as_seen);
                return None;
            }
        }
    }
}

/// A way to an endpoint that was not tried, as far as one is drawn.
fn another(decide: Decide<'_>, tried: &[SocketAddr]) -> Option<Way> {
    let way = |_| match decide() {
        Outbound::Hbone(route) => Some(Way::Hbone(route)),
        Outbound::Plain(plain) => Some(Way::Plain(plain)),
        _ => None,
    };
    (0..DRAWS).map_while(way).find(|way| !tried.contains(&way.dials()))
}

/// Accepts a connection, to read which server its ClientHello names. What was said stays in the socket.
async fn hello(proxy: &Proxy, pod: &Pod, caller: Caller) -> Result<(Caller, Option<String>), Failure> {
    let client = caller.client();
    let app = caller.accept(proxy, pod).await?;
    let sni = proxy.thread.clock.timeout(HELLO_TIMEOUT, server_name(&app)).await.unwrap_or_default();
    Ok((Caller::Connected(app, client), sni))
}

/// Accepts a connection, to decide by the service that its client names.
async fn by_name(
    proxy: &Proxy,
    pod: &Pod,
    caller: Caller,
    source: &Arc<Workload>,
    wanted: OriginalDst,
    record: &ConnectionRecord,
) -> Result<(Caller, Outbound, Option<Said>), Failure> {
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
        (decision, said) => Ok((caller, decision.unwrap_or_else(Outbound::Refuse), said)),
    }
}

/// The client as others know it: the redirection has made its address loopback.
fn own(source: &Workload, client: SocketAddr, wanted: OriginalDst) -> SocketAddr {
    let family = |ip: &&IpAddr| ip.is_ipv4() == wanted.ip().is_ipv4();
    let ip = source.addresses.iter().find(family).copied().unwrap_or(client.ip());
    SocketAddr::new(ip, client.port())
}

fn refuse(proxy: &Proxy, pod: &Pod, caller: Caller, record: &ConnectionRecord, refusal: Refusal) -> Option<Joined> {
    caller.refuse(proxy, pod, record, &Failure { refusal, detail: String::new() }, Unreachable::Port);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::proto::Action;
    use crate::proxy::testing::{application, carries, policy, Node};
    use crate::sys::budget::{Share, POD};
    use std::future::Future;
    use tokio::net::TcpStream;
    use tokio::select;

    fn size<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_takes_little_memory() {
        assert!(size(serve) <= 5 << 10, "{}", size(serve));
    }
    #[test]
    fn a_pod_for_which_much_waits_already_connects_to_nothing_new() {
        Node::run(policy(Action::Deny, "another"), async |node| {
            let (listener, address) = application("127.0.0.9").await;
            for waits in [POD, 0] {
                let mut client = TcpStream::connect(address).await.unwrap();
                let (redirected, from) = listener.accept().await.unwrap();
                let waiting = Share::of(&node.client.budget);
                waiting.hold_anyway(waits);
                select! {
                    () = serve(node.proxy.clone(), node.client.clone(), Caller::Connected(redirected, from)) => assert!(waits > 0),
                    () = async {
                        let (mut app, _) = listener.accept().await.unwrap();
                        assert_eq!(waits, 0, "it is dialled");
                        carries(&mut client, &mut app).await;
                    } => {}
                }
            }
        });
    }
}
