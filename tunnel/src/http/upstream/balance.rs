//! Choosing one of several hosts (DestinationRule loadBalancer).
use super::host::Load;
use super::maglev::Maglev;
use super::ring::Ring;
use crate::routes::{Balancing, HashTable, Warmup, MILLION};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Of a host that still warms up, how often another draw may pass it over.
const DRAWS: usize = 10;

/// Hosts of one priority that may be used, and how one of them is chosen.
pub struct Choosing {
    hosts: Vec<Rc<Load>>,
    /// Of each and of those before it; empty: all weigh the same.
    sums: Vec<u64>,
    /// Each host's next turn, in parts of `1 / weight`.
    turns: Vec<Cell<f64>>,
    round: Cell<usize>,
    table: Table,
}

enum Table {
    None,
    Ring(Ring),
    Maglev(Maglev),
}

/// What a choice depends on beside the hosts.
pub struct Wish<'a> {
    pub balancing: &'a Balancing,
    pub warmup: Option<&'a Warmup>,
    /// Of the request's key, where hashing is asked for.
    pub hash: Option<u64>,
    /// Since some moment; hosts tell when they came as the same.
    pub now: Duration,
    pub draw: &'a dyn Fn(u64) -> u64,
}

impl Choosing {
    pub fn new(hosts: Vec<Rc<Load>>, balancing: &Balancing) -> Choosing {
        let named = || hosts.iter().map(|host| (&*host.id, host.weight)).collect::<Vec<_>>();
        let table = match balancing {
            Balancing::Hash { table: HashTable::Ring(minimum), .. } => Table::Ring(Ring::new(&named(), *minimum)),
            Balancing::Hash { table: HashTable::Maglev(size), .. } => Table::Maglev(Maglev::new(&named(), *size)),
            _ => Table::None,
        };
        let alike = hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let add = |sum: &mut u64, host: &Rc<Load>| {
            *sum += u64::from(host.weight);
            Some(*sum)
        };
        let sums = if alike { Vec::new() } else { hosts.iter().scan(0, add).collect() };
        let turns = if alike { Vec::new() } else { hosts.iter().map(|host| Cell::new(host.period())).collect() };
        Choosing { hosts, sums, turns, round: Cell::new(usize::MAX), table }
    }

    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The place of a host in the list that was given.
    pub fn choose(&self, wish: &Wish) -> Option<usize> {
        match (self.hosts.len(), wish.hash, &self.table) {
            (0, ..) => return None,
            (1, ..) => return Some(0),
            (_, Some(hash), Table::Ring(ring)) => return ring.find(hash),
            (_, Some(hash), Table::Maglev(maglev)) => return maglev.find(hash),
            _ => {}
        }
        let mut chosen = self.once(wish);
        let warms = matches!(wish.balancing, Balancing::LeastRequest | Balancing::RoundRobin);
        let Some(warmup) = wish.warmup.filter(|_| warms) else { return Some(chosen) };
        for _ in 0..DRAWS {
            let share = self.hosts[chosen].warmth(warmup, wish.now);
            if share >= MILLION || (wish.draw)(u64::from(MILLION)) < u64::from(share) {
                break;
            }
            chosen = self.once(wish);
        }
        Some(chosen)
    }

    fn once(&self, wish: &Wish) -> usize {
        match wish.balancing {
            Balancing::LeastRequest => {
                let (a, b) = (self.any(wish), self.any(wish));
                if self.hosts[b].is_freer_than(&self.hosts[a]) {
                    b
                } else {
                    a
                }
            }
            Balancing::RoundRobin => self.next(wish),
            _ => self.any(wish),
        }
    }

    /// By weight, by chance.
    fn any(&self, wish: &Wish) -> usize {
        match self.sums.last() {
            None => (wish.draw)(self.hosts.len() as u64) as usize,
            Some(sum) => {
                let point = (wish.draw)(*sum);
                self.sums.partition_point(|sum| *sum <= point)
            }
        }
    }

    /// In turn, from a chance beginning so that many clients do not all begin with the same one. By weight, whose turn is
    /// the earliest.
    fn next(&self, wish: &Wish) -> usize {
        if self.turns.is_empty() {
            let round = match self.round.get() {
                usize::MAX => self.any(wish),
                round => (round + 1) % self.hosts.len(),
            };
            self.round.set(round);
            return round;
        }
        let earliest = (0..self.turns.len()).min_by(|a, b| self.turns[*a].get().total_cmp(&self.turns[*b].get()));
        let earliest = earliest.unwrap_or_default();
        self.turns[earliest].set(self.turns[earliest].get() + self.hosts[earliest].period());
        earliest
    }
}
