//! Chance, for choices that no one must be able to steer but that need not be secret.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64: a few instructions a number, and any seed will do.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Seeded by the system.
    pub fn from_entropy() -> Rng {
        Rng::seeded(RandomState::new().hash_one(0))
    }

    pub fn seeded(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a limit; `None` when there is none. The bias, `limit / 2^64`, is of no account here.
    pub fn below(&mut self, limit: u64) -> Option<u64> {
        (limit > 0).then(|| ((u128::from(self.draw()) * u128::from(limit)) >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_and_reach_all() {
        let mut rng = Rng::seeded(1);
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[rng.below(7).unwrap() as usize] += 1);
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!(rng.below(0), None);
    }

    #[test]
    fn two_sources_differ() {
        assert_ne!(Rng::from_entropy().draw(), Rng::from_entropy().draw());
    }
}
