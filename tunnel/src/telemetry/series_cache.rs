//! A worker's way to its series, without a look at the labels' text. What is not asked for is forgotten.

use std::collections::{hash_map, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, Weak};

use super::custom::Custom;
use super::party::{Parties, Path};
use super::series::{Counters, Labels, OfSeries, Registry};
use super::{lock, Direction};

/// By the addresses of the labels, which resources of one mesh share, and by what else tells them apart. A turn, which
/// comes about once a minute, makes what was asked for since the last one the former half, and lets go of the half that
/// was the former one: what is in use moves on, and what is gone from the mesh is kept for two turns.
pub struct SeriesCache<K, C> {
    recent: HashMap<Known<K>, Cached<C>>,
    former: HashMap<Known<K>, Cached<C>>,
    leaving: hash_map::IntoIter<Known<K>, Cached<C>>,
    turn: u64,
}

type Known<K> = (Addresses, Option<Arc<Custom>>, K);

type Addresses = [usize; 10];

struct Cached<C> {
    series: Weak<C>,
    /// Keeps the addresses from being used for something else.
    _labels: Labels,
}

impl<K, C> Default for SeriesCache<K, C> {
    fn default() -> Self {
        let leaving = HashMap::new().into_iter();
        SeriesCache { recent: HashMap::default(), former: HashMap::default(), leaving, turn: 0 }
    }
}

/// Entries of a half. More label sets than both hold in use at a time cost a look at their text each.
const HALF: usize = 4096;

/// How many entries are let go at a time: nobody waits for all of them.
const AT_A_TIME: usize = 16;

impl<K: Clone + Eq + Hash, C: Counters> SeriesCache<K, C> {
    /// `all` gives the labels with what `key` says. `turn`: the number of the last one.
    pub fn get<L: OfSeries>(
        &mut self,
        (parties, direction, custom, key): (&Parties, Direction, Option<Arc<Custom>>, K),
        all: impl FnOnce(Labels, K) -> L,
        registry: &Mutex<Registry<L, C>>,
        worker: usize,
        turn: u64,
    ) -> Arc<C> {
        self.leaving.by_ref().take(AT_A_TIME).for_each(drop);
        if (turn != self.turn || self.recent.len() >= HALF) && self.leaving.len() == 0 {
            self.leaving = std::mem::replace(&mut self.former, std::mem::take(&mut self.recent)).into_iter();
            self.turn = turn;
        }
        let known = (addresses(parties, direction), custom, key);
        if let Some(series) = self.recent.get(&known).and_then(|cached| cached.series.upgrade()) {
            return series;
        }
        if let Some((cached, series)) = self.former.remove(&known).and_then(|it| it.series.upgrade().map(|s| (it, s))) {
            self.recent.insert(known, cached);
            return series;
        }
        let labels = Labels::new(parties, direction, known.1.clone());
        let series = lock(registry).part(all(labels.clone(), known.2.clone()), worker);
        self.recent.insert(known, Cached { series: Arc::downgrade(&series), _labels: labels });
        series
    }
}

fn addresses(parties: &Parties, direction: Direction) -> Addresses {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::series::Series;

    /// One worker's cache, what it is of, and how often the labels' text was looked at.
    #[derive(Default)]
    struct Case {
        cache: SeriesCache<(), Series>,
        registry: Mutex<Registry<Labels, Series>>,
        looks: usize,
    }

    impl Case {
        fn ask(&mut self, parties: &Parties, turn: u64) {
            let look = |labels, ()| {
                self.looks += 1;
                labels
            };
            self.cache.get((parties, Direction::Outbound, None, ()), look, &self.registry, 0, turn);
        }

        fn kept(&self) -> usize {
            self.cache.recent.len() + self.cache.former.len() + self.cache.leaving.len()
        }
    }

    fn of(number: usize) -> Parties {
        let identity = format!("spiffe://cluster.local/ns/default/sa/{number}").parse().unwrap();
        Parties { source_identity: Some(Arc::new(identity)), ..Parties::default() }
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_and_what_is_in_use_is_not() {
        let (mut case, used) = (Case::default(), of(0));
        (1..=1000).for_each(|number| case.ask(&of(number), 0));
        for turn in 0..4 {
            (0..1000).for_each(|_| case.ask(&used, turn));
        }
        assert_eq!((case.kept(), case.looks), (1, 1001));
    }

    #[test]
    fn a_turn_lets_go_of_a_few_at_a_time() {
        let (mut case, used) = (Case::default(), of(0));
        (1..=1000).for_each(|number| case.ask(&of(number), 0));
        (1..=2).for_each(|turn| case.ask(&used, turn));
        for turn in 3..10 {
            let before = case.kept();
            case.ask(&used, turn);
            assert_eq!(before - case.kept(), AT_A_TIME);
        }
    }

    #[test]
    fn there_are_never_more_than_three_halves() {
        let mut case = Case::default();
        (0..10 * HALF).for_each(|number| case.ask(&of(number), 0));
        assert!(case.kept() <= 3 * HALF, "{}", case.kept());
    }
}
