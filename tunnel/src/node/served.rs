//! The tunnels that peers have opened to a pod, and how many of them a peer may leave unused.
use crate::hbone::tunnel::Tunnel;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::{Rc, Weak};

/// Of one peer at one worker: a peer needs one for each thread of its own, and each takes some 9 kB.
const IDLE_MAX: usize = 128;

/// Of a peer, in the order in which they were opened.
type Tunnels = BTreeMap<u64, Weak<Tunnel>>;

#[derive(Default)]
pub struct Served {
    peers: RefCell<HashMap<IpAddr, Tunnels>>,
    next: Cell<u64>,
}

/// Takes a tunnel off the list: what is left of one that has ended would be kept with it.
pub struct Known {
    served: Rc<Served>,
    peer: IpAddr,
    id: u64,
}

impl Drop for Known {
    fn drop(&mut self) {
        let peers = &mut *self.served.peers.borrow_mut();
        let Some(tunnels) = peers.get_mut(&self.peer) else { return };
        tunnels.remove(&self.id);
        if tunnels.is_empty() {
            peers.remove(&self.peer);
        }
    }
}

impl Served {
    /// Remembers a tunnel for as long as the result lives. Where its peer has too many without streams the oldest of these
    /// end in order.
    pub fn add(self: &Rc<Self>, tunnel: &Rc<Tunnel>) -> Known {
        let (peer, id) = (tunnel.remote.ip(), self.next.get());
        self.next.set(id + 1);
        for tunnel in self.superfluous(peer) {
            tunnel.drain();
        }
        self.peers.borrow_mut().entry(peer).or_default().insert(id, Rc::downgrade(tunnel));
        Known { served: self.clone(), peer, id }
    }

    /// So many of a peer's idle tunnels that there is room for one more.
    fn superfluous(&self, peer: IpAddr) -> Vec<Rc<Tunnel>> {
        let peers = self.peers.borrow();
        let Some(tunnels) = peers.get(&peer).filter(|tunnels| tunnels.len() >= IDLE_MAX) else { return vec![] };
        let mut idle: Vec<_> = tunnels.values().filter_map(Weak::upgrade).filter(|tunnel| tunnel.is_idle()).collect();
        idle.truncate((idle.len() + 1).saturating_sub(IDLE_MAX));
        idle
    }

    pub fn all(&self) -> Vec<Rc<Tunnel>> {
        self.peers.borrow().values().flat_map(BTreeMap::values).filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hbone::tunnel::testing::{connected, until, Ours};
    use crate::relay::thread::testing;

    #[test]
    fn of_a_peers_idle_tunnels_the_oldest_end() {
        testing::run(async |thread| {
            let served = Rc::<Served>::default();
            let mut tunnels = vec![];
            for n in 0..IDLE_MAX + 3 {
                let (tunnel, mut peer) = connected(&thread, Ours::Server, &[]).await;
                if n == 0 {
                    peer.request(1).await;
                    until(|| tunnel.is_busy()).await;
                }
                let known = served.add(&tunnel);
                tunnels.push((tunnel, peer, known));
            }
            for (_, peer, _) in &mut tunnels[1..3] {
                peer.end().await;
            }
            let ended: Vec<_> = tunnels.iter().map(|(tunnel, ..)| tunnel.is_dead()).collect();
            assert!(ended[1..3].iter().all(|dead| *dead), "the oldest that are idle");
            assert!(!ended[0] && !ended[3..].contains(&true), "what is used, and as many as there may be");
        });
    }

    #[test]
    fn what_has_ended_is_forgotten() {
        testing::run(async |thread| {
            let served = Rc::<Served>::default();
            let (tunnel, _peer) = connected(&thread, Ours::Server, &[]).await;
            let known = served.add(&tunnel);
            assert_eq!(served.all().len(), 1);
            drop(known);
            assert!(served.all().is_empty() && served.peers.borrow().is_empty());
        });
    }
}
