//! Consistent hashing by Maglev's table (DestinationRule consistentHash.maglev; Eisenbud et al., NSDI 2016, section 3.4).
use super::hash;

pub struct Maglev(Vec<u32>);

struct Filling {
    offset: u64,
    skip: u64,
    next: u64,
    /// Places that it still waits for, in parts of its weight.
    claim: f64,
    share: f64,
}

impl Maglev {
    /// `hosts`: names and weights; `size` is a prime.
    pub fn new(hosts: &[(&str, u32)], size: u64) -> Maglev {
        let size = size.max(3);
        let most = hosts.iter().map(|(_, weight)| *weight).max().unwrap_or(1).max(1);
        let mut filling = hosts.iter().map(|(name, weight)| Filling {
            offset: hash::numbered(name.as_bytes(), 0) % size,
            skip: hash::numbered(name.as_bytes(), 1) % (size - 1) + 1,
            next: 0,
            claim: 0.0,
            share: f64::from(*weight) / f64::from(most),
        });
        let mut filling = filling.by_ref().collect::<Vec<_>>();
        let mut table = vec![u32::MAX; if hosts.is_empty() { 0 } else { size as usize }];
        let mut empty = table.len();
        while empty > 0 {
            for (index, host) in filling.iter_mut().enumerate() {
                host.claim += host.share;
                if host.claim < 1.0 || empty == 0 {
                    continue;
                }
                host.claim -= 1.0;
                *host.place(&mut table, size) = index as u32;
                empty -= 1;
            }
        }
        Maglev(table)
    }

    pub fn find(&self, hash: u64) -> Option<usize> {
        let size = (!self.0.is_empty()).then_some(self.0.len() as u64)?;
        Some(self.0[(hash % size) as usize] as usize)
    }
}

impl Filling {
    /// The next place of its permutation that nobody has; there is one.
    fn place<'a>(&mut self, table: &'a mut [u32], size: u64) -> &'a mut u32 {
        loop {
            let at = ((self.offset + self.next * self.skip) % size) as usize;
            self.next += 1;
            if table[at] == u32::MAX {
                return &mut table[at];
            }
        }
    }
}
