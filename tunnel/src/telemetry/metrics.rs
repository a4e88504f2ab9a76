//! OpenMetrics text, with Istio's names.

use std::fmt::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::labels::{rendered, Value};
use super::log::LogWriter;
use super::phases::Phases;
use super::request::{Histogram, RequestLabels, RequestTotals, BUCKETS};
use super::series::{Labels, Totals};
use super::{ByReason, Counts, Direction};
use crate::base::{Flag, Refusal};
use crate::observability::MetricName;
use crate::sys::panics;

/// All metrics.
pub(super) fn encode(
    series: &Series,
    requests: &Requests,
    counts: &Counts,
    phases: &Phases<u64>,
    log: &LogWriter,
) -> String {
    let mut out = Text(String::new());
    traffic(&mut out, series);
    self::requests(&mut out, requests);
    open(&mut out, counts, phases);
    self::phases(&mut out, phases);
    handshakes(&mut out, counts, phases);
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
type Requests = [(Arc<RequestLabels>, RequestTotals)];

fn traffic(out: &mut Text, series: &Series) {
    let closed = |totals: &Totals, flags: &[Flag]| -> Vec<(Flag, u64)> {
        let counts = flags.iter().map(|flag| (*flag, totals.closed[*flag as usize]));
        counts.filter(|(_, count)| *count > 0).collect()
    };
    let one = |count: fn(&Totals) -> u64| move |totals: &Totals| vec![(Flag::Fine, count(totals))];
    let of = |metric| rendered(series, metric);
    let opened = of(MetricName::TcpOpenedConnections);
    family(out, &opened, "istio_tcp_connections_opened", "Connections opened", one(|totals| totals.opened));
    let ended = of(MetricName::TcpClosedConnections);
    family(out, &ended, "istio_tcp_connections_closed", "Connections closed", |totals| closed(totals, &Flag::ALL));
    let help = "Connections that failed, also counted as closed";
    family(out, &ended, "istio_tcp_connections_failed", help, |totals| closed(totals, &Flag::ALL[1..]));
    let received = of(MetricName::TcpReceivedBytes);
    family(out, &received, "istio_tcp_received_bytes", "Bytes that clients sent", one(|totals| totals.received));
    let sent = of(MetricName::TcpSentBytes);
    family(out, &sent, "istio_tcp_sent_bytes", "Bytes that were sent to clients", one(|totals| totals.sent));
    direct(out, series);
}

fn requests(out: &mut Text, series: &Requests) {
    out.family("istio_requests", "counter", "Requests, also those that had no answer");
    for (labels, totals) in rendered(series, MetricName::RequestCount) {
        out.sample("istio_requests_total", format_args!("{{{labels}}}"), totals.count());
    }
    let help = "Time from a request's head to the end of its answer";
    let rows = rendered(series, MetricName::RequestDuration);
    let in_milliseconds = |totals: &RequestTotals| (totals.durations, totals.durations.sum as f64 / 1e3);
    histogram(out, "istio_request_duration_milliseconds", help, &rows, in_milliseconds);
    let rows = rendered(series, MetricName::RequestSize);
    let help = "Bytes of requests, fields and body";
    histogram(out, "istio_request_bytes", help, &rows, |totals| (totals.sent, totals.sent.sum as f64));
    let rows = rendered(series, MetricName::ResponseSize);
    let help = "Bytes of responses, fields and body";
    histogram(out, "istio_response_bytes", help, &rows, |totals| (totals.received, totals.received.sum as f64));
    let help = "Messages of gRPC that clients sent";
    messages(out, "istio_request_messages", help, &rendered(series, MetricName::GrpcRequestMessages), |totals| {
        totals.messages_sent
    });
    let help = "Messages of gRPC that clients got";
    messages(out, "istio_response_messages", help, &rendered(series, MetricName::GrpcResponseMessages), |totals| {
        totals.messages_received
    });
}

type Rows = [(String, RequestTotals)];

fn histogram(
    out: &mut Text,
    name: &str,
    help: &str,
    rows: &Rows,
    of: impl Fn(&RequestTotals) -> (Histogram<u64>, f64),
) {
    out.family(name, "histogram", help);
    for (labels, totals) in rows {
        let (histogram, sum) = of(totals);
        buckets(out, name, &format!("{labels},"), &histogram, 1.0, sum);
    }
}

/// labels: with a comma behind each; unit: so many of a bound's own make one of the metric's.
fn buckets(out: &mut Text, name: &str, labels: &str, histogram: &Histogram<u64>, unit: f64, sum: f64) {
    let mut count = 0;
    for (bucket, counted) in histogram.buckets.iter().enumerate() {
        count += counted;
        match BUCKETS.get(bucket) {
            Some(bound) => out.sample(name, format_args!("_bucket{{{labels}le=\"{:?}\"}}", bound / unit), count),
            None => out.sample(name, format_args!("_bucket{{{labels}le=\"+Inf\"}}"), count),
        }
    }
    let labels = labels.trim_end_matches(',');
    out.sample(name, format_args!("_sum{{{labels}}}"), sum);
    out.sample(name, format_args!("_count{{{labels}}}"), count);
}

/// The time that each phase took, of those that were done.
fn phases(out: &mut Text, phases: &Phases<u64>) {
    let both = [
        ("warren_handshake_seconds", "TLS handshakes of tunnels that were done", &phases.handshake),
        ("warren_connect_seconds", "Until an endpoint, or the application, was connected", &phases.connect),
    ];
    for (name, help, histograms) in both {
        out.family(name, "histogram", help);
        for direction in Direction::ALL {
            let labels = format!("reporter=\"{}\",", direction.reporter());
            let histogram = &histograms[direction as usize];
            buckets(out, name, &labels, histogram, 1e3, histogram.sum as f64 / 1e6);
        }
    }
    let name = "warren_queue_seconds";
    out.family(name, "histogram", "Of requests that waited for a connection which others make or use");
    buckets(out, name, "", &phases.queue, 1e3, phases.queue.sum as f64 / 1e6);
}

fn handshakes(out: &mut Text, counts: &Counts, phases: &Phases<u64>) {
    out.family("warren_handshakes", "counter", "TLS handshakes; reason is ok or what went wrong");
    for direction in Direction::ALL {
        let (reporter, done) = (direction.reporter(), phases.handshake[direction as usize].total());
        out.sample("warren_handshakes_total", format_args!("{{reporter=\"{reporter}\",reason=\"ok\"}}"), done);
        by_reason(out, "warren_handshakes_total", reporter, &counts.handshakes_failed[direction as usize]);
    }
}

fn messages(out: &mut Text, name: &str, help: &str, rows: &Rows, of: impl Fn(&RequestTotals) -> u64) {
    out.family(name, "counter", help);
    for (labels, count) in rows.iter().map(|(labels, totals)| (labels, of(totals))).filter(|(_, count)| *count > 0) {
        out.sample(name, format_args!("_total{{{labels}}}"), count);
    }
}

/// What the kernel measures of direct connections, told by one end for both.
fn direct(out: &mut Text, series: &Series) {
    let told = series.iter().filter(|(labels, totals)| labels.direct && totals.measured > 0);
    let told: Vec<_> = rendered(&told.cloned().collect::<Vec<_>>(), MetricName::Unspecified);
    let name = "warren_direct_rtt_seconds";
    out.family(name, "summary", "Smoothed round-trip times of direct connections when they ended");
    for (labels, totals) in &told {
        out.sample(name, format_args!("_sum{{{labels}}}"), totals.rtt as f64 / 1e6);
        out.sample(name, format_args!("_count{{{labels}}}"), totals.measured);
    }
    let name = "warren_direct_retransmits";
    out.family(name, "counter", "Segments of direct connections that were sent again");
    for (labels, totals) in &told {
        out.sample(name, format_args!("_total{{{labels}}}"), totals.retransmits);
    }
}

fn family(
    out: &mut Text,
    rows: &[(String, Totals)],
    name: &str,
    help: &str,
    counts: impl Fn(&Totals) -> Vec<(Flag, u64)>,
) {
    out.family(name, "counter", help);
    for (labels, totals) in rows {
        for (flag, count) in counts(totals) {
            let flag = flag.name();
            out.sample(name, format_args!("_total{{{labels},response_flags=\"{flag}\"}}"), count);
        }
    }
}

fn open(out: &mut Text, counts: &Counts, phases: &Phases<u64>) {
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
    out.family("warren_streams_open", "gauge", "Streams that are open in tunnels");
    for direction in Direction::ALL {
        let open = phases.streams[direction as usize];
        out.sample("warren_streams_open", format_args!("{{reporter=\"{}\"}}", direction.reporter()), open);
    }
    out.family("warren_pool_tunnels", "gauge", "Tunnels in the pools of this node's pods, by where they lead to");
    for (node, count) in counts.pooled.lock().iter() {
        let node = Value(node);
        out.sample("warren_pool_tunnels", format_args!("{{node=\"{node}\"}}"), count);
    }
}

fn failures(out: &mut Text, counts: &Counts) {
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
