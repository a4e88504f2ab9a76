//! The series of the traffic metrics: one for each set of labels and worker, found without looking at the labels' text.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::party::{Baggage, Parties, Party, Path};
use super::{lock, Direction, Tcp};
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

impl Labels {
    pub fn new(parties: &Parties, direction: Direction) -> Labels {
        Labels {
            direction,
            source: Side::new(&parties.source, &parties.source_identity),
            destination: Side::new(&parties.destination, &parties.destination_identity),
            service: parties.service.as_ref().map(|service| (service.key.clone(), service.name.clone())),
            direct: parties.path == Path::Direct,
        }
    }

    /// `connection_security_policy`: Istio's word where both ends are proven by mutual TLS, ours where the kernel has
    /// proven them and nothing is encrypted.
    pub fn security(&self) -> &'static str {
        match self.source.principal.is_some() && self.destination.principal.is_some() {
            true if self.direct => "direct",
            true => "mutual_tls",
            false => "",
        }
    }
}

/// Counters of one series, with one writer: the worker that they belong to.
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

/// The sums over all workers.
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

impl Totals {
    fn add(&mut self, series: &Series) {
        self.opened += series.opened.load(Ordering::Relaxed);
        self.received += series.received.load(Ordering::Relaxed);
        self.sent += series.sent.load(Ordering::Relaxed);
        self.measured += series.measured.load(Ordering::Relaxed);
        self.rtt += series.rtt.load(Ordering::Relaxed);
        self.retransmits += series.retransmits.load(Ordering::Relaxed);
        for (total, counter) in self.closed.iter_mut().zip(&series.closed) {
            *total += counter.load(Ordering::Relaxed);
        }
    }
}

/// All series of a process.
#[derive(Default)]
pub struct Registry(HashMap<Arc<Labels>, Entry>);

struct Entry {
    /// By worker.
    parts: Vec<(usize, Arc<Series>)>,
    /// What parts that are gone had counted.
    folded: Totals,
    /// The totals at the last look, and when they had last changed.
    seen: Totals,
    since: Instant,
}

/// How long a series without its workload and without traffic is kept: many scrapes.
pub const KEPT: Duration = Duration::from_secs(300);

impl Registry {
    fn part(&mut self, labels: Labels, worker: usize) -> Arc<Series> {
        let new = || Entry { parts: vec![], folded: Totals::default(), seen: Totals::default(), since: Instant::now() };
        let parts = &mut self.0.entry(Arc::new(labels)).or_insert_with(new).parts;
        if let Some((_, known)) = parts.iter().find(|(owner, _)| *owner == worker) {
            return known.clone();
        }
        let series = Arc::new(Series::default());
        parts.push((worker, series.clone()));
        series
    }

    pub fn totals(&self) -> Vec<(Arc<Labels>, Totals)> {
        self.0.iter().map(|(labels, entry)| (labels.clone(), entry.totals())).collect()
    }

    pub fn expire(&mut self, alive: &Alive, now: Instant) {
        self.0.retain(|labels, entry| alive.has(labels) || !entry.is_over(now));
    }
}

impl Entry {
    fn totals(&self) -> Totals {
        let mut totals = self.folded;
        self.parts.iter().for_each(|(_, part)| totals.add(part));
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
        let unused = |(worker, part)| match Arc::try_unwrap(part) {
            Ok(series) => {
                folded.add(&series);
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
        let service = labels.service.as_ref().is_none_or(|(key, _)| self.mesh.service(key.text()).is_some());
        app(&labels.source) && app(&labels.destination) && service
    }
}

/// One worker's way to its series: by the addresses of the labels, which resources of one mesh share.
#[derive(Default)]
pub struct SeriesCache {
    series: HashMap<Addresses, Cached>,
    baggage: HashMap<Box<[u8]>, Arc<Baggage>>,
    baggage_since: Option<Instant>,
}

pub type Addresses = [usize; 10];

struct Cached {
    series: Weak<Series>,
    /// Keeps the addresses from being used for something else.
    _labels: Labels,
}

/// Entries after which a cache starts anew. More label sets than that in use at a time cost a look at their text each.
pub const CACHE_LIMIT: usize = 8192;
/// Peers that are in no resource: how many of them are told apart in a minute. They are authenticated, but may say what
/// they like, and each that is told apart has a series until that expires.
const BAGGAGE_LIMIT: usize = 256;
const BAGGAGE_KEPT: Duration = Duration::from_secs(60);

impl SeriesCache {
    pub fn get(
        &mut self,
        parties: &Parties,
        direction: Direction,
        registry: &Mutex<Registry>,
        worker: usize,
    ) -> Arc<Series> {
        let addresses = addresses(parties, direction);
        if let Some(series) = self.series.get(&addresses).and_then(|cached| cached.series.upgrade()) {
            return series;
        }
        if self.series.len() >= CACHE_LIMIT {
            self.series.clear();
        }
        let labels = Labels::new(parties, direction);
        let series = lock(registry).part(labels.clone(), worker);
        self.series.insert(addresses, Cached { series: Arc::downgrade(&series), _labels: labels });
        series
    }

    /// `None` also for one more than are told apart.
    pub fn baggage(&mut self, header: &[u8], now: Instant) -> Option<Arc<Baggage>> {
        if self.baggage_since.is_none_or(|since| now.duration_since(since) >= BAGGAGE_KEPT) {
            self.baggage.clear();
            self.baggage_since = Some(now);
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

pub fn addresses(parties: &Parties, direction: Direction) -> Addresses {
    fn address<T: ?Sized>(value: Option<&Arc<T>>) -> usize {
        value.map_or(0, |value| Arc::as_ptr(value).cast::<()>() as usize)
    }
    let Parties { source, destination, service, .. } = parties;
    [
        direction as usize,
        (parties.path == Path::Direct) as usize,
        address(source.app()),
        address(source.locality()),
        address(parties.source_identity.as_ref()),
        address(destination.app()),
        address(destination.locality()),
        address(parties.destination_identity.as_ref()),
        address(service.as_ref().map(|service| service.key.text())),
        address(service.as_ref().map(|service| &service.name)),
    ]
}
