//! Durations of many operations, summed up.

use std::time::Duration;

use rustix::time::{clock_gettime, ClockId};

/// CPU time of this process so far, user and system.
pub fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// One JSON object: count, operations per second, CPU seconds of this process, percentiles in microseconds.
pub fn summary(mut took: Vec<Duration>, elapsed: Duration, cpu: Duration) -> String {
    took.sort_unstable();
    let at = |q: f64| micros(took.get((took.len() as f64 * q) as usize).or(took.last()));
    format!(
        r#"{{"count":{},"per_second":{:.1},"cpu":{:.6},"min":{:.1},"p50":{:.1},"p90":{:.1},"p99":{:.1},"max":{:.1}}}"#,
        took.len(),
        took.len() as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64(),
        at(0.0),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

fn micros(took: Option<&Duration>) -> f64 {
    took.map_or(0.0, |d| d.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_durations() {
        let took = (1..=100).rev().map(Duration::from_micros).collect();
        let text = summary(took, Duration::from_secs(2), Duration::from_millis(1));
        assert_eq!(
            text,
            r#"{"count":100,"per_second":50.0,"cpu":0.001000,"min":1.0,"p50":51.0,"p90":91.0,"p99":100.0,"max":100.0}"#
        );
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert!(summary(vec![], Duration::from_secs(1), Duration::ZERO).contains(r#""p99":0.0"#));
    }
}
