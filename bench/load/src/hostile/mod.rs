//! An authenticated peer that means harm, and an honest one that measures what others feel of it.

mod attacks;
mod frames;
mod peer;
mod probe;
mod tally;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::serve::Kind;
use crate::stats::cpu_time;
use crate::Failure;
use attacks::{Attack, ATTACKS};
use peer::{End, Target};
pub use probe::{echoes, pings};
use tally::{Budget, Tally};

/// Ports of the pod's applications: one that echoes, one that sends without end, one that never reads.
const ECHO: u16 = 7000;
const SOURCE: u16 = 7001;
const HELD: u16 = 7002;
/// Between two tries of an attack that ends at once.
const PAUSE: Duration = Duration::from_millis(1);

/// What runs in a pod that is attacked.
pub fn applications(ip: IpAddr) -> Vec<(SocketAddr, Kind)> {
    let servers = [(ECHO, Kind::Echo), (SOURCE, Kind::Source), (HELD, Kind::Held)];
    servers.map(|(port, kind)| (SocketAddr::new(ip, port), kind)).to_vec()
}

/// A line for each attack: its name and what it does.
pub fn list() {
    for Attack { name, about, .. } in ATTACKS {
        println!("{name}\t{about}");
    }
}

/// Who attacks: files in PEM.
pub struct Identity<'a> {
    pub chain: &'a str,
    pub key: &'a str,
}

/// Attacks the tunnel at `addr` with all of `names` at once (comma-separated), at most `rate` bytes a second in all. Prints
/// what was sent, and for each attack how often what happened.
pub fn attack(addr: SocketAddr, time: Duration, rate: f64, who: &Identity, names: &str) -> Result<(), Failure> {
    let tls = peer::client_config(Path::new(who.chain), Path::new(who.key))?;
    let budget = Arc::new(Budget::new(rate));
    let until = Instant::now() + time;
    let chosen = names.split(',').map(find).collect::<Result<Vec<_>, _>>()?;
    let target = |_: &_| Target { addr, tls: tls.clone(), budget: budget.clone(), until, tally: Tally::default() };
    let targets: Vec<Target> = chosen.iter().map(target).collect();
    std::thread::scope(|scope| {
        for (attack, target) in chosen.iter().zip(&targets) {
            (0..attack.threads).for_each(|_| drop(scope.spawn(|| repeat(attack, target))));
        }
    });
    let told =
        chosen.iter().zip(&targets).map(|(attack, target)| format!(r#""{}":{}"#, attack.name, target.tally.to_json()));
    let cpu = cpu_time().as_secs_f64();
    println!(r#"{{"sent":{},"cpu":{cpu:.3},"attacks":{{{}}}}}"#, budget.sent(), told.collect::<Vec<_>>().join(","));
    Ok(())
}

fn find(name: &str) -> Result<&'static Attack, Failure> {
    ATTACKS.iter().find(|attack| attack.name == name).ok_or_else(|| format!("{name}: no such attack").into())
}

fn repeat(attack: &Attack, target: &Target) {
    while !target.is_over() {
        match (attack.once)(target) {
            Ok(()) | Err(End::Over) => target.tally.count("done"),
            Err(end) => target.tally.count(&format!("end {}", end.name())),
        }
        std::thread::sleep(PAUSE);
    }
}
