//! How many of its refusals a peer gets logged: a bucket of tokens for each, so that nobody can fill the log by asking for
//! what it does not get. What is withheld is counted, and told of.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// Lines of a peer at once, and the time for each further one: ten a second.
const BURST: u32 = 100;
const REFILL: Duration = Duration::from_millis(100);
/// Peers that are told apart. The others share the bucket of `STRANGERS`.
const PEERS_MAX: usize = 1024;
const STRANGERS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

#[derive(Default)]
pub struct Limits(Mutex<HashMap<IpAddr, Bucket>>);

struct Bucket {
    /// When it is full again.
    full: Instant,
    withheld: u64,
}

impl Bucket {
    fn is_at_rest(&self, now: Instant) -> bool {
        self.full <= now && self.withheld == 0
    }
}

impl Limits {
    /// Whether a refusal of this peer may be logged.
    pub fn allow(&self, peer: IpAddr, now: Instant) -> bool {
        let mut buckets = lock(&self.0);
        let peer = if buckets.contains_key(&peer) || make_room(&mut buckets, now) { peer } else { STRANGERS };
        let bucket = buckets.entry(peer).or_insert(Bucket { full: now, withheld: 0 });
        let full = bucket.full.max(now) + REFILL;
        let allowed = full <= now + BURST * REFILL;
        match allowed {
            true => bucket.full = full,
            false => bucket.withheld += 1,
        }
        allowed
    }

    /// Tells each peer and how many of its refusals were withheld since the last time, and forgets who is at rest.
    /// The address is unspecified for those of peers that were not told apart.
    pub fn withheld(&self, now: Instant) -> Vec<(IpAddr, u64)> {
        let mut buckets = lock(&self.0);
        let told = buckets.iter_mut().filter(|(_, bucket)| bucket.withheld > 0);
        let told = told.map(|(peer, bucket)| (*peer, std::mem::take(&mut bucket.withheld))).collect();
        buckets.retain(|_, bucket| !bucket.is_at_rest(now));
        told
    }
}

/// Whether another peer can be told apart.
fn make_room(buckets: &mut HashMap<IpAddr, Bucket>, now: Instant) -> bool {
    if buckets.len() >= PEERS_MAX {
        buckets.retain(|_, bucket| !bucket.is_at_rest(now));
    }
    buckets.len() < PEERS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        IpAddr::from((10 << 24 | number).to_be_bytes())
    }

    /// How many of this many at a time are allowed.
    fn allowed(limits: &Limits, peer: IpAddr, times: u32, now: Instant) -> u32 {
        (0..times).filter(|_| limits.allow(peer, now)).count() as u32
    }

    #[test]
    fn a_peer_has_a_burst_and_then_a_rate() {
        let (limits, start) = (Limits::default(), Instant::now());
        assert_eq!(allowed(&limits, peer(1), 10_000, start), BURST);
        assert_eq!(allowed(&limits, peer(2), 3, start), 3, "another one is not concerned");
        assert_eq!(allowed(&limits, peer(1), 10_000, start + REFILL * 10), 10);
        assert_eq!(limits.withheld(start + REFILL * 10), [(peer(1), 10_000 - 100 + 10_000 - 10)]);
        assert_eq!(limits.withheld(start + REFILL * 10), []);
        assert_eq!(allowed(&limits, peer(1), 10_000, start + REFILL * 1000), BURST, "it is full again");
    }

    /// Many addresses cost no memory and no log: those that have no bucket of their own share one.
    #[test]
    fn peers_beyond_number_share_a_bucket() {
        let (limits, start) = (Limits::default(), Instant::now());
        let lines: u32 = (0..4_000).map(|number| allowed(&limits, peer(number), 2, start)).sum();
        assert_eq!(lines, 2 * PEERS_MAX as u32 + BURST);
        assert_eq!(lock(&limits.0).len(), PEERS_MAX + 1);
        let withheld = u64::from(2 * 4_000 - lines);
        assert_eq!(limits.withheld(start), [(STRANGERS, withheld)]);
        assert_eq!(allowed(&limits, peer(200_000), 2, start + REFILL * BURST), 2, "room is made");
        assert_eq!(lock(&limits.0).len(), 1);
    }
}
