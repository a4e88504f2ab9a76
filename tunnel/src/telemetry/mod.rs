//! What is told about connections: exactly one record for each, in the metrics and in the access log.

mod attributes;
mod counts;
mod custom;
mod direction;
mod flags;
mod labels;
mod limit;
mod log;
mod lookups;
mod metrics;
mod observed;
mod otlp;
mod party;
mod phases;
mod recent;
mod record;
mod request;
mod series;
mod series_cache;
mod trace;
mod verdicts;
mod writer;

use std::cell::{OnceCell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{Identity, Refusal};
use crate::mesh::{Mesh, Scopes};
use crate::observability::{Attributes, Provider};
use crate::policy::Judgement;
use crate::sys::heap::Counted;
use arc_swap::ArcSwap;
use attributes::Described;
use counts::{ByReason, Counts};
pub use counts::{Pooled, TunnelUp};
use custom::Custom;
pub use direction::Direction;
pub use flags::Flags;
pub use log::{AccessLog, Which};
use log::{LogWriter, Record};
pub use lookups::Lookup;
pub use observed::Observed;
pub use otlp::{Batch, Signal};
pub use party::{Baggage, Parties, Path};
use phases::Phases;
pub use record::Tcp;
use record::{End, Facts};
pub use request::{Amount, Request};
use request::{RequestCache, RequestRegistry};
use series::{BaggageCache, Labels, Registry, Series};
use series_cache::SeriesCache;
pub use trace::{Context as TraceContext, Try as TracedTry};

/// What the telemetry of a process is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub access_log: AccessLog,
}

/// The telemetry of a process.
pub struct Telemetry {
    registry: Mutex<Registry<Labels, Series>>,
    requests: Mutex<RequestRegistry>,
    log: LogWriter,
    counts: Counts,
    /// By worker.
    phases: Mutex<Vec<Arc<Phases<AtomicU64>>>>,
    /// What is told of whose traffic, and since when.
    scopes: ArcSwap<(Scopes, Option<Instant>)>,
    /// How often series were expired: the turns of workers' caches.
    turn: AtomicU64,
}

impl Telemetry {
    /// Starts the writer of the access log, to standard error. Fails when there can be no thread for it.
    pub fn new(options: Options) -> io::Result<Arc<Telemetry>> {
        Self::with_output(options, io::stderr())
    }

    /// As [`Telemetry::new`], with another place for the access log.
    pub fn with_output(options: Options, output: impl io::Write + Send + 'static) -> io::Result<Arc<Telemetry>> {
        Ok(Arc::new(Telemetry {
            registry: Mutex::default(),
            requests: Mutex::default(),
            log: LogWriter::start(options.access_log, output)?,
            counts: Counts::default(),
            phases: Mutex::default(),
            scopes: ArcSwap::default(),
            turn: AtomicU64::default(),
        }))
    }

    /// The telemetry of one worker, to be asked for on the worker's own thread.
    pub fn worker(self: &Arc<Self>) -> WorkerTelemetry {
        let (phases, cache, baggage, requests) = <(Arc<Phases<_>>, _, _, _)>::default();
        let mut all = lock(&self.phases);
        let number = all.len();
        all.push(phases.clone());
        WorkerTelemetry(Rc::new(Worker { shared: self.clone(), number, phases, cache, baggage, requests }))
    }

    /// Has the traffic from now on told of as these say.
    pub fn configure(&self, scopes: &Scopes) {
        if self.scopes.load().0 != *scopes {
            self.scopes.store(Arc::new((scopes.clone(), Some(Instant::now()))));
        }
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let series = lock(&self.registry).totals();
        let mut phases = Phases::default();
        lock(&self.phases).iter().for_each(|worker| worker.add_to(&mut phases));
        metrics::encode(&series, &lock(&self.requests).totals(), &self.counts, &phases, &self.log)
    }

    /// Tells each policy's name, what it said, and how often.
    pub fn verdicts(&self, tell: impl FnMut(&str, &str, u64)) {
        self.counts.verdicts.each(tell);
    }

    /// What waits for OpenTelemetry's collectors, a batch of each provider and signal that is not busy.
    pub fn exports(&self, is_busy: impl Fn(&Provider, Signal) -> bool) -> Vec<Batch> {
        self.log.outbox().take(is_busy)
    }

    /// Forgets the series of workloads, services and policies that have left the mesh and had no traffic for five minutes,
    /// and tells of what the log has not told. To be called about once a minute.
    pub fn expire(&self, mesh: &Mesh) {
        self.log.tell_withheld();
        let now = Instant::now();
        let alive = series::Alive::of(mesh);
        let changed = self.scopes.load().1;
        lock(&self.registry).expire(&alive, changed, now);
        lock(&self.requests).expire(&alive, changed, now);
        self.counts.verdicts.expire(mesh, now);
        self.turn.fetch_add(1, Ordering::Relaxed);
    }
}

/// One worker's share. Stays on the worker's thread: its counters have one writer.
#[derive(Clone)]
pub struct WorkerTelemetry(Rc<Worker>);

struct Worker {
    shared: Arc<Telemetry>,
    number: usize,
    phases: Arc<Phases<AtomicU64>>,
    cache: RefCell<SeriesCache<(), Series>>,
    baggage: RefCell<BaggageCache>,
    requests: RefCell<RequestCache>,
}

impl WorkerTelemetry {
    /// A connection begins: `source` is who connected, `destination` whom they connected to.
    pub fn accept(&self, direction: Direction, source: SocketAddr, destination: SocketAddr) -> ConnectionRecord {
        self.accepted(direction, source, destination, Instant::now())
    }

    /// As `accept`, for one that began before.
    pub fn accepted(
        &self,
        direction: Direction,
        source: SocketAddr,
        destination: SocketAddr,
        at: Instant,
    ) -> ConnectionRecord {
        self.0.shared.counts.connections[direction as usize].fetch_add(1, Ordering::Relaxed);
        ConnectionRecord {
            worker: self.clone(),
            facts: Box::new(Facts::new(direction, source, destination, at)),
            peer: OnceCell::new(),
            series: OnceCell::new(),
            ended: OnceCell::new(),
            _counted: Counted::new(),
        }
    }

    /// A TLS handshake is done that took so long, and its tunnel open for as long as the result lives: at the client's
    /// end outbound, at the server's inbound.
    pub fn tunnel_up(&self, direction: Direction, took: Duration) -> TunnelUp {
        let shared = self.0.shared.clone();
        self.0.phases.handshake[direction as usize].took(took);
        shared.counts.tunnels[direction as usize].fetch_add(1, Ordering::Relaxed);
        TunnelUp::new(shared, direction)
    }

    /// There is no tunnel. Whoever waits for it records a connection of its own.
    pub fn handshake_failed(&self, direction: Direction, reason: Refusal) {
        self.0.shared.counts.handshakes_failed[direction as usize].count(reason);
    }

    /// A tunnel that was up has ended, and not in order.
    pub fn tunnel_lost(&self, direction: Direction, reason: Refusal) {
        self.0.shared.counts.tunnels_lost[direction as usize].count(reason);
    }

    /// A listener could not take the connection that waits for it.
    pub fn accept_failed(&self) {
        self.0.shared.counts.accepts_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A peer was turned away before it could ask for a connection. `peer`: who it is, as far as it has proven that.
    pub fn refused(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        peer: Option<Arc<Identity>>,
        reason: Refusal,
        detail: &str,
    ) {
        let now = Instant::now();
        let facts = Facts::new(Direction::Inbound, source, destination, now);
        facts.describe(Parties { source_identity: peer, ..Parties::default() });
        self.record(facts, false, End::new(now, Some(reason), detail));
    }

    /// A request is over.
    pub fn request(&self, request: Request) {
        let shared = &self.0.shared;
        let custom = self.custom(&request.parties, request.direction, &request);
        let turn = shared.turn.load(Ordering::Relaxed);
        let series = self.0.requests.borrow_mut().of(&request, custom, &shared.requests, self.0.number, turn);
        series.count(request.duration, request.sent, request.received);
        shared.log.request(request);
    }

    /// What a Telemetry makes different of the metrics of a request or connection.
    fn custom(&self, parties: &Parties, direction: Direction, of: &dyn Attributes) -> Option<Arc<Custom>> {
        let scopes = self.0.shared.scopes.load();
        match scopes.0.is_empty() {
            true => None,
            false => Custom::of(&scopes.0, parties, direction, of),
        }
    }

    /// What a peer that is in no resource says of itself in its `baggage`.
    pub fn baggage(&self, header: &[u8]) -> Option<Arc<Baggage>> {
        self.0.baggage.borrow_mut().get(header, Instant::now())
    }

    fn record(&self, facts: Facts, opened: bool, end: End) {
        let shared = &self.0.shared;
        if let Some(reason) = end.reason {
            shared.counts.refused[facts.direction as usize].count(reason);
        }
        shared.log.write(end.reason.is_some(), Record::new(facts, opened, end));
    }
}

/// One connection. Whatever happens to it, it is recorded once: when it is finished or has failed or, if nobody says
/// how it ended, when it is dropped.
pub struct ConnectionRecord {
    worker: WorkerTelemetry,
    facts: Box<Facts>,
    peer: OnceCell<Arc<Identity>>,
    series: OnceCell<Arc<Series>>,
    ended: OnceCell<()>,
    _counted: Counted,
}

impl ConnectionRecord {
    pub fn direction(&self) -> Direction {
        self.facts.direction
    }

    /// Says whose connection it is, and so counts it as opened. Only the first description counts.
    pub fn describe(&self, parties: Parties) {
        self.series.get_or_init(|| {
            let custom = self.worker.custom(&parties, self.facts.direction, &Described(&self.facts, &parties));
            let (worker, known) = (&self.worker.0, (&parties, self.facts.direction, custom, ()));
            let (registry, turn) = (&worker.shared.registry, worker.shared.turn.load(Ordering::Relaxed));
            let series = worker.cache.borrow_mut().get(known, |labels, ()| labels, registry, worker.number, turn);
            series.open();
            self.facts.describe(parties);
            series
        });
    }

    /// What policies say of it. Does nothing for a connection to which none has anything to say.
    pub fn judged(&self, judgement: &Judgement) {
        self.facts.remark(judgement);
        self.worker.0.shared.counts.verdicts.count(judgement);
    }

    /// Who the peer has proven to be: for the log, should the connection fail before it is described.
    pub fn proven(&self, peer: &Arc<Identity>) {
        self.peer.get_or_init(|| peer.clone());
    }

    /// Bytes that the client sent, on their way to the server.
    pub fn client_sent(&self, bytes: u64) {
        series::add(&self.facts.from_client, bytes);
        if let Some(series) = self.series.get() {
            series.received(bytes);
        }
    }

    /// Bytes that the server sent, on their way to the client.
    pub fn server_sent(&self, bytes: u64) {
        series::add(&self.facts.to_client, bytes);
        if let Some(series) = self.series.get() {
            series.sent(bytes);
        }
    }

    /// Bytes that the application on this node sent, whichever end it is.
    pub fn sent(&self, bytes: u64) {
        match self.facts.direction {
            Direction::Outbound => self.client_sent(bytes),
            Direction::Inbound => self.server_sent(bytes),
        }
    }

    /// Bytes that the application on this node got, whichever end it is.
    pub fn received(&self, bytes: u64) {
        match self.facts.direction {
            Direction::Outbound => self.server_sent(bytes),
            Direction::Inbound => self.client_sent(bytes),
        }
    }

    /// What the kernel has measured of it. Only once.
    pub fn measured(&self, tcp: Tcp) {
        self.facts.tcp.get_or_init(|| {
            if let Some(series) = self.series.get() {
                series.measured(&tcp);
            }
            tcp
        });
    }

    /// It ended in order. Only its first end counts.
    pub fn finish(&self) {
        self.end(End::new(Instant::now(), None, ""));
    }

    /// It was refused or cut. `detail` goes to the log only; it may be empty. Only its first end counts.
    pub fn fail(&self, reason: Refusal, detail: &str) {
        self.end(End::new(Instant::now(), Some(reason), detail));
    }

    /// It ended before now, for that reason or in order. Only its first end counts.
    pub fn ended(&self, at: Instant, reason: Option<Refusal>, detail: &str) {
        self.end(End::new(at, reason, detail));
    }

    /// What there is to say of it now, as a JSON object.
    pub fn to_json(&self) -> String {
        self.facts.json().to_string()
    }

    /// As `to_json`, with the round trip of its socket towards the other end, where that is known.
    pub fn to_json_with(&self, rtt: Option<Duration>) -> String {
        self.facts.json_with(rtt).to_string()
    }

    fn end(&self, end: End) {
        self.ended.get_or_init(|| {
            let series = self.series.get();
            match series {
                Some(series) => series.close(end.reason),
                None => {
                    self.facts.describe(Parties { source_identity: self.peer.get().cloned(), ..Parties::default() })
                }
            }
            self.worker.record(self.facts.copied(), series.is_some(), end);
        });
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        self.fail(if std::thread::panicking() { Refusal::InternalError } else { Refusal::Abandoned }, "");
        let shared = &self.worker.0.shared;
        shared.counts.connections[self.facts.direction as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// No holder of one of these locks leaves anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
