//! Outlier detection (DestinationRule outlierDetection): a host that fails again and again gets no requests for a while.
//! Nobody waits here: what time changes is made up for when somebody looks.
use super::host::Outcome;
use crate::routes::OutlierDetection;
use std::cell::Cell;
use std::time::Duration;

/// Of one host's ejections; Envoy's max_ejection_time.
const LONGEST: Duration = Duration::from_secs(300);

/// A host's past.
#[derive(Default)]
pub struct Health {
    server_errors: Cell<u32>,
    gateway_errors: Cell<u32>,
    local_failures: Cell<u32>,
    /// Since when, if it is out.
    ejected: Cell<Option<Duration>>,
    /// Ejections, less one for each interval without.
    times: Cell<u32>,
}

impl Health {
    pub fn is_ejected(&self) -> bool {
        self.ejected.get().is_some()
    }

    /// Whether its failures are as many as one may have.
    pub fn note(&self, outcome: Outcome, config: &OutlierDetection) -> bool {
        let (server, gateway, local) = match outcome {
            Outcome::Status(status) => {
                let code = status.as_u16();
                let server = match &*config.error_statuses {
                    [] => status.is_server_error(),
                    statuses => statuses.contains(&code),
                };
                (server, (502..=504).contains(&code), false)
            }
            // Counted as a 503 is, unless they are told apart.
            Outcome::LocalOrigin if config.consecutive_local_origin_failures.is_none() => (true, true, false),
            Outcome::LocalOrigin => (false, false, true),
        };
        let from_host = matches!(outcome, Outcome::Status(_)) || config.consecutive_local_origin_failures.is_none();
        let mut over = count(&self.local_failures, local, config.consecutive_local_origin_failures);
        if from_host {
            over |= count(&self.server_errors, server, config.consecutive_5xx);
            over |= count(&self.gateway_errors, gateway, config.consecutive_gateway_errors);
        }
        over
    }

    pub fn eject(&self, now: Duration) {
        self.ejected.set(Some(now));
        self.times.set(self.times.get().saturating_add(1));
        for counter in [&self.server_errors, &self.gateway_errors, &self.local_failures] {
            counter.set(0);
        }
    }

    /// The end of an interval: whether it comes back.
    pub fn review(&self, now: Duration, config: &OutlierDetection) -> bool {
        let Some(since) = self.ejected.get() else {
            self.times.set(self.times.get().saturating_sub(1));
            return false;
        };
        let longest = LONGEST.max(config.base_ejection);
        let back = now >= since + config.base_ejection.saturating_mul(self.times.get()).min(longest);
        if back {
            self.ejected.set(None);
        }
        back
    }
}

/// Whether failures in a row have reached the limit.
fn count(counter: &Cell<u32>, failed: bool, limit: Option<u32>) -> bool {
    counter.set(if failed { counter.get().saturating_add(1) } else { 0 });
    failed && limit.is_some_and(|limit| counter.get() >= limit)
}

/// Whether one more of `all` may go, where `ejected` have gone. One always may, unless none may.
pub fn may_eject(ejected: usize, all: usize, config: &OutlierDetection) -> bool {
    let percent = config.max_ejection_percent as usize;
    percent > 0 && (ejected == 0 || ejected * 100 < percent * all)
}
