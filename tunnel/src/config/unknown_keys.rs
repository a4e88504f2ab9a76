//! Policies of which tokens name a key that is in none of their key sets: the issuer may have got another one since its set
//! was fetched, so the control plane is asked to look. Whoever invents names of keys has it asked no more often.
use rustix::event::{eventfd, EventfdFlags};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From one question about a policy to the next.
const PAUSE: Duration = Duration::from_secs(5);

pub struct UnknownKeys {
    table: Mutex<Table>,
    /// Readable while there is news.
    news: OwnedFd,
}

#[derive(Default)]
struct Table {
    asked: HashMap<Arc<str>, Instant>,
    news: Vec<Arc<str>>,
}

impl UnknownKeys {
    pub fn new() -> io::Result<UnknownKeys> {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(UnknownKeys { table: Mutex::default(), news })
    }

    /// To wait for news.
    pub fn descriptor(&self) -> RawFd {
        self.news.as_raw_fd()
    }

    /// A token has come to these policies, by `namespace/name`.
    pub fn met<'a>(&self, policies: impl Iterator<Item = &'a Arc<str>>, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.asked.retain(|_, asked| now.duration_since(*asked) < PAUSE);
        for policy in policies {
            if !table.asked.contains_key(policy) {
                table.asked.insert(policy.clone(), now);
                table.news.push(policy.clone());
                // Fails only when the counter is full: then it is readable anyway.
                let _ = rustix::io::write(&self.news, &1_u64.to_ne_bytes());
            }
        }
    }

    /// The policies since the last call.
    pub fn news(&self) -> Vec<Arc<str>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // It is empty when somebody else has asked meanwhile.
        let _ = rustix::io::read(&self.news, &mut [0; 8]);
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
