//! An endpoint that has answered a connection, and what carries the bytes to it from then on.
use super::caller::Caller;
use super::connector::{Asked, Source};
use super::upstream::Upstream;
use super::Proxy;
use crate::base::{Failure, Refusal};
use crate::decision::{Plain, Way};
use crate::hbone::stream::Stream;
use crate::node::{Listed, Pod};
use crate::pending::Unreachable;
use crate::relay::pipe::Pipe;
use crate::relay::{CloseReason, Live, TcpDuplex};
use crate::sys::sockets;
use crate::telemetry::ConnectionRecord;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;

/// Bytes that a connection with layers holds in each direction.
const COPIED: usize = 16 << 10;

pub enum Reached {
    Stream {
        asked: Asked,
        /// Bytes that went with the request.
        sent: usize,
        /// The application's socket, before the far end had answered.
        failed: Option<io::Error>,
    },
    Socket(TcpStream),
    /// With what its destination's policy puts around it.
    Layered(Upstream),
}

/// Why an endpoint was not reached, and what connect() tells of it.
pub struct Lost {
    pub why: Failure,
    pub as_seen: Unreachable,
    /// Whether another endpoint may be tried: nothing of what the application said can have been delivered.
    pub again: bool,
}

impl From<Failure> for Lost {
    fn from(why: Failure) -> Lost {
        Lost { again: why.refusal.is_of_endpoint(), why, as_seen: Unreachable::Port }
    }
}

/// Connects to an endpoint, as long as the application waits for it.
pub async fn reach(proxy: &Rc<Proxy>, source: &Source<'_>, way: &Way, caller: &mut Caller) -> Result<Reached, Lost> {
    match way {
        Way::Hbone(route) => {
            // What the application says first goes with the request, which saves a round trip. It stays in the socket until
            // the far end has accepted: then it counts as delivered, and as often as it takes it can be sent again.
            let (early, failed) = match caller.early() {
                Ok(early) => (early, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            let opened = caller.wait(&proxy.thread.clock, proxy.open(source, route, &early)).await;
            let (asked, sent) = opened?.map_err(|why| {
                // A tunnel that broke may have delivered what went with the request.
                let delivered = matches!(why.refusal, Refusal::TunnelLost | Refusal::TunnelViolation);
                let lost = Lost::from(why);
                Lost { again: lost.again && (early.is_empty() || !delivered), ..lost }
            })?;
            Ok(Reached::Stream { asked, sent, failed })
        }
        Way::Plain(Plain { addr, .. }) => {
            match caller.wait(&proxy.thread.clock, proxy.dial(source.pod, *addr)).await? {
                Ok(server) => Ok(Reached::Socket(server)),
                Err(error) => {
                    let as_seen = Unreachable::from(&error);
                    Err(Lost { as_seen, ..sockets::connect_failure(*addr, &error).into() })
                }
            }
        }
    }
}

/// A connection that both ends have accepted, and what carries its bytes from now on.
pub struct Joined {
    carrier: Carrier,
    _listed: Listed,
}

enum Carrier {
    Stream(Rc<Stream>, TcpStream, ConnectionRecord),
    Pipe(Rc<Pipe>),
    Layers(Pin<Box<dyn Future<Output = ()>>>),
}

/// Accepts a connection whose endpoint has answered: now connect() succeeds. None where the application has given up.
pub async fn join(
    proxy: &Rc<Proxy>,
    pod: &Rc<Pod>,
    caller: Caller,
    reached: Reached,
    record: ConnectionRecord,
    list: impl FnOnce(Rc<dyn Live>) -> Listed,
) -> Option<Joined> {
    let app = match caller.accept(proxy, pod).await {
        Ok(app) => app,
        Err(failure) => return failed(&record, &failure),
    };
    Some(match reached {
        Reached::Stream { asked, sent, failed } => {
            let stream = asked.take();
            sockets::discard(&app, sent);
            record.sent(sent as u64);
            let _listed = list(stream.clone());
            if let Some(error) = failed {
                stream.fail(CloseReason::App(Rc::new(error))); // the far end's application learns it, too
            }
            Joined { carrier: Carrier::Stream(stream, app, record), _listed }
        }
        Reached::Socket(server) => {
            let pipe = Pipe::new(&proxy.thread, pod.info(), app, server, record);
            Joined { _listed: list(pipe.clone()), carrier: Carrier::Pipe(pipe) }
        }
        Reached::Layered(upstream) => {
            let app = TcpDuplex::accepted(app, record);
            let live = app.live();
            Joined { _listed: list(live.clone()), carrier: Carrier::Layers(Box::pin(copy(app, upstream, live))) }
        }
    })
}

/// There is nothing to carry.
pub fn failed(record: &ConnectionRecord, Failure { refusal, detail }: &Failure) -> Option<Joined> {
    record.fail(*refusal, detail);
    None
}

impl Joined {
    /// Until both ends have ended, or something breaks.
    pub async fn carry(self) {
        match self.carrier {
            Carrier::Stream(stream, app, record) => stream.relay(app, record).await,
            Carrier::Pipe(pipe) => pipe.relay().await,
            Carrier::Layers(copying) => copying.await,
        }
    }
}

async fn copy(mut app: TcpDuplex, mut upstream: Upstream, live: Rc<dyn Live>) {
    if let Err(error) = copy_bidirectional_with_sizes(&mut app, &mut upstream, COPIED, COPIED).await {
        let why = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
        let (why, detail) =
            why.map_or((Refusal::PeerReset, error.to_string()), |why| (why.refusal, why.detail.clone()));
        live.cancel(why, &detail);
    }
}
