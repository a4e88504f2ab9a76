//! The records of direct connections: written by what the kernel tells, and held against what it has.
use super::kernel::Kernel;
use super::pairs::{Known, Pairs, Pods};
use crate::base::{log_error, Failure, Refusal, Rng};
use crate::mesh::Mesh;
use crate::policy::Admitted;
use crate::sys::layout::{Event, Pair, EVENT_CLOSED, EVENT_OPENED, EVENT_UNSEEN};
use crate::telemetry::{ConnectionRecord, Direction, Parties, Tcp, WorkerTelemetry};
use rustix::time::{clock_gettime, ClockId};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A connection as both its ends tell of it.
struct Open {
    pair: Pair,
    outbound: ConnectionRecord,
    inbound: ConnectionRecord,
    sent: u64,
    received: u64,
    /// Whether the kernel had it at the last look; its end may still be told.
    there: bool,
}

/// Those that are open, by the cookies of the sockets that have made them.
pub struct Connections {
    telemetry: WorkerTelemetry,
    open: HashMap<u64, Open>,
    /// What we have ended, and why.
    ended: HashMap<u64, Failure>,
    /// Pods with connections of which the mesh does not know yet whose they are.
    unresolved: HashSet<u64>,
}

/// The mesh as it is, who is here, and who may.
pub struct Surroundings<'a> {
    pub mesh: &'a Mesh,
    pub pods: &'a Pods,
    pub pairs: &'a mut Pairs,
}

/// The time of the kernel's clock, which counts nanoseconds since the machine started, as an instant.
struct Times {
    now: Instant,
    kernel: u64,
}

impl Times {
    fn new() -> Times {
        let now = clock_gettime(ClockId::Boottime);
        let kernel = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        Times { now: Instant::now(), kernel }
    }

    fn instant(&self, kernel: u64) -> Instant {
        let ago = Duration::from_nanos(self.kernel.saturating_sub(kernel));
        self.now.checked_sub(ago).unwrap_or(self.now)
    }
}

impl Open {
    fn new(telemetry: &WorkerTelemetry, mesh: &Mesh, known: &Known, event: &Event, since: Instant) -> Open {
        let parties = Parties::direct(&known.source, &known.way);
        let (from, to) = (event.connection.from.into(), event.connection.to.into());
        let outbound = telemetry.accepted(Direction::Outbound, from, event.pair.to.into(), since);
        let inbound = telemetry.accepted(Direction::Inbound, from, to, since);
        let ends = [(&outbound, &known.source), (&inbound, &known.way.destination)];
        let mut parent = None;
        for (end, workload) in ends {
            mesh.telemetry().of(workload).into_iter().for_each(|scope| end.observe(scope));
            parent = end.trace(parent, &mut Rng::from_entropy());
        }
        outbound.describe(parties.clone());
        inbound.describe(parties);
        inbound.judged(&known.judgement);
        Open { pair: event.pair, outbound, inbound, sent: 0, received: 0, there: true }
    }

    /// Takes over what has come since the last time.
    fn count(&mut self, sent: u64, received: u64) {
        for end in [&self.outbound, &self.inbound] {
            end.client_sent(sent.saturating_sub(self.sent));
            end.server_sent(received.saturating_sub(self.received));
        }
        (self.sent, self.received) = (self.sent.max(sent), self.received.max(received));
    }

    fn end(&self, at: Instant, failure: Option<&Failure>) {
        for end in [&self.outbound, &self.inbound] {
            match failure {
                Some(Failure { refusal, detail }) => end.ended(at, Some(*refusal), detail),
                None => end.ended(at, None, ""),
            }
        }
    }
}

impl Connections {
    pub fn new(telemetry: WorkerTelemetry) -> Connections {
        Connections { telemetry, open: HashMap::new(), ended: HashMap::new(), unresolved: HashSet::new() }
    }

    /// Takes what the kernel has to tell.
    pub fn drain_events(&mut self, around: &mut Surroundings<'_>, kernel: &Kernel) {
        let times = Times::new();
        kernel.events(|event| match event.kind {
            EVENT_OPENED => _ = self.opened(around, event, &times),
            EVENT_CLOSED => self.closed(around, event, &times),
            EVENT_UNSEEN => around.pairs.quarantine(&event.pair, kernel),
            _ => {} // of an agent that is newer than we are
        });
    }

    fn opened(&mut self, around: &mut Surroundings<'_>, event: &Event, times: &Times) -> Option<&mut Open> {
        let Some(known) = around.pairs.get(around.mesh, around.pods, &event.pair, event.connection.to.into()) else {
            self.unresolved.insert(event.pair.netns);
            return None;
        };
        if !self.open.contains_key(&event.socket) {
            known.open += 1;
            let open = Open::new(&self.telemetry, around.mesh, known, event, times.instant(event.since));
            self.open.insert(event.socket, open);
        }
        self.open.get_mut(&event.socket)
    }

    fn closed(&mut self, around: &mut Surroundings<'_>, event: &Event, times: &Times) {
        let at = times.instant(event.time);
        let ended = self.ended.remove(&event.socket);
        if event.established == 0 {
            return self.failed(around, event, ended, times);
        }
        if let Some(open) = self.opened(around, event, times) {
            open.count(event.sent, event.received);
            let rtt = Duration::from_micros(event.rtt.into());
            open.outbound.measured(Tcp { rtt, retransmits: event.retransmits });
            let reset = || Failure { refusal: Refusal::AppReset, detail: String::new() };
            open.end(at, ended.or_else(|| (event.reset != 0).then(reset)).as_ref());
            self.open.remove(&event.socket);
            around.pairs.closed(&event.pair);
        }
    }

    /// It was never a connection: the application does not listen, say. Only who made it has seen that.
    fn failed(&mut self, around: &mut Surroundings<'_>, event: &Event, ended: Option<Failure>, times: &Times) {
        let target = SocketAddr::from(event.connection.to);
        let Some(known) = around.pairs.get(around.mesh, around.pods, &event.pair, target) else { return };
        let (from, asked) = (event.connection.from.into(), event.pair.to.into());
        let record = self.telemetry.accepted(Direction::Outbound, from, asked, times.instant(event.since));
        record.describe(Parties::direct(&known.source, &known.way));
        let why = if event.seen != 0 { Refusal::ConnectFailed } else { Refusal::NotSeen };
        let Failure { refusal, detail } = ended.unwrap_or(Failure { refusal: why, detail: target.to_string() });
        record.ended(times.instant(event.time), Some(refusal), &detail);
    }

    /// Looks at what there is in the kernel: bytes of connections that are open, and what was not told because there was no
    /// room for it, or nobody to listen.
    pub fn reconcile(
        &mut self,
        around: &mut Surroundings<'_>,
        kernel: &Kernel,
        sources: impl IntoIterator<Item = u64>,
    ) {
        if !kernel.is_ours() {
            return; // it is told by another tunnel
        }
        self.drain_events(around, kernel);
        let times = Times::new();
        let (mut looked, mut found) = (HashSet::new(), HashSet::new());
        for source in sources {
            let Some(pod) = around.pods.get(source).cloned() else { continue };
            let result = kernel.connections(&pod.netns, |own, there| {
                if own.established == 0 {
                    return;
                }
                let event = Event {
                    socket: there.socket.cookie(),
                    pair: own.pair,
                    connection: own.connection,
                    since: own.since,
                    ..Event::default()
                };
                if let Some(open) = self.opened(around, &event, &times) {
                    open.count(there.sent, there.received);
                    open.there = true;
                    found.insert(event.socket);
                }
            });
            match result {
                Ok(_) => _ = looked.insert(source),
                Err(error) => log_error("direct", &format!("pod {pod}: cannot list connections: {error}")),
            }
        }
        self.open.retain(|socket, open| {
            let here = found.contains(socket) || !looked.contains(&open.pair.netns);
            let stays = here || std::mem::replace(&mut open.there, false);
            if !stays {
                open.end(times.now, self.ended.remove(socket).as_ref());
                around.pairs.closed(&open.pair);
            }
            stays
        });
        self.ended.retain(|socket, _| self.open.contains_key(socket));
    }

    /// Before pairs are reviewed: learns of those with connections that nobody has told us of, because the mesh did not know
    /// them, or because another tunnel, which ends, is told.
    pub fn discover(&mut self, around: &mut Surroundings<'_>, kernel: &Kernel) {
        if kernel.is_ours() {
            let unresolved = std::mem::take(&mut self.unresolved);
            if !unresolved.is_empty() {
                self.reconcile(around, kernel, unresolved);
            }
            return;
        }
        for pod in around.pods.all() {
            let learnt = kernel.connections(&pod.netns, |own, _| {
                around.pairs.get(around.mesh, around.pods, &own.pair, own.connection.to.into());
            });
            if let Err(error) = learnt {
                log_error("direct", &format!("pod {pod}: cannot list connections: {error}"));
            }
        }
    }

    /// Ends connections of these pairs; others stay. False where that has to be tried again.
    pub fn destroy(&mut self, around: &mut Surroundings<'_>, kernel: &Kernel, pairs: &HashMap<Pair, Failure>) -> bool {
        let sources: HashSet<u64> = pairs.keys().map(|pair| pair.netns).collect();
        let mut done = true;
        for source in sources {
            let Some(pod) = around.pods.get(source) else { continue };
            let mut doomed = vec![];
            let result = kernel.connections(&pod.netns, |own, there| {
                doomed.extend(pairs.get(&own.pair).map(|failure| (own.pair, there.socket, failure)));
            });
            let result = result.and_then(|sockets| {
                doomed.iter().try_for_each(|(pair, socket, failure)| {
                    if !sockets.destroy(socket)? {
                        return Ok(());
                    }
                    self.ended.insert(socket.cookie(), (*failure).clone());
                    if let (Some(open), Some(known)) = (self.open.get(&socket.cookie()), around.pairs.known(pair)) {
                        open.inbound.judged(&known.judgement);
                    }
                    Ok(())
                })
            });
            if let Err(error) = result {
                log_error("direct", &format!("pod {pod}: cannot close direct connections: {error}; retrying"));
                self.unresolved.insert(source); // to be looked at again before the next try
                done = false;
            }
        }
        done
    }

    /// What policies look at, of all that are open.
    pub fn admitted(&self, pairs: &Pairs) -> Vec<Admitted> {
        let admitted = self.open.values().filter_map(|open| {
            let known = pairs.known(&open.pair)?;
            let (pod, attempt) = (known.way.destination.key(), known.attempt.clone());
            Some(Admitted { pod, attempt, requests: false, record: open.inbound.to_json() })
        });
        admitted.collect()
    }

    /// The records of all that are open, each as JSON.
    pub fn records(&self) -> Vec<String> {
        self.open.values().flat_map(|open| [open.outbound.to_json(), open.inbound.to_json()]).collect()
    }
}
