//! On-demand configuration: what this node has asked the control plane for, by name, instead of having it all.
//!
//! Names are those of the protocol: `<network>/<ip>`, `<namespace>/<hostname>`, a workload's uid. Whoever needs something
//! says so each time; a name that nobody has needed for a while is dropped, with what it brought.
use crate::sys::bell::Bell;
use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Names of which the control plane knows nothing: a pod that scans a network must not fill our memory with them.
const ABSENT_MAX: usize = 16_384;

pub struct Subscriptions {
    table: Mutex<Table>,
    /// Rung while there is news.
    bell: Bell,
}

#[derive(Default)]
struct Table {
    asked: HashMap<Arc<str>, Asked>,
    absent: usize,
    news: News,
}

struct Asked {
    used: Instant,
    /// Whether we were told that there is nothing of this name.
    absent: bool,
}

/// What the control plane has not heard of yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    pub asked: Vec<Arc<str>>,
    pub dropped: Vec<Arc<str>>,
}

impl Subscriptions {
    pub fn new() -> io::Result<Subscriptions> {
        Ok(Subscriptions { table: Mutex::default(), bell: Bell::new()? })
    }

    /// To wait for news.
    pub fn descriptor(&self) -> RawFd {
        self.bell.descriptor()
    }

    /// Asks for a name, if that was not done yet. Gives whether it is known that there is nothing of that name.
    pub fn want(&self, name: &str) -> bool {
        let mut table = self.lock();
        let used = Instant::now();
        if let Some(asked) = table.asked.get_mut(name) {
            asked.used = used;
            return asked.absent;
        }
        if table.absent >= ABSENT_MAX {
            table.drop_where(|asked| asked.absent);
        }
        let name: Arc<str> = name.into();
        table.asked.insert(name.clone(), Asked { used, absent: false });
        table.news.asked.push(name);
        self.bell.ring();
        false
    }

    /// There is nothing of these names; those that were not asked for are nobody's concern here.
    pub fn absent<'a>(&self, names: impl IntoIterator<Item = &'a String>) {
        let mut table = self.lock();
        for name in names {
            let Some(asked) = table.asked.get_mut(name.as_str()).filter(|asked| !asked.absent) else { continue };
            asked.absent = true;
            table.absent += 1;
        }
    }

    /// What was asked for and dropped since the last call.
    pub fn news(&self) -> News {
        let mut table = self.lock();
        self.bell.clear();
        let News { asked, mut dropped } = std::mem::take(&mut table.news);
        dropped.retain(|name| !table.asked.contains_key(name)); // it was asked for again
        News { asked, dropped }
    }

    /// All that is asked for, for a new stream; it is no news any more.
    pub fn all(&self) -> Vec<Arc<str>> {
        self.news();
        self.lock().asked.keys().cloned().collect()
    }

    /// Drops what nobody has needed since then.
    pub fn drop_unused(&self, since: Instant) {
        self.lock().drop_where(|asked| asked.used < since);
        self.bell.ring();
    }

    /// These came with what was dropped: a control plane may go on telling of them.
    pub fn drop_too(&self, names: Vec<Arc<str>>) {
        self.lock().news.dropped.extend(names);
        self.bell.ring();
    }

    /// Whether a name is asked for, for as long as the result lives.
    pub fn is_asked(&self) -> impl Fn(&str) -> bool + '_ {
        let table = self.lock();
        move |name| table.asked.contains_key(name)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn drop_where(&mut self, unused: impl Fn(&Asked) -> bool) {
        let dropped = &mut self.news.dropped;
        self.asked.retain(|name, asked| {
            let keep = !unused(asked);
            if !keep {
                dropped.push(name.clone());
            }
            keep
        });
        self.absent = self.asked.values().filter(|asked| asked.absent).count();
        // A name that is dropped before anybody was told of it.
        self.news.asked.retain(|name| self.asked.contains_key(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn texts(names: &[Arc<str>]) -> Vec<&str> {
        let mut texts: Vec<&str> = names.iter().map(|name| &**name).collect();
        texts.sort_unstable();
        texts
    }

    #[test]
    fn a_name_is_news_once_and_absent_when_told() {
        let demand = Subscriptions::new().unwrap();
        assert!(!demand.want("/10.0.0.1"));
        assert!(!demand.want("/10.0.0.1"));
        assert_eq!(texts(&demand.news().asked), ["/10.0.0.1"]);
        assert_eq!(demand.news(), News::default());
        demand.absent(&["/10.0.0.1".to_owned(), "/10.0.0.2".to_owned()]);
        assert!(demand.want("/10.0.0.1"));
        assert!(!demand.want("/10.0.0.2"));
        assert_eq!(texts(&demand.all()), ["/10.0.0.1", "/10.0.0.2"]);
        assert_eq!(demand.news(), News::default());
    }

    #[test]
    fn what_nobody_needs_is_dropped() {
        let demand = Subscriptions::new().unwrap();
        demand.want("a");
        demand.news();
        demand.drop_unused(Instant::now() - Duration::from_secs(3600));
        assert_eq!(demand.news(), News::default());
        demand.drop_unused(Instant::now());
        assert_eq!(texts(&demand.news().dropped), ["a"]);
        assert!(!demand.is_asked()("a"));
        demand.want("a");
        demand.news();
        demand.drop_unused(Instant::now());
        demand.want("a");
        assert_eq!(demand.news(), News { asked: vec!["a".into()], dropped: vec![] }, "dropped and asked for again");
    }

    #[test]
    fn absent_names_are_bounded() {
        let demand = Subscriptions::new().unwrap();
        demand.want("kept");
        for n in 0..3 * ABSENT_MAX {
            demand.want(&n.to_string());
            demand.absent(&[n.to_string()]);
        }
        assert!(demand.all().len() <= ABSENT_MAX + 1);
        assert!(demand.is_asked()("kept"));
    }
}
