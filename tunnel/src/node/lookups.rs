//! Names of the world that requests and ClientHellos bring along, of which DNS has to tell the addresses (ServiceEntry,
//! resolution DYNAMIC_DNS). Applications choose them, so there are only so many, those that were used last.
use crate::sys::bell::Bell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// As Envoy's dynamic forward proxy: max_hosts and host_ttl.
const MOST: usize = 1024;
const UNUSED: Duration = Duration::from_secs(5 * 60);

pub struct Lookups {
    table: Mutex<HashMap<Arc<str>, Lookup>>,
    /// Rung when a name is new.
    bell: Bell,
}

struct Lookup {
    used: Instant,
    /// None: there is no answer yet.
    addresses: Option<Arc<[IpAddr]>>,
}

impl Lookups {
    pub fn new() -> io::Result<Lookups> {
        Ok(Lookups { table: Mutex::default(), bell: Bell::new()? })
    }

    /// To wait for a name that is new.
    pub fn descriptor(&self) -> RawFd {
        self.bell.descriptor()
    }

    /// The addresses of a name as [`crate::base::dns_name`] has it; empty: it has none. None: there is no answer yet, but it is
    /// asked for from now on.
    pub fn addresses(&self, name: &str, now: Instant) -> Option<Arc<[IpAddr]>> {
        let mut table = self.lock();
        if let Some(known) = table.get_mut(name) {
            known.used = now;
            return known.addresses.clone();
        }
        if table.len() >= 2 * MOST {
            return Some(Arc::default()); // until `names` has made room
        }
        table.insert(name.into(), Lookup { used: now, addresses: None });
        self.bell.ring();
        None
    }

    /// What DNS has answered; None: it has not, and the last answer stays, or there is no address. Gives whether anybody has
    /// needed the name lately.
    pub fn answer(&self, name: &str, addresses: Option<&[IpAddr]>, now: Instant) -> bool {
        let mut table = self.lock();
        let Some(known) = table.get_mut(name) else { return false };
        match addresses {
            Some(addresses) => known.addresses = Some(addresses.into()),
            None => drop(known.addresses.get_or_insert_default()),
        }
        now.duration_since(known.used) < UNUSED
    }

    /// The names that are needed; forgets the others. Whoever asks DNS learns in this way what has gone.
    pub fn names(&self, now: Instant) -> Vec<Arc<str>> {
        self.bell.clear();
        let mut table = self.lock();
        let mut used: Vec<_> = table.values().map(|known| known.used).collect();
        used.sort_unstable_by(|one, other| other.cmp(one));
        let oldest = used.get(MOST).copied();
        let is_needed = |known: &Lookup| oldest.is_none_or(|oldest| known.used > oldest);
        table.retain(|_, known| is_needed(known) && now.duration_since(known.used) < UNUSED);
        table.keys().cloned().collect()
    }

    /// What DNS has answered for each name.
    pub fn answers(&self) -> Vec<(Arc<str>, Arc<[IpAddr]>)> {
        let answer = |(name, known): (&Arc<str>, &Lookup)| Some((name.clone(), known.addresses.clone()?));
        self.lock().iter().filter_map(answer).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Lookup>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_is_asked_for_until_nobody_needs_it() {
        let (lookups, now) = (Lookups::new().unwrap(), Instant::now());
        assert_eq!(lookups.addresses("a.example", now), None);
        assert_eq!(lookups.names(now), ["a.example".into()]);
        assert!(lookups.answer("a.example", Some(&ips(&["192.0.2.1"])), now));
        assert_eq!(*lookups.addresses("a.example", now).unwrap(), *ips(&["192.0.2.1"]));
        assert!(!lookups.answer("b.example", Some(&[]), now), "nobody has asked");
        let later = now + UNUSED;
        assert!(!lookups.answer("a.example", Some(&[]), later));
        assert!(lookups.names(later).is_empty());
    }

    #[test]
    fn without_an_answer_the_last_one_stays_or_there_is_no_address() {
        let (lookups, now) = (Lookups::new().unwrap(), Instant::now());
        for (name, first, expected) in
            [("known.example", Some(ips(&["192.0.2.1"])), ips(&["192.0.2.1"])), ("new.example", None, vec![])]
        {
            lookups.addresses(name, now);
            if let Some(first) = first {
                lookups.answer(name, Some(&first), now);
            }
            lookups.answer(name, None, now);
            assert_eq!(*lookups.addresses(name, now).unwrap(), *expected, "{name}");
        }
    }

    #[test]
    fn whoever_invents_names_pushes_out_those_that_nobody_uses() {
        let (lookups, begin) = (Lookups::new().unwrap(), Instant::now());
        let at = |number: usize| begin + Duration::from_millis(number as u64);
        let give = |name: &str, number| lookups.addresses(name, at(number));
        (0..2 * MOST).for_each(|number| assert_eq!(give(&format!("{number}.example"), number), None));
        assert_eq!(give("late.example", 2 * MOST).as_deref(), Some(&[][..]), "for now");
        assert_eq!(give("0.example", 2 * MOST), None);
        let names = lookups.names(at(2 * MOST));
        assert_eq!(names.len(), MOST);
        assert!(names.contains(&"0.example".into()) && !names.contains(&"1.example".into()));
        assert_eq!(give("late.example", 2 * MOST), None);
    }
}
