//! Policies of which tokens name a key that is in none of their key sets: the issuer may have got another one since its set
//! was fetched, so the control plane is asked to look. Whoever invents names of keys has it asked no more often.
use crate::sys::bell::Bell;
use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From one question about a policy to the next.
const PAUSE: Duration = Duration::from_secs(5);

pub struct UnknownKeys {
    table: Mutex<Table>,
    /// Rung while there is news.
    bell: Bell,
}

#[derive(Default)]
struct Table {
    asked: HashMap<Arc<str>, Instant>,
    news: Vec<Arc<str>>,
}

impl UnknownKeys {
    pub fn new() -> io::Result<UnknownKeys> {
        Ok(UnknownKeys { table: Mutex::default(), bell: Bell::new()? })
    }

    /// To wait for news.
    pub fn descriptor(&self) -> RawFd {
        self.bell.descriptor()
    }

    /// A token has come to these policies, by `namespace/name`.
    pub fn met<'a>(&self, policies: impl Iterator<Item = &'a Arc<str>>, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.asked.retain(|_, asked| now.duration_since(*asked) < PAUSE);
        for policy in policies {
            if !table.asked.contains_key(policy) {
                table.asked.insert(policy.clone(), now);
                table.news.push(policy.clone());
                self.bell.ring();
            }
        }
    }

    /// The policies since the last call.
    pub fn news(&self) -> Vec<Arc<str>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        self.bell.clear();
        std::mem::take(&mut table.news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_news_once_in_a_while() {
        let (keys, began) = (UnknownKeys::new().unwrap(), Instant::now());
        let [one, other]: [Arc<str>; 2] = ["a/one".into(), "a/other".into()];
        keys.met([&one].into_iter(), began);
        keys.met([&one, &other].into_iter(), began + PAUSE / 2);
        assert_eq!(keys.news(), [one.clone(), other.clone()]);
        keys.met([&one, &other].into_iter(), began + PAUSE);
        assert_eq!(keys.news(), [one]);
        assert_eq!(keys.news(), []);
    }
}
