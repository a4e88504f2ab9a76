//! Who is connected to a pod in the clear, and by which port.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A client's end of a connection, and the pod's.
type Ends = (SocketAddr, SocketAddr);

/// The connections of one pod. All workers share it; a tree, as that gives back what a burst took.
#[derive(Default)]
pub struct Plain(Mutex<BTreeMap<Ends, usize>>);

/// Takes a connection off the list.
pub struct Known {
    plain: Arc<Plain>,
    ends: Ends,
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut known = self.plain.lock();
        if let Some(count) = known.get_mut(&self.ends) {
            *count -= 1;
            if *count == 0 {
                known.remove(&self.ends);
            }
        }
    }
}

impl Plain {
    /// Remembers a connection for as long as the result lives. A client may have its next one by the same port before the
    /// end of the last one has been seen.
    pub fn add(self: &Arc<Self>, client: SocketAddr, pod: SocketAddr) -> Known {
        *self.lock().entry((client, pod)).or_default() += 1;
        Known { plain: self.clone(), ends: (client, pod) }
    }

    pub fn has(&self, client: SocketAddr, pod: SocketAddr) -> bool {
        self.lock().contains_key(&(client, pod))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ends, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_known_until_the_last_of_its_ends_is_gone() {
        let (plain, client, pod) = (Arc::<Plain>::default(), "10.0.0.9:4000".parse().unwrap(), "10.0.0.1:80".parse());
        let pod = pod.unwrap();
        let (last, next) = (plain.add(client, pod), plain.add(client, pod));
        assert!(plain.has(client, pod) && !plain.has(pod, client));
        drop(last);
        assert!(plain.has(client, pod));
        drop(next);
        assert!(!plain.has(client, pod) && plain.lock().is_empty());
    }
}
