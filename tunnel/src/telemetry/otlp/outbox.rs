//! What waits to be fetched for a collector, bounded in bytes: what finds no room is dropped and counted.
use super::attributes::resource;
use super::proto::{Export, OfResource, OfScope, Scope};
use crate::mesh::Workload;
use crate::observability::Provider;
use crate::telemetry::lock;
use prost::Message;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Bytes that wait for one provider, of spans and of records each.
const BYTES_MAX: usize = 16 << 20;
/// Spans or records of one request.
const MOST: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    Traces,
    Logs,
}

impl Signal {
    pub fn name(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Logs => "logs",
        }
    }
}

/// A span or a record, encoded, of a workload.
pub struct Item {
    pub of: Arc<Workload>,
    pub encoded: Vec<u8>,
}

impl Item {
    fn size(&self) -> usize {
        size_of::<Item>() + self.encoded.len()
    }
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    dropped: u64,
}

/// What one request takes to a provider.
pub struct Batch {
    pub provider: Arc<Provider>,
    pub signal: Signal,
    /// One of those of whom it tells.
    pub of: Option<Arc<Workload>>,
    pub count: usize,
    /// Dropped since the last batch.
    pub dropped: u64,
    /// The serialised request; empty where nothing but drops is told.
    pub body: Vec<u8>,
}

#[derive(Default)]
pub struct Outbox(Mutex<BTreeMap<(Arc<Provider>, Signal), Queue>>);

impl Outbox {
    pub fn push(&self, provider: &Arc<Provider>, signal: Signal, item: Item) {
        let mut queues = lock(&self.0);
        let queue = queues.entry((provider.clone(), signal)).or_default();
        if queue.bytes + item.size() > BYTES_MAX {
            queue.dropped += 1;
            return;
        }
        queue.bytes += item.size();
        queue.items.push_back(item);
    }

    /// One is lost before it was made.
    pub fn lose(&self, provider: &Arc<Provider>, signal: Signal) {
        lock(&self.0).entry((provider.clone(), signal)).or_default().dropped += 1;
    }

    /// The next batch of each provider and signal, but of those that are `busy`; what is empty is forgotten.
    pub fn take(&self, is_busy: impl Fn(&Provider, Signal) -> bool) -> Vec<Batch> {
        let mut taken = vec![];
        lock(&self.0).retain(|(provider, signal), queue| {
            if is_busy(provider, *signal) {
                return true;
            }
            let items: Vec<Item> = queue.items.drain(..queue.items.len().min(MOST)).collect();
            queue.bytes -= items.iter().map(Item::size).sum::<usize>();
            taken.push((provider.clone(), *signal, items, std::mem::take(&mut queue.dropped)));
            !queue.items.is_empty()
        });
        let batch = |(provider, signal, items, dropped): (_, _, Vec<Item>, _)| {
            let of = items.first().map(|item| item.of.clone());
            Batch { provider, signal, of, count: items.len(), dropped, body: encode(items) }
        };
        taken.into_iter().map(batch).collect()
    }
}

/// By workload.
fn encode(items: Vec<Item>) -> Vec<u8> {
    let mut by_workload = HashMap::<Arc<str>, (Arc<Workload>, Vec<Vec<u8>>)>::new();
    for Item { of, encoded } in items {
        by_workload.entry(of.uid.0.clone()).or_insert_with(|| (of, vec![])).1.push(encoded);
    }
    let scope = Scope { name: "warren".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let of_resource = |(of, items): (Arc<Workload>, _)| OfResource {
        resource: Some(resource(&of)),
        scope: Some(OfScope { scope: Some(scope.clone()), items }),
    };
    Export { resources: by_workload.into_values().map(of_resource).collect() }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::testing::{mesh, pod, resource as sent};

    fn item(bytes: usize) -> Item {
        let mesh = mesh([sent(pod("a", &["10.0.0.1"]))]);
        Item { of: mesh.pod("a"), encoded: vec![0; bytes] }
    }

    #[test]
    fn batches_are_bounded_and_what_finds_no_room_is_counted() {
        let (outbox, jaeger) = (Outbox::default(), Arc::default());
        let counts = |busy| {
            let taken = outbox.take(|_, _| busy);
            taken.into_iter().map(|batch| (batch.count, batch.dropped)).collect::<Vec<_>>()
        };
        assert_eq!(counts(false), []);
        (0..MOST + 1).for_each(|_| outbox.push(&jaeger, Signal::Traces, item(10)));
        assert_eq!(counts(true), []);
        assert_eq!(counts(false), [(MOST, 0)]);
        assert_eq!(counts(false), [(1, 0)]);
        assert_eq!(counts(false), []);
        (0..3).for_each(|_| outbox.push(&jaeger, Signal::Logs, item(BYTES_MAX / 2 - 100)));
        outbox.lose(&jaeger, Signal::Logs);
        assert_eq!(counts(false), [(2, 2)]);
        outbox.push(&jaeger, Signal::Logs, item(BYTES_MAX / 2));
        assert_eq!(counts(false), [(1, 0)], "there is room again");
    }
}
