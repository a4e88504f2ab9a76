//! Consistent hashing by a ring of points (DestinationRule consistentHash.ringHash).
use super::hash;

/// Points at most, whatever is set; Envoy's maximum_ring_size.
const MOST: u64 = 8 << 20;

pub struct Ring(Vec<(u64, u32)>);

impl Ring {
    /// `hosts`: names and weights. Each gets points by its weight, and all together `minimum` at least.
    pub fn new(hosts: &[(&str, u32)], minimum: u64) -> Ring {
        let sum = hosts.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>().max(1);
        let least = hosts.iter().map(|(_, weight)| u64::from(*weight)).min().unwrap_or(1).max(1);
        // The least one gets a whole number of points, so that shares are right.
        let scale = (minimum.clamp(1, MOST) as f64 * least as f64 / sum as f64).ceil().max(1.0) / least as f64;
        let scale = scale.min(MOST as f64 / sum as f64);
        let mut points = Vec::new();
        for (index, (name, weight)) in hosts.iter().enumerate() {
            let count = (f64::from(*weight) * scale) as u64;
            points.extend((0..count.max(1)).map(|number| (hash::numbered(name.as_bytes(), number), index as u32)));
        }
        points.sort_unstable();
        Ring(points)
    }

    /// The host at the first point from there on.
    pub fn find(&self, hash: u64) -> Option<usize> {
        let at = self.0.partition_point(|(point, _)| *point < hash);
        self.0.get(at).or(self.0.first()).map(|(_, index)| *index as usize)
    }
}
