//! Priorities: requests go to hosts of the first one, as far as enough of them are healthy.
use super::balance::{Choosing, Wish};
use super::host::Host;
use crate::routes::{Destination, Policy};
use std::rc::Rc;

/// How much more than its part a healthy host can take; Envoy's overprovisioning_factor, in percent.
const OVERPROVISIONED: u64 = 140;

/// Hosts as they can be chosen now; made anew when hosts or their health change.
pub struct Levels<S> {
    levels: Vec<Level<S>>,
}

/// Whether a host has been tried.
type HasTried<'a, S> = &'a dyn Fn(&Host<S>) -> bool;

struct Level<S> {
    /// Percent of all requests.
    load: u64,
    hosts: Vec<Rc<Host<S>>>,
    choosing: Choosing,
}

impl<S> Levels<S> {
    pub fn new(hosts: &[Rc<Host<S>>], destination: &Destination) -> Levels<S> {
        let mut priorities = hosts.iter().map(|host| host.endpoint.priority).collect::<Vec<_>>();
        priorities.sort_unstable();
        priorities.dedup();
        let of = |priority| hosts.iter().filter(move |host| host.endpoint.priority == priority);
        let usable = |priority| {
            let all = of(priority).cloned().collect::<Vec<_>>();
            let healthy = all.iter().filter(|host| !host.health.is_ejected()).cloned().collect::<Vec<_>>();
            let percent = (healthy.len() * 100 / all.len()) as u64;
            (all, healthy, percent)
        };
        let mut levels = priorities.into_iter().map(usable).collect::<Vec<_>>();
        let healthy = |percent: u64| (percent * OVERPROVISIONED / 100).min(100);
        let sum = levels.iter().map(|(.., percent)| healthy(*percent)).sum::<u64>().min(100);
        let mut left = 100;
        let level = |(all, fit, percent): (Vec<_>, Vec<_>, u64)| {
            let load = (healthy(percent) * 100).checked_div(sum).unwrap_or(0).min(left);
            left -= load;
            let hosts = if panics(percent, &destination.policy) { all } else { fit };
            let loads = hosts.iter().map(|host: &Rc<Host<S>>| host.load.clone()).collect();
            Level { load, choosing: Choosing::new(loads, &destination.policy.balancing), hosts }
        };
        let mut levels = levels.drain(..).map(level).collect::<Vec<_>>();
        // What rounding leaves, or everything where nobody is healthy, is the first one's.
        if let Some(first) = levels.first_mut() {
            first.load += left;
        }
        Levels { levels }
    }

    #[cfg(test)]
    pub fn usable(&self) -> usize {
        self.levels.iter().map(|level| level.hosts.len()).sum()
    }

    /// Prefers those of which `avoid` does not say that they were tried.
    pub fn choose(&self, wish: &Wish, avoid: HasTried<S>, others: bool) -> Option<Rc<Host<S>>> {
        let level = self.level(wish, others.then_some(avoid))?;
        let mut chosen = level.choosing.choose(wish)?;
        if level.choosing.len() > 1 {
            // Envoy's host_selection_retry_max_attempts, then whoever comes next.
            for _ in 0..5 {
                if !avoid(&level.hosts[chosen]) {
                    return Some(level.hosts[chosen].clone());
                }
                chosen = level.choosing.choose(wish)?;
            }
            let fresh = (0..level.hosts.len()).map(|step| (chosen + step) % level.hosts.len());
            chosen = fresh.into_iter().find(|at| !avoid(&level.hosts[*at])).unwrap_or(chosen);
        }
        Some(level.hosts[chosen].clone())
    }

    /// By load; one that has been tried whole is left, where retries may.
    fn level(&self, wish: &Wish, tried: Option<HasTried<S>>) -> Option<&Level<S>> {
        let mut levels = self.levels.iter().filter(|level| !level.hosts.is_empty());
        if let Some(tried) = tried {
            let fresh = levels.clone().find(|level| level.hosts.iter().any(|host| !tried(host)));
            return fresh.or_else(|| levels.next());
        }
        if self.levels.len() == 1 {
            return self.levels.first();
        }
        let mut point = (wish.draw)(100);
        let chosen = self.levels.iter().find(|level| {
            let here = point < level.load;
            point = point.saturating_sub(level.load);
            here
        });
        chosen.filter(|level| !level.hosts.is_empty()).or_else(|| levels.next())
    }
}

/// Whether so few are healthy that ejections do not count (minHealthPercent).
fn panics(percent: u64, policy: &Policy) -> bool {
    policy.outliers.as_ref().is_some_and(|outliers| percent < u64::from(outliers.min_health_percent))
}
