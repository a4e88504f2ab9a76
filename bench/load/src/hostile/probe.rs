//! What an honest user of the same tunnel feels: PINGs of tunnels, echoes of a connection, each at its time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::frames::{self, PING};
use super::peer::{client_config, End, Peer, Target};
use super::tally::{Budget, Tally};
use super::Identity;
use crate::client::{connect, exchange};
use crate::stats::{cpu_time, summary};
use crate::{gate, Failure};

/// PINGs in each of `tunnels` tunnels of an honest peer, one each `interval`.
pub fn pings(
    addr: SocketAddr,
    time: Duration,
    interval: Duration,
    tunnels: usize,
    who: &Identity,
) -> Result<(), Failure> {
    let tls = client_config(Path::new(who.chain), Path::new(who.key))?;
    let budget = Arc::new(Budget::new(1e9));
    let until = Instant::now() + Duration::from_secs(3600); // ends by `time`
    let target = Target { addr, tls, budget, until, tally: Tally::default() };
    let name = |end: End| Failure::from(end.name());
    let peers = (0..tunnels).map(|_| Peer::open(&target, &[]).map_err(name)).collect::<Result<Vec<_>, _>>()?;
    let asks = peers.into_iter().map(|mut peer| {
        move || {
            let mut ping = Vec::new();
            frames::frame(&mut ping, PING, 0, 0, b"honestly");
            let answered = peer.heard.pings;
            peer.send(&ping).and_then(|()| peer.hear_until(|heard| heard.pings > answered)).map_err(name)
        }
    });
    paced(time, interval, asks.collect())
}

/// Round trips of a byte on a connection to an echo server, one each `interval`.
pub fn echoes(addr: SocketAddr, time: Duration, interval: Duration) -> Result<(), Failure> {
    let mut stream = connect(addr)?;
    stream.set_nodelay(true)?;
    paced(time, interval, vec![move || exchange(&mut stream, &mut [b'x'])])
}

/// Calls each of `asks` once an interval, each in a thread of its own. What is late makes what follows late, too: a time is
/// measured from when it was due.
fn paced<F: FnMut() -> Result<(), Failure> + Send>(
    time: Duration,
    interval: Duration,
    asks: Vec<F>,
) -> Result<(), Failure> {
    let (took, failed) = (&Mutex::new(Vec::new()), &Mutex::new(None));
    gate()?;
    let (start, cpu) = (Instant::now(), cpu_time());
    std::thread::scope(|scope| {
        for mut ask in asks {
            scope.spawn(move || {
                let mut due = start;
                let mut own = Vec::new();
                while due - start < time {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    if let Err(failure) = ask() {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure.to_string());
                        break;
                    }
                    own.push(due.elapsed());
                    due += interval;
                }
                took.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own);
            });
        }
    });
    if let Some(failure) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(Failure::from(failure));
    }
    let took = std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner));
    println!("{}", summary(took, start.elapsed(), cpu_time() - cpu));
    Ok(())
}
