//! OpenMetrics text, with Istio's names.

use std::fmt::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::log::LogWriter;
use super::request::{RequestLabels, RequestTotals, BUCKETS};
use super::series::{Labels, Side, Totals};
use super::{ByReason, Counts, Direction};
use crate::base::{Flag, Refusal};
use crate::sys::panics;

/// All metrics.
pub(super) fn encode(
    series: &[(Arc<Labels>, Totals)],
    requests: &[(Arc<RequestLabels>, RequestTotals)],
    counts: &Counts,
    log: &LogWriter,
) -> String {
    let mut out = Text(String::new());
    traffic(&mut out, series);
    self::requests(&mut out, requests);
    open(&mut out, counts);
    failures(&mut out, counts);
    out.family(
        "warren_dns_queries",
        "counter",
        "Questions of pods for names, while there are names that only the mesh knows",
    );
    for (result, count) in counts.lookups.all() {
        out.sample("warren_dns_queries_total", format_args!("{{result=\"{result}\"}}"), count);
    }
    out.family("warren_log_lines_dropped", "counter", "Access log lines dropped because the log could not keep up");
    out.sample("warren_log_lines_dropped_total", format_args!(""), log.dropped());
    let help = "Access log lines of refusals that were withheld because their peer had too many";
    out.family("warren_log_lines_withheld", "counter", help);
    out.sample("warren_log_lines_withheld_total", format_args!(""), log.withheld());
    out.family("warren_panics", "counter", "Panics in the core: each ended one connection or tunnel, or the process");
    out.sample("warren_panics_total", format_args!(""), panics::count());
    out.family("istio_build", "gauge", "Istio component build info");
    let version = env!("CARGO_PKG_VERSION");
    out.sample("istio_build", format_args!("{{component=\"warren-tunnel\",tag=\"{version}\"}}"), 1);
    out.0.push_str("# EOF\n");
    out.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: fmt::Arguments<'_>, value: impl fmt::Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

type Series = [(Arc<Labels>, Totals)];

fn traffic(out: &mut Text, series: &Series) {
    let always = |count: fn(&Totals) -> u64| move |totals: &Totals| vec![(Flag::Fine, count(totals))];
    let closed = |totals: &Totals, flags: &[Flag]| -> Vec<(Flag, u64)> {
        let counts = flags.iter().map(|flag| (*flag, totals.closed[*flag as usize]));
        counts.filter(|(_, count)| *count > 0).collect()
    };
    let name = "istio_tcp_connections_opened";
    family(out, series, name, "Connections opened", always(|totals| totals.opened));
    let name = "istio_tcp_connections_closed";
    family(out, series, name, "Connections closed", |totals| closed(totals, &Flag::ALL));
    let name = "istio_tcp_connections_failed";
    family(out, series, name, "Connections that failed, also counted as closed", |totals| {
        closed(totals, &Flag::ALL[1..])
    });
    let name = "istio_tcp_received_bytes";
    family(out, series, name, "Bytes that clients sent", always(|totals| totals.received));
    let name = "istio_tcp_sent_bytes";
    family(out, series, name, "Bytes that were sent to clients", always(|totals| totals.sent));
    direct(out, series);
}

fn requests(out: &mut Text, series: &[(Arc<RequestLabels>, RequestTotals)]) {
    out.family("istio_requests", "counter", "Requests, also those that had no answer");
    for (labels, totals) in series {
        let count = totals.durations.iter().sum::<u64>();
        out.sample("istio_requests_total", format_args!("{{{labels}}}"), count);
    }
    let name = "istio_request_duration_milliseconds";
    out.family(name, "histogram", "Time from a request's head to the end of its answer");
    for (labels, totals) in series {
        let mut count = 0;
        for (bucket, counted) in totals.durations.iter().enumerate() {
            count += counted;
            match BUCKETS.get(bucket) {
                Some(bound) => out.sample(name, format_args!("_bucket{{{labels},le=\"{bound:?}\"}}"), count),
                None => out.sample(name, format_args!("_bucket{{{labels},le=\"+Inf\"}}"), count),
            }
        }
        let time = totals.time as f64 / 1e3;
        out.sample(name, format_args!("_sum{{{labels}}}"), time);
        out.sample(name, format_args!("_count{{{labels}}}"), count);
    }
}

/// What the kernel measures of direct connections, told by one end for both.
fn direct(out: &mut Text, series: &Series) {
    let told = || series.iter().filter(|(labels, totals)| labels.direct && totals.measured > 0);
    let name = "warren_direct_rtt_seconds";
    out.family(name, "summary", "Smoothed round-trip times of direct connections when they ended");
    for (labels, totals) in told() {
        out.sample(name, format_args!("_sum{{{labels}}}"), totals.rtt as f64 / 1e6);
        out.sample(name, format_args!("_count{{{labels}}}"), totals.measured);
    }
    let name = "warren_direct_retransmits";
    out.family(name, "counter", "Segments of direct connections that were sent again");
    for (labels, totals) in told() {
        out.sample(name, format_args!("_total{{{labels}}}"), totals.retransmits);
    }
}

fn family(out: &mut Text, series: &Series, name: &str, help: &str, counts: impl Fn(&Totals) -> Vec<(Flag, u64)>) {
    out.family(name, "counter", help);
    for (labels, totals) in series {
        for (flag, count) in counts(totals) {
            let flag = flag.name();
            out.sample(name, format_args!("_total{{{labels},response_flags=\"{flag}\"}}"), count);
        }
    }
}

fn open(out: &mut Text, counts: &Counts) {
    out.family("istio_tcp_sockets_open", "gauge", "Connections of applications that are open");
    for direction in Direction::ALL {
        let open = counts.connections[direction as usize].load(Ordering::Relaxed);
        out.sample("istio_tcp_sockets_open", format_args!("{{reporter=\"{}\"}}", direction.reporter()), open);
    }
    out.family("warren_tunnels_open", "gauge", "Tunnels that are open");
    for direction in Direction::ALL {
        let open = counts.tunnels[direction as usize].load(Ordering::Relaxed);
        out.sample("warren_tunnels_open", format_args!("{{reporter=\"{}\"}}", direction.reporter()), open);
    }
}

fn failures(out: &mut Text, counts: &Counts) {
    out.family("warren_handshakes", "counter", "TLS handshakes; reason is ok or what went wrong");
    for direction in Direction::ALL {
        let reporter = direction.reporter();
        let done = counts.handshakes[direction as usize].load(Ordering::Relaxed);
        out.sample("warren_handshakes_total", format_args!("{{reporter=\"{reporter}\",reason=\"ok\"}}"), done);
        by_reason(out, "warren_handshakes_total", reporter, &counts.handshakes_failed[direction as usize]);
    }
    out.family("warren_tunnels_lost", "counter", "Tunnels that were up and did not end in order, by reason");
    for direction in Direction::ALL {
        let counts = &counts.tunnels_lost[direction as usize];
        by_reason(out, "warren_tunnels_lost_total", direction.reporter(), counts);
    }
    out.family("warren_accepts_failed", "counter", "Connections that a listener could not take when it was due");
    out.sample("warren_accepts_failed_total", format_args!(""), counts.accepts_failed.load(Ordering::Relaxed));
    out.family("warren_connections_refused", "counter", "Connections refused or cut, by reason");
    for direction in Direction::ALL {
        let counts = &counts.refused[direction as usize];
        by_reason(out, "warren_connections_refused_total", direction.reporter(), counts);
    }
    let help = "Connections that a policy denied, would refuse were it not in dry run, or audited";
    out.family("warren_policy_verdicts", "counter", help);
    counts.verdicts.each(|policy, verdict, times| {
        let policy = Value(policy);
        // In place: Rust before 1.89 drops the arguments of a `let` too early.
        let name = "warren_policy_verdicts_total";
        out.sample(name, format_args!("{{policy=\"{policy}\",verdict=\"{verdict}\"}}"), times);
    });
}

fn by_reason(out: &mut Text, name: &str, reporter: &str, counts: &ByReason) {
    for (reason, count) in Refusal::ALL.iter().zip(&counts.0) {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            out.sample(name, format_args!("{{reporter=\"{reporter}\",reason=\"{}\"}}", reason.name()), count);
        }
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "tcp")
    }
}

impl fmt::Display for RequestLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labels.write(f, self.kind.protocol())?;
        write!(f, ",response_code=\"{}\",response_flags=\"{}\"", self.kind.status, self.kind.flags)
    }
}

impl Labels {
    fn write(&self, f: &mut fmt::Formatter<'_>, protocol: &str) -> fmt::Result {
        write!(f, "reporter=\"{}\"", self.direction.reporter())?;
        side(f, "source", &self.source)?;
        side(f, "destination", &self.destination)?;
        let (key, name) = self.service.as_ref().map(|(key, name)| (key, &**name)).unzip();
        label(f, "destination_service", key.map_or("", |key| key.hostname()))?;
        label(f, "destination_service_namespace", key.map_or("", |key| key.namespace()))?;
        label(f, "destination_service_name", name.unwrap_or(""))?;
        label(f, "request_protocol", protocol)?;
        label(f, "connection_security_policy", self.security())
    }
}

fn side(f: &mut fmt::Formatter<'_>, which: &str, side: &Side) -> fmt::Result {
    let app = side.app.as_deref();
    let name = app.map_or("", |app| &app.canonical_name);
    let revision = app.map_or("", |app| &app.canonical_revision);
    let locality = side.locality.as_deref();
    let principal = side.principal.as_ref().map(|identity| identity.to_string());
    for (suffix, value) in [
        ("workload", app.map_or("", |app| &app.workload)),
        ("canonical_service", name),
        ("canonical_revision", revision),
        ("workload_namespace", app.map_or("", |app| &app.namespace)),
        ("principal", principal.as_deref().unwrap_or("")),
        ("app", name),
        ("version", revision),
        ("cluster", app.map_or("", |app| &app.cluster)),
    ] {
        f.write_fmt(format_args!(",{which}_{suffix}=\"{}\"", Value(value)))?;
    }
    for (suffix, value) in
        [("region", locality.map(|locality| &locality.region)), ("zone", locality.map(|locality| &locality.zone))]
    {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            write!(f, ",{which}_{suffix}=\"{}\"", Value(value))?;
        }
    }
    Ok(())
}

fn label(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    write!(f, ",{name}=\"{}\"", Value(value))
}

/// A label's value: escaped, `unknown` where there is none.
struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.0.is_empty() { "unknown" } else { self.0 };
        value.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            _ => f.write_char(c),
        })
    }
}
