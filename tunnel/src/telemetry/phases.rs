//! How long the phases of connections take, and how many streams are open: each worker counts its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::request::Histogram;
use super::series::add;
use super::{Direction, WorkerTelemetry};

/// `C` counts: atomically, or as it was at a moment.
#[derive(Default)]
pub struct Phases<C> {
    /// TLS, of tunnels that came up.
    pub handshake: [Histogram<C>; 2],
    /// Until the other end was connected: an endpoint, or the application.
    pub connect: [Histogram<C>; 2],
    /// Of requests that waited for a connection which others make or use.
    pub queue: Histogram<C>,
    pub streams: [C; 2],
}

impl Phases<AtomicU64> {
    pub fn add_to(&self, totals: &mut Phases<u64>) {
        for direction in 0..2 {
            self.handshake[direction].add_to(&mut totals.handshake[direction]);
            self.connect[direction].add_to(&mut totals.connect[direction]);
            totals.streams[direction] += self.streams[direction].load(Ordering::Relaxed);
        }
        self.queue.add_to(&mut totals.queue);
    }
}

impl WorkerTelemetry {
    /// A connection's other end is connected: the client's endpoint outbound, the server's application inbound.
    pub fn connected(&self, direction: Direction, took: Duration) {
        self.0.phases.connect[direction as usize].took(took);
    }

    /// A request has waited for a connection.
    pub fn queued(&self, took: Duration) {
        self.0.phases.queue.took(took);
    }

    pub fn stream_opened(&self, direction: Direction) {
        add(&self.0.phases.streams[direction as usize], 1);
    }

    pub fn streams_closed(&self, direction: Direction, count: usize) {
        add(&self.0.phases.streams[direction as usize], (count as u64).wrapping_neg());
    }
}
