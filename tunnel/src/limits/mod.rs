//! Token buckets: how often something may happen, for each key.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371): taking a
//! token is a comparison and an addition, nothing has to be filled, and a bucket that is not there is a full one.

mod open;

pub use open::{Open, Permit};

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

/// Keys of one limit of which a bucket is kept at most, and among how many locks they are divided.
const KEYS: usize = 64 << 10;
const SHARDS: usize = 16;

/// `burst` tokens at most, of which `times` come back within `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub times: NonZeroU64,
    pub per: Duration,
    pub burst: NonZeroU64,
}

/// What became of a request for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub allowed: bool,
    /// Tokens that are left.
    pub remaining: u64,
    /// Until the bucket is full.
    pub full: Duration,
    /// Until there is a token; zero: there is one now.
    pub next: Duration,
    /// Another key's bucket was given up before it was full, for want of room: that key may have more than its part.
    pub lost: bool,
}

/// The buckets of one limit, for all threads.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    /// Nanoseconds in which one token comes back.
    interval: u64,
    began: Instant,
    hashers: [RandomState; 2],
    shards: Box<[Mutex<Shard>]>,
}

/// When a bucket is full, in nanoseconds since `began`; by a hash of its key, which nobody can foresee.
type Shard = LruCache<u128, u64>;

impl Rate {
    fn interval(&self) -> u64 {
        u64::try_from(self.per.as_nanos() / u128::from(self.times.get())).unwrap_or(u64::MAX)
    }
}

impl Buckets {
    /// `keyed`: whether there is more than one key.
    pub fn new(rate: Rate, keyed: bool) -> Buckets {
        let shards = (0..if keyed { SHARDS } else { 1 }).map(|_| Mutex::new(LruCache::unbounded())).collect();
        let (began, hashers) = (Instant::now(), Default::default());
        Buckets { rate, interval: rate.interval(), began, hashers, shards }
    }

    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Takes a token from a key's bucket.
    pub fn take(&self, key: &[impl AsRef<str>], now: Instant) -> Taken {
        let key = self.hash(key);
        let now = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let shard = &self.shards[key as usize % self.shards.len()];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full = shard.get(&key).copied().unwrap_or_default().max(now);
        let (mut taken, full) = self.decide(full, now);
        if taken.allowed {
            shard.put(key, full);
            taken.lost = shard.len() > KEYS / SHARDS && shard.pop_lru().is_some_and(|(_, full)| full > now);
        }
        taken
    }

    /// With when it is full afterwards.
    fn decide(&self, full: u64, now: u64) -> (Taken, u64) {
        let capacity = self.interval.saturating_mul(self.rate.burst.get());
        let later = full.saturating_add(self.interval);
        let wait = later.saturating_sub(now).saturating_sub(capacity);
        let allowed = wait == 0;
        let full = if allowed { later } else { full };
        let left = capacity.saturating_sub(full.saturating_sub(now));
        let taken = Taken {
            allowed,
            remaining: left / self.interval.max(1),
            full: Duration::from_nanos(full.saturating_sub(now)),
            next: Duration::from_nanos(wait),
            lost: false,
        };
        (taken, full)
    }

    fn hash(&self, key: &[impl AsRef<str>]) -> u128 {
        let [high, low] = &self.hashers;
        let key: Vec<&str> = key.iter().map(AsRef::as_ref).collect();
        u128::from(high.hash_one(&key)) << 64 | u128::from(low.hash_one(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(times: u64, burst: u64, keyed: bool) -> Buckets {
        let number = |number| NonZeroU64::new(number).unwrap();
        Buckets::new(Rate { times: number(times), per: Duration::from_secs(1), burst: number(burst) }, keyed)
    }

    fn allowed(buckets: &Buckets, key: &str, at: Duration) -> bool {
        buckets.take(&[key], buckets.began + at).allowed
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = buckets(10, 20, true);
        let asked =
            (0..60_000).filter(|ms| ms % 20 == 0).filter(|ms| allowed(&buckets, "a", Duration::from_millis(*ms)));
        assert_eq!(asked.count(), 20 + 600 - 1, "five times as many were asked for");
    }

    #[test]
    fn keys_have_buckets_of_their_own() {
        let buckets = buckets(1, 1, true);
        let now = Duration::from_secs(1);
        assert!(allowed(&buckets, "a", now) && allowed(&buckets, "b", now));
        assert!(!allowed(&buckets, "a", now) && !allowed(&buckets, "b", now));
        let parts = |one: &[&str]| buckets.take(one, buckets.began + now).allowed;
        assert!(parts(&["x", "yz"]) && parts(&["xy", "z"]), "where one part ends is a part of the key");
    }

    #[test]
    fn it_is_told_how_many_are_left_and_when_more_come() {
        let buckets = buckets(2, 4, false);
        let at = |ms| buckets.take(&["a"], buckets.began + Duration::from_millis(ms));
        let seconds = |taken: Taken| (taken.allowed, taken.remaining, taken.full.as_millis(), taken.next.as_millis());
        assert_eq!(seconds(at(0)), (true, 3, 500, 0));
        assert_eq!(seconds(at(0)), (true, 2, 1000, 0));
        assert_eq!(seconds(at(100)), (true, 1, 1400, 0));
        assert_eq!(seconds(at(100)), (true, 0, 1900, 0));
        assert_eq!(seconds(at(100)), (false, 0, 1900, 400));
        assert_eq!(seconds(at(9000)), (true, 3, 500, 0));
    }

    #[test]
    fn keys_are_bounded_and_those_that_were_lost_are_counted() {
        let buckets = buckets(1, 1, true);
        let lost = |name: &str, at| {
            let take = |number| buckets.take(&[format!("{name} {number}")], buckets.began + at);
            (0..2 * KEYS).map(take).filter(|taken| taken.allowed && taken.lost).count()
        };
        let many = lost("one", Duration::ZERO);
        let kept: usize = buckets.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!((KEYS / 2..=KEYS).contains(&kept), "{kept}");
        assert_eq!(many, 2 * KEYS - kept);
        assert_eq!(lost("other", Duration::from_secs(9)), 2 * KEYS - kept, "one that is full is no loss");
    }

    #[test]
    fn threads_share_them() {
        let buckets = buckets(1, 1000, false);
        let now = buckets.began;
        let taken = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| buckets.take(&["a"], now).allowed).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 1000);
    }
}
