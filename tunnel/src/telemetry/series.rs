//! The series of the traffic metrics: one for each set of labels and worker, found without looking at the labels' text.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::custom::Custom;
use super::party::{self, Baggage, Parties, Party, Path};
use super::{Direction, Tcp};
use crate::base::{Flag, Identity, Refusal};
use crate::mesh::{App, Locality, Mesh, ServiceKey};

/// What tells one series from another. Equal by content; equal pointers are the fast case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    pub direction: Direction,
    pub source: Side,
    pub destination: Side,
    /// Key and short name.
    pub service: Option<(ServiceKey, Arc<str>)>,
    pub direct: bool,
    /// What a Telemetry makes different.
    pub custom: Option<Arc<Custom>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    pub app: Option<Arc<App>>,
    pub locality: Option<Arc<Locality>>,
    pub principal: Option<Arc<Identity>>,
}

impl Side {
    fn new(party: &Party, principal: &Option<Arc<Identity>>) -> Side {
        Side { app: party.app().cloned(), locality: party.locality().cloned(), principal: principal.clone() }
    }
}

/// The labels of a series of some kind.
pub trait OfSeries: AsRef<Labels> + Eq + Hash {
    /// There are too many to tell them apart by values that clients choose.
    fn overflowing(&mut self);
}

impl OfSeries for Labels {
    fn overflowing(&mut self) {
        self.custom = self.custom.take().map(|custom| Arc::new(custom.other()));
    }
}

impl AsRef<Labels> for Labels {
    fn as_ref(&self) -> &Labels {
        self
    }
}

impl Labels {
    pub fn new(parties: &Parties, direction: Direction, custom: Option<Arc<Custom>>) -> Labels {
        Labels {
            direction,
            custom,
            source: Side::new(&parties.source, &parties.source_identity),
            destination: Side::new(&parties.destination, &parties.destination_identity),
            service: parties.service.as_ref().map(|service| (service.key.clone(), service.name.clone())),
            direct: parties.path == Path::Direct,
        }
    }

    pub fn security(&self) -> &'static str {
        party::security(self.source.principal.is_some() && self.destination.principal.is_some(), self.direct)
    }
}

/// Of connections.
#[derive(Default)]
pub struct Series {
    opened: AtomicU64,
    closed: [AtomicU64; Flag::ALL.len()],
    received: AtomicU64,
    sent: AtomicU64,
    measured: AtomicU64,
    /// Microseconds.
    rtt: AtomicU64,
    retransmits: AtomicU64,
}

/// Adds to a counter that only this thread writes.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Series {
    pub fn open(&self) {
        add(&self.opened, 1);
    }

    pub fn close(&self, reason: Option<Refusal>) {
        let flag = reason.map_or(Flag::Fine, Refusal::flag);
        add(&self.closed[flag as usize], 1);
    }

    pub fn received(&self, bytes: u64) {
        add(&self.received, bytes);
    }

    pub fn sent(&self, bytes: u64) {
        add(&self.sent, bytes);
    }

    pub fn measured(&self, tcp: &Tcp) {
        add(&self.measured, 1);
        add(&self.rtt, tcp.rtt.as_micros() as u64);
        add(&self.retransmits, tcp.retransmits.into());
    }
}

/// Counters of a series, with one writer: the worker that they belong to.
pub trait Counters: Default {
    /// Sums over all workers.
    type Totals: Copy + Default + PartialEq + Merge;

    fn add_to(&self, totals: &mut Self::Totals);
}

/// Sums that can be added to others.
pub trait Merge {
    fn merge(&mut self, other: &Self);
}

impl Merge for Totals {
    fn merge(&mut self, other: &Totals) {
        self.opened += other.opened;
        self.closed.iter_mut().zip(other.closed).for_each(|(total, count)| *total += count);
        self.received += other.received;
        self.sent += other.sent;
        self.measured += other.measured;
        self.rtt += other.rtt;
        self.retransmits += other.retransmits;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub opened: u64,
    pub closed: [u64; Flag::ALL.len()],
    pub received: u64,
    pub sent: u64,
    /// Direct connections that have ended, the sum of their smoothed round-trip times in microseconds, and their segments
    /// that were sent again.
    pub measured: u64,
    pub rtt: u64,
    pub retransmits: u64,
}

impl Counters for Series {
    type Totals = Totals;

    fn add_to(&self, totals: &mut Totals) {
        totals.opened += self.opened.load(Ordering::Relaxed);
        totals.received += self.received.load(Ordering::Relaxed);
        totals.sent += self.sent.load(Ordering::Relaxed);
        totals.measured += self.measured.load(Ordering::Relaxed);
        totals.rtt += self.rtt.load(Ordering::Relaxed);
        totals.retransmits += self.retransmits.load(Ordering::Relaxed);
        for (total, counter) in totals.closed.iter_mut().zip(&self.closed) {
            *total += counter.load(Ordering::Relaxed);
        }
    }
}

/// All series of a process: of connections, or of requests.
pub struct Registry<L, C: Counters>(HashMap<Arc<L>, Entry<C>>);

impl<L, C: Counters> Default for Registry<L, C> {
    fn default() -> Self {
        Registry(HashMap::new())
    }
}

struct Entry<C: Counters> {
    /// By worker.
    parts: Vec<(usize, Arc<C>)>,
    /// What parts that are gone had counted.
    folded: C::Totals,
    /// The totals at the last look, and when they had last changed.
    seen: C::Totals,
    since: Instant,
}

/// How long a series without its workload and without traffic is kept: many scrapes.
pub const KEPT: Duration = Duration::from_secs(300);

/// Label sets after which those that clients' values make are not told apart any more.
pub const TOLD_APART: usize = 20_000;

impl<L: OfSeries, C: Counters> Registry<L, C> {
    pub fn part(&mut self, mut labels: L, worker: usize) -> Arc<C> {
        if self.0.len() >= TOLD_APART && !self.0.contains_key(&labels) {
            labels.overflowing();
        }
        let parts = &mut self.0.entry(Arc::new(labels)).or_insert_with(Entry::new).parts;
        if let Some((_, known)) = parts.iter().find(|(owner, _)| *owner == worker) {
            return known.clone();
        }
        let series = Arc::new(C::default());
        parts.push((worker, series.clone()));
        series
    }

    pub fn totals(&self) -> Vec<(Arc<L>, C::Totals)> {
        self.0.iter().map(|(labels, entry)| (labels.clone(), entry.totals())).collect()
    }

    /// changed: when it was last said which series there are to be.
    pub fn expire(&mut self, alive: &Alive, changed: Option<Instant>, now: Instant) {
        // What was counted before a change may be noticed after it: only later traffic says that a series is still wanted.
        let wanted = |entry: &Entry<C>| changed.is_none_or(|changed| entry.since >= changed + KEPT);
        self.0.retain(|labels, entry| {
            let alive = alive.has((**labels).as_ref());
            alive && wanted(entry) || !entry.is_over(now) || alive && wanted(entry)
        });
    }
}

impl<C: Counters> Entry<C> {
    fn new() -> Self {
        Entry { parts: vec![], folded: Default::default(), seen: Default::default(), since: Instant::now() }
    }

    fn totals(&self) -> C::Totals {
        let mut totals = self.folded;
        self.parts.iter().for_each(|(_, part)| part.add_to(&mut totals));
        totals
    }

    /// Whether nothing happened for long and nothing can happen any more. A part that a connection or a worker has in
    /// hand can not be unwrapped, and one that is unwrapped can not be taken in hand: its workers start a new one.
    fn is_over(&mut self, now: Instant) -> bool {
        let totals = self.totals();
        if totals != self.seen {
            (self.seen, self.since) = (totals, now);
        }
        if now.duration_since(self.since) < KEPT {
            return false;
        }
        let folded = &mut self.folded;
        let unused = |(worker, part): (usize, Arc<C>)| match Arc::try_unwrap(part) {
            Ok(series) => {
                series.add_to(folded);
                None
            }
            Err(used) => Some((worker, used)),
        };
        self.parts = std::mem::take(&mut self.parts).into_iter().filter_map(unused).collect();
        self.parts.is_empty()
    }
}

/// What is in the mesh.
pub struct Alive<'a> {
    apps: HashSet<&'a App>,
    mesh: &'a Mesh,
}

impl<'a> Alive<'a> {
    pub fn of(mesh: &'a Mesh) -> Alive<'a> {
        Alive { apps: mesh.workloads().map(|workload| workload.app.as_ref()).collect(), mesh }
    }

    pub fn has(&self, labels: &Labels) -> bool {
        let app = |side: &Side| side.app.as_ref().is_none_or(|app| self.apps.contains(app.as_ref()));
        let custom = labels.custom.as_ref().is_none_or(|custom| custom.is_current(self.mesh.telemetry()));
        let service = labels.service.as_ref().is_none_or(|(key, _)| self.mesh.service(key.text()).is_some());
        app(&labels.source) && app(&labels.destination) && service && custom
    }
}

/// What peers that are in no resource say of themselves, by the text.
#[derive(Default)]
pub struct BaggageCache {
    baggage: HashMap<Box<[u8]>, Arc<Baggage>>,
    since: Option<Instant>,
}

/// Peers that are in no resource: how many of them are told apart in a minute. They are authenticated, but may say what
/// they like, and each that is told apart has a series until that expires.
const BAGGAGE_LIMIT: usize = 256;
const BAGGAGE_KEPT: Duration = Duration::from_secs(60);

impl BaggageCache {
    /// `None` also for one more than are told apart.
    pub fn get(&mut self, header: &[u8], now: Instant) -> Option<Arc<Baggage>> {
        if self.since.is_none_or(|since| now.duration_since(since) >= BAGGAGE_KEPT) {
            self.baggage.clear();
            self.since = Some(now);
        }
        if let Some(known) = self.baggage.get(header) {
            return Some(known.clone());
        }
        if self.baggage.len() >= BAGGAGE_LIMIT {
            return None;
        }
        let baggage = Arc::new(Baggage::parse(header)?);
        self.baggage.insert(header.into(), baggage.clone());
        Some(baggage)
    }
}
