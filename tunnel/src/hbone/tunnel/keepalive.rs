//! Asks a silent peer whether it lives, and closes a tunnel that nobody uses.
use super::Tunnel;
use crate::base::Refusal;
use crate::relay::Thread;
use crate::sys::panics::OnPanic;
use crate::sys::turns::Owner;
use std::rc::{Rc, Weak};

/// Seconds without a byte from the peer after which it is asked whether it lives; as many again until it is given up.
const EVERY: u64 = 10;
/// Rounds after which a tunnel without streams is closed: 5 minutes.
const IDLE_ROUNDS: u32 = 30;

/// Ends with the tunnel, which it does not keep.
pub(super) async fn run(thread: Rc<Thread>, owner: Owner, tunnel: Weak<Tunnel>) {
    let mut rounds = Rounds::default();
    loop {
        thread.clock.sleep(EVERY).await;
        if !rounds.next(&thread, owner, &tunnel).await {
            return;
        }
    }
}

#[derive(Default)]
struct Rounds {
    /// The peer has been asked in the last one.
    asked: bool,
    /// How many there were since it had a stream.
    idle: u32,
}

impl Rounds {
    /// False: the tunnel has ended.
    async fn next(&mut self, thread: &Thread, owner: Owner, tunnel: &Weak<Tunnel>) -> bool {
        thread.turns.begin(owner).await; // thousands may be due in the same second
        let Some(tunnel) = tunnel.upgrade().filter(|tunnel| !tunnel.is_dead()) else { return false };
        self.look_at(&tunnel);
        true
    }

    fn look_at(&mut self, tunnel: &Tunnel) {
        let _guard = OnPanic(|| tunnel.break_down());
        match (tunnel.heard.replace(false), self.asked) {
            (true, _) => self.asked = false,
            (false, false) => {
                self.asked = true;
                let session = &mut *tunnel.session.borrow_mut();
                session.ping();
                tunnel.flush(session);
            }
            (false, true) => return tunnel.kill(Refusal::TunnelLost, "the peer does not answer"),
        }
        tunnel.streams.borrow().look();
        self.idle = if tunnel.has_streams() { 0 } else { self.idle + 1 };
        if self.idle >= IDLE_ROUNDS {
            tunnel.drain();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::frame::Event;
    use crate::hbone::tunnel::testing::{connected, until, Ours};
    use crate::relay::thread::testing;
    use crate::sys::testing::waits;
    use std::pin::pin;
    use tokio::task::spawn_local;

    #[test]
    fn a_silent_peer_is_asked_once_and_then_given_up() {
        testing::run(async |thread| {
            let (tunnel, mut peer) = connected(&thread, Ours::Client, &[]).await;
            let mut rounds = Rounds::default();
            rounds.look_at(&tunnel); // it has greeted
            rounds.look_at(&tunnel);
            peer.hears(Event::Ping(*b"warren??")).await;
            assert!(!tunnel.is_dead());
            rounds.look_at(&tunnel);
            assert_eq!(peer.ended.await.unwrap().unwrap_err().refusal, Refusal::TunnelLost);
        });
    }

    #[test]
    fn a_peer_that_answers_is_kept_until_nobody_needs_it() {
        testing::run(async |thread| {
            let (tunnel, peer) = connected(&thread, Ours::Client, &[]).await;
            let mut rounds = Rounds::default();
            for _ in 1..IDLE_ROUNDS {
                tunnel.heard.set(true);
                rounds.look_at(&tunnel);
            }
            assert!(tunnel.is_usable());
            rounds.look_at(&tunnel);
            assert!(peer.ended.await.unwrap().is_ok());
        });
    }

    #[test]
    fn a_round_takes_a_turn() {
        testing::run(async |thread| {
            let (tunnel, _peer) = connected(&thread, Ours::Client, &[]).await;
            let (mut rounds, weak) = (Rounds::default(), Rc::downgrade(&tunnel));
            thread.turns.use_up(tunnel.pod.number());
            let mut next = pin!(rounds.next(&thread, tunnel.owner(), &weak));
            assert!(waits(next.as_mut()));
            assert!(tunnel.heard.get(), "nobody has looked");
            assert!(next.await);
        });
    }

    /// Nobody else would ask whether its peer lives.
    #[test]
    fn a_tunnel_whose_keepalive_panics_ends() {
        testing::run(async |thread| {
            let (tunnel, peer) = connected(&thread, Ours::Client, &[]).await;
            tunnel.heard.set(false);
            std::mem::forget(tunnel.session.borrow()); // to be asked for panics from now on
            let looked_at = tunnel.clone();
            let looking = spawn_local(async move { Rounds::default().look_at(&looked_at) });
            assert!(looking.await.unwrap_err().is_panic());
            assert!(tunnel.killed.borrow().is_some() || tunnel.is_dead());
            until(|| tunnel.is_dead()).await;
            assert_eq!(peer.ended.await.unwrap().unwrap_err().refusal, Refusal::InternalError);
        });
    }
}
