//! Requests: a line of the access log each, and Istio's metrics of requests.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use serde_json::{json, Value};

use super::custom::Custom;
use super::flags::Flags;
use super::observed::Observed;
use super::party::Parties;
use super::series::{add, Counters, Labels, Merge, OfSeries, Registry};
use super::series_cache::SeriesCache;
use super::trace::Trace;
use super::Direction;
use crate::base::log::{timestamp, Field, Line, LogFormat};
use crate::observability::Logging;

/// A request that is over.
pub struct Request<'a> {
    pub parties: Parties,
    pub direction: Direction,
    pub method: Method,
    pub authority: Cow<'a, str>,
    /// With the query.
    pub path: Cow<'a, str>,
    pub http2: bool,
    pub grpc: bool,
    /// Of the rule, and of its match.
    pub route: Arc<str>,
    /// None: the client was gone before there was one.
    pub status: Option<StatusCode>,
    pub flags: Flags,
    /// Why a policy refused it; empty: none did.
    pub reason: String,
    /// Tries to send it upstream.
    pub attempts: u32,
    /// Why the last connection upstream was not made; empty: it was.
    pub failure: String,
    pub duration: Duration,
    /// Until the head of the upstream's response.
    pub upstream: Option<Duration>,
    /// Address that answered.
    pub endpoint: Option<SocketAddr>,
    pub client: SocketAddr,
    pub observed: Observed,
    /// By the client: head and body.
    pub sent: Amount,
    /// By the client.
    pub received: Amount,
    /// gRPC's, where the server told it.
    pub grpc_status: Option<u16>,
}

/// How much went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub bytes: u64,
    /// Of gRPC.
    pub messages: u64,
}

impl Request<'_> {
    pub fn failed(&self) -> bool {
        self.status.is_none_or(|status| status.is_server_error())
    }

    /// 0: there was none.
    fn code(&self) -> u16 {
        self.status.map_or(0, |status| status.as_u16())
    }

    /// Path and query.
    pub fn url(&self) -> (&str, &str) {
        self.path.split_once('?').unwrap_or((&self.path, ""))
    }

    pub fn trace(&self) -> Option<&Trace> {
        self.observed.trace.as_deref()
    }

    /// Where it is logged, if that was said.
    pub fn logging(&self) -> Option<&Logging> {
        self.direction.side(self.observed.scope.as_ref()?).logging.as_ref()
    }

    fn kind(&self) -> RequestKind {
        RequestKind { grpc: self.grpc, status: self.code(), flags: self.flags, grpc_status: self.grpc_status }
    }

    fn into_owned(self) -> Request<'static> {
        let (authority, path) = (Cow::Owned(self.authority.into_owned()), Cow::Owned(self.path.into_owned()));
        Request { authority, path, ..self }
    }
}

/// A request for the log's writer.
pub struct RequestLine {
    pub time: SystemTime,
    pub request: Request<'static>,
}

impl RequestLine {
    pub fn new(request: Request) -> RequestLine {
        RequestLine { time: SystemTime::now(), request: request.into_owned() }
    }

    /// Bytes that it takes while it waits, about.
    pub fn size(&self) -> usize {
        let Request { authority, path, observed, .. } = &self.request;
        size_of::<RequestLine>() + authority.len() + path.len() + observed.size()
    }

    pub fn write(&self, format: LogFormat, scope: &str, out: &mut String) {
        let level = if self.request.failed() { "error" } else { "info" };
        let mut line = Line::begin(format, self.time, level, scope, "request complete", out);
        self.fields(|key, field| line.put(key, field));
        line.end();
    }

    pub fn json(&self) -> Value {
        let mut value = json!({ "time": timestamp(self.time) });
        self.fields(|key, field| value[key] = field.json());
        value["duration_ms"] = (self.request.duration.as_micros() as f64 / 1e3).into();
        let security = self.request.parties.security();
        if !security.is_empty() {
            value["connection_security_policy"] = security.into();
        }
        value
    }

    pub fn fields(&self, mut put: impl FnMut(&'static str, Field<'_>)) {
        let Request { parties, method, authority, path, route, .. } = &self.request;
        let endpoint = self.request.endpoint.map(|endpoint| endpoint.to_string());
        let mut text = |key, value: &str| {
            if !value.is_empty() {
                put(key, Field::Text(value.into()));
            }
        };
        text("src.workload", parties.source.name().unwrap_or_default());
        text("src.namespace", parties.source.app().map_or("", |app| &app.namespace));
        text("dst.service", parties.service.as_ref().map_or("", |service| service.key.hostname()));
        text("dst.workload", parties.destination.name().unwrap_or_default());
        text("dst.namespace", parties.destination.app().map_or("", |app| &app.namespace));
        text("direction", self.request.direction.name());
        text("method", method.as_str());
        text("authority", authority);
        text("path", path);
        text("protocol", if self.request.http2 { "HTTP/2" } else { "HTTP/1.1" });
        text("route_name", route);
        text("upstream_host", endpoint.as_deref().unwrap_or_default());
        text("response_flags", &self.request.flags.to_string());
        text("reason", &self.request.reason);
        text("error", &self.request.failure);
        text("trace_id", &self.request.trace().map(Trace::id).unwrap_or_default());
        put("response_code", Field::Number(self.request.code().into()));
        put("attempts", Field::Number(self.request.attempts.into()));
        if let Some(upstream) = self.request.upstream {
            put("upstream_service_time", Field::Text(format!("{}ms", upstream.as_millis()).into()));
        }
        put("duration", Field::Text(format!("{}ms", self.request.duration.as_millis()).into()));
    }
}

/// Upper bounds of a duration's buckets in milliseconds, as Istio's; the last one is open.
pub const BUCKETS: [f64; 19] =
    [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6];

/// What tells a series of requests from another between the same parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKind {
    grpc: bool,
    /// 0: there was none.
    pub status: u16,
    pub flags: Flags,
    /// None: there was none.
    grpc_status: Option<u16>,
}

impl RequestKind {
    /// `grpc_response_status`; empty: there was none.
    pub fn grpc_status(self) -> String {
        self.grpc_status.map(|status| status.to_string()).unwrap_or_default()
    }

    pub fn protocol(self) -> &'static str {
        if self.grpc {
            "grpc"
        } else {
            "http"
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    pub labels: Labels,
    pub kind: RequestKind,
}

impl OfSeries for RequestLabels {
    fn overflowing(&mut self) {
        self.labels.overflowing();
    }
}

impl AsRef<Labels> for RequestLabels {
    fn as_ref(&self) -> &Labels {
        &self.labels
    }
}

/// How many values were within each bucket, and their sum. `C` counts: atomically, or as it was at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram<C> {
    pub buckets: [C; BUCKETS.len() + 1],
    pub sum: C,
}

impl Histogram<AtomicU64> {
    /// sum: what is added to the sum, in a unit of its own.
    pub fn count(&self, value: f64, sum: u64) {
        add(&self.buckets[BUCKETS.partition_point(|bound| *bound < value)], 1);
        add(&self.sum, sum);
    }

    /// Of milliseconds; the sum has microseconds.
    pub fn took(&self, time: Duration) {
        self.count(time.as_secs_f64() * 1e3, time.as_micros() as u64);
    }

    pub fn add_to(&self, totals: &mut Histogram<u64>) {
        let all = totals.buckets.iter_mut().zip(&self.buckets);
        for (total, counter) in all.chain([(&mut totals.sum, &self.sum)]) {
            *total += counter.load(Ordering::Relaxed);
        }
    }
}

impl Histogram<u64> {
    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn merge(&mut self, other: &Histogram<u64>) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(total, count)| *total += count);
        self.sum += other.sum;
    }
}

/// Of requests.
#[derive(Default)]
pub struct RequestSeries {
    /// Milliseconds; the sum has microseconds.
    durations: Histogram<AtomicU64>,
    /// Bytes.
    sent: Histogram<AtomicU64>,
    received: Histogram<AtomicU64>,
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTotals {
    /// Milliseconds; the sum has microseconds.
    pub durations: Histogram<u64>,
    /// Bytes.
    pub sent: Histogram<u64>,
    pub received: Histogram<u64>,
    pub messages_sent: u64,
    pub messages_received: u64,
}

impl RequestSeries {
    pub fn count(&self, duration: Duration, sent: Amount, received: Amount) {
        self.durations.took(duration);
        self.sent.count(sent.bytes as f64, sent.bytes);
        self.received.count(received.bytes as f64, received.bytes);
        add(&self.messages_sent, sent.messages);
        add(&self.messages_received, received.messages);
    }
}

impl RequestTotals {
    pub fn count(&self) -> u64 {
        self.durations.total()
    }
}

impl Counters for RequestSeries {
    type Totals = RequestTotals;

    fn add_to(&self, totals: &mut RequestTotals) {
        self.durations.add_to(&mut totals.durations);
        self.sent.add_to(&mut totals.sent);
        self.received.add_to(&mut totals.received);
        totals.messages_sent += self.messages_sent.load(Ordering::Relaxed);
        totals.messages_received += self.messages_received.load(Ordering::Relaxed);
    }
}

impl Merge for RequestTotals {
    fn merge(&mut self, other: &RequestTotals) {
        self.durations.merge(&other.durations);
        self.sent.merge(&other.sent);
        self.received.merge(&other.received);
        self.messages_sent += other.messages_sent;
        self.messages_received += other.messages_received;
    }
}

pub type RequestRegistry = Registry<RequestLabels, RequestSeries>;
pub type RequestCache = SeriesCache<RequestKind, RequestSeries>;

impl RequestCache {
    pub fn of(
        &mut self,
        request: &Request,
        custom: Option<Arc<Custom>>,
        registry: &Mutex<RequestRegistry>,
        worker: usize,
        turn: u64,
    ) -> Arc<RequestSeries> {
        let all = |labels, kind| RequestLabels { labels, kind };
        self.get((&request.parties, request.direction, custom, request.kind()), all, registry, worker, turn)
    }
}
