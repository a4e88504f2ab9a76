//! Requests: a line of the access log each, and Istio's metrics of requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{json, Value};

use super::party::Parties;
use super::series::{addresses, Addresses, Alive, Labels, CACHE_LIMIT, KEPT};
use super::{lock, Direction};
use crate::base::log::{timestamp, Field, Line, LogFormat};

/// A request that is over.
pub struct Request {
    pub parties: Parties,
    pub direction: Direction,
    pub method: String,
    pub authority: String,
    /// With the query.
    pub path: String,
    pub http2: bool,
    pub grpc: bool,
    /// Of the rule, and of its match.
    pub route: Arc<str>,
    /// 0: the client was gone before there was one.
    pub status: u16,
    /// Envoy's response flags, `-` if there are none.
    pub flags: String,
    /// Why a policy refused it; empty: none did.
    pub reason: String,
    /// Tries to send it upstream.
    pub attempts: u32,
    pub duration: Duration,
    /// Until the head of the upstream's response.
    pub upstream: Option<Duration>,
    /// Address that answered.
    pub endpoint: Option<String>,
}

impl Request {
    pub fn failed(&self) -> bool {
        self.status == 0 || self.status >= 500
    }

    fn protocol(&self) -> &'static str {
        if self.grpc {
            "grpc"
        } else {
            "http"
        }
    }
}

/// A request for the log's writer.
pub struct RequestLine {
    time: SystemTime,
    request: Request,
}

impl RequestLine {
    pub fn new(request: Request) -> RequestLine {
        RequestLine { time: SystemTime::now(), request }
    }

    /// Bytes that it takes while it waits, about.
    pub fn size(&self) -> usize {
        size_of::<RequestLine>() + self.request.authority.len() + self.request.path.len()
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
        value
    }

    fn fields(&self, mut put: impl FnMut(&'static str, Field<'_>)) {
        let Request { parties, method, authority, path, route, flags, .. } = &self.request;
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
        text("method", method);
        text("authority", authority);
        text("path", path);
        text("protocol", if self.request.http2 { "HTTP/2" } else { "HTTP/1.1" });
        text("route_name", route);
        text("upstream_host", self.request.endpoint.as_deref().unwrap_or_default());
        text("response_flags", flags);
        text("reason", &self.request.reason);
        put("response_code", Field::Number(self.request.status.into()));
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

/// What tells a series of requests from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    pub labels: Labels,
    pub protocol: &'static str,
    pub status: u16,
    pub flags: Box<str>,
}

/// Counters of a series.
#[derive(Default)]
pub struct RequestSeries {
    /// By bucket.
    pub durations: [AtomicU64; BUCKETS.len() + 1],
    /// Microseconds.
    pub time: AtomicU64,
}

impl RequestSeries {
    fn count(&self, duration: Duration) {
        let milliseconds = duration.as_secs_f64() * 1e3;
        let bucket = BUCKETS.partition_point(|bound| *bound < milliseconds);
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        self.time.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.durations.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

struct Entry {
    series: Arc<RequestSeries>,
    /// The total at the last look, and when it had last changed.
    seen: u64,
    since: Instant,
}

/// All series of requests of a process.
#[derive(Default)]
pub struct RequestRegistry(HashMap<Arc<RequestLabels>, Entry>);

impl RequestRegistry {
    fn get(&mut self, labels: RequestLabels) -> Arc<RequestSeries> {
        let new = || Entry { series: Arc::default(), seen: 0, since: Instant::now() };
        self.0.entry(Arc::new(labels)).or_insert_with(new).series.clone()
    }

    pub fn all(&self) -> Vec<(Arc<RequestLabels>, Arc<RequestSeries>)> {
        self.0.iter().map(|(labels, entry)| (labels.clone(), entry.series.clone())).collect()
    }

    /// Forgets what nothing can be added to, and nothing was for long. What a worker has in hand meanwhile may be lost.
    pub fn expire(&mut self, alive: &Alive, now: Instant) {
        self.0.retain(|labels, entry| {
            let total = entry.series.total();
            if total != entry.seen {
                (entry.seen, entry.since) = (total, now);
            }
            alive.has(&labels.labels) || now.duration_since(entry.since) < KEPT
        });
    }
}

/// One worker's way to the series of requests, without a look at the labels' text.
#[derive(Default)]
pub struct RequestCache(HashMap<Known, Cached>);

type Known = (Addresses, &'static str, u16, Box<str>);

struct Cached {
    series: Weak<RequestSeries>,
    /// Keeps the addresses from being used for something else.
    _labels: Labels,
}

impl RequestCache {
    pub fn count(&mut self, request: &Request, registry: &Mutex<RequestRegistry>) {
        let flags: Box<str> = request.flags.as_str().into();
        let addresses = addresses(&request.parties, request.direction);
        let known = (addresses, request.protocol(), request.status, flags);
        if let Some(series) = self.0.get(&known).and_then(|cached| cached.series.upgrade()) {
            return series.count(request.duration);
        }
        if self.0.len() >= CACHE_LIMIT {
            self.0.clear();
        }
        let labels = Labels::new(&request.parties, request.direction);
        let all = RequestLabels {
            labels: labels.clone(),
            protocol: request.protocol(),
            status: request.status,
            flags: known.3.clone(),
        };
        let series = lock(registry).get(all);
        series.count(request.duration);
        self.0.insert(known, Cached { series: Arc::downgrade(&series), _labels: labels });
    }
}
