//! What is known of one connection, and how it is told.

use crate::base::log::{timestamp, Field};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{json, Value};

use super::party::Path;
use super::trace::{Context, Trace};
use super::{ConnectionRecord, Direction, Parties};
use crate::base::{Identity, Refusal, Rng};
use crate::observability::{Logging, Scope};
use crate::policy::Judgement;

/// One connection, as its worker writes it.
pub struct Facts {
    pub direction: Direction,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub accepted: Instant,
    pub from_client: AtomicU64,
    pub to_client: AtomicU64,
    parties: OnceLock<Parties>,
    remarks: OnceLock<Box<Remarks>>,
    pub tcp: OnceLock<Tcp>,
    trace: OnceLock<Box<Trace>>,
    scope: OnceLock<Arc<Scope>>,
}

/// What the kernel has measured of a direct connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Smoothed.
    pub rtt: Duration,
    /// Segments.
    pub retransmits: u32,
}

/// Policies that have something to say of a connection, and do not decide about it.
#[derive(Clone)]
struct Remarks {
    would_refuse: Option<Arc<str>>,
    audited: Option<Arc<str>>,
}

/// Bytes of a detail: what it quotes of a peer is shorter, and so is nearly all that we say ourselves.
const DETAIL_MAX: usize = 1 << 10;

/// How a connection ended.
pub struct End {
    pub at: Instant,
    pub reason: Option<Refusal>,
    /// More about the reason.
    pub detail: Box<str>,
}

impl End {
    pub fn new(at: Instant, reason: Option<Refusal>, detail: &str) -> End {
        let end =
            (0..=detail.len().min(DETAIL_MAX)).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or_default();
        End { at, reason, detail: detail[..end].into() }
    }
}

impl ConnectionRecord {
    /// Whose connection it is, as far as that was described.
    pub fn parties(&self) -> Parties {
        self.facts.parties.get().cloned().unwrap_or_default()
    }
}

impl Facts {
    pub fn new(direction: Direction, source: SocketAddr, destination: SocketAddr, accepted: Instant) -> Facts {
        Facts {
            direction,
            source,
            destination,
            accepted,
            from_client: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            parties: OnceLock::new(),
            remarks: OnceLock::new(),
            tcp: OnceLock::new(),
            trace: OnceLock::new(),
            scope: OnceLock::new(),
        }
    }

    /// What there is to be remembered. No piece of the connection's memory outlives it: among thousands of such pieces the
    /// allocator could not give a page back.
    pub fn copied(&self) -> Facts {
        let count = |counter: &AtomicU64| AtomicU64::new(counter.load(Ordering::Relaxed));
        Facts {
            direction: self.direction,
            source: self.source,
            destination: self.destination,
            accepted: self.accepted,
            from_client: count(&self.from_client),
            to_client: count(&self.to_client),
            parties: self.parties.clone(),
            remarks: self.remarks.clone(),
            tcp: self.tcp.clone(),
            trace: self.trace.clone(),
            scope: self.scope.clone(),
        }
    }

    /// Only the first description counts.
    pub fn describe(&self, parties: Parties) {
        self.parties.get_or_init(|| parties);
    }

    pub fn parties(&self) -> Option<&Parties> {
        self.parties.get()
    }

    /// Where it is logged, if that was said.
    pub fn logging(&self) -> Option<&Logging> {
        self.direction.side(self.scope.get()?).logging.as_ref()
    }

    pub fn trace(&self) -> Option<&Trace> {
        self.trace.get().map(|trace| &**trace)
    }

    /// What policies say of it beside their verdict.
    pub fn remark(&self, judgement: &Judgement) {
        let Judgement { would_refuse, audited, .. } = judgement;
        if would_refuse.is_some() || audited.is_some() {
            let remarks = Remarks { would_refuse: would_refuse.clone(), audited: audited.clone() };
            self.remarks.get_or_init(|| Box::new(remarks));
        }
    }

    /// For programs: since when it is open, its fields, and in each case its path.
    pub fn json(&self) -> Value {
        let since = SystemTime::now().checked_sub(self.accepted.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut value = json!({ "since": timestamp(since) });
        self.fields(|key, field| value[key] = field.json());
        value["path"] = self.path().name().into();
        value
    }

    /// As `json`, with a round trip.
    pub fn json_with(&self, rtt: Option<Duration>) -> Value {
        let mut value = self.json();
        if let Some(rtt) = rtt {
            value["rtt_us"] = (rtt.as_micros() as u64).into();
        }
        value
    }

    pub fn path(&self) -> Path {
        self.parties.get().map_or(Path::Unknown, |parties| parties.path)
    }

    /// What there is to say, under Istio's names.
    pub fn fields(&self, mut put: impl FnMut(&'static str, Field<'_>)) {
        let mut text = |key, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                put(key, Field::Text(value.into()));
            }
        };
        let identity = |identity: &Option<Arc<Identity>>| identity.as_ref().map(|identity| identity.to_string());
        let parties = self.parties.get();
        text("src.addr", Some(&self.source.to_string()));
        if let Some(parties) = parties {
            let app = parties.source.app();
            text("src.workload", parties.source.name());
            text("src.namespace", app.map(|app| &*app.namespace));
            text("src.identity", identity(&parties.source_identity).as_deref());
            text("src.cluster", app.map(|app| &*app.cluster));
        }
        text("dst.addr", Some(&self.destination.to_string()));
        if let Some(parties) = parties {
            let app = parties.destination.app();
            text("dst.hbone_addr", parties.hbone.as_ref().map(|hbone| hbone.to_string()).as_deref());
            text("dst.service", parties.service.as_ref().map(|service| service.key.hostname()));
            text("dst.workload", parties.destination.name());
            text("dst.namespace", app.map(|app| &*app.namespace));
            text("dst.identity", identity(&parties.destination_identity).as_deref());
            text("dst.cluster", app.map(|app| &*app.cluster));
        }
        text("direction", Some(self.direction.name()));
        text("path", parties.map(|parties| parties.path).filter(|path| *path == Path::Direct).map(Path::name));
        if let Some(remarks) = self.remarks.get() {
            text("policy.dry_run", remarks.would_refuse.as_deref());
            text("policy.audit", remarks.audited.as_deref());
        }
        text("trace_id", self.trace().map(Trace::id).as_deref());
        let (sent, received) = self.bytes();
        put("bytes_sent", Field::Number(sent));
        put("bytes_recv", Field::Number(received));
        if let Some(Tcp { rtt, retransmits }) = self.tcp.get() {
            put("rtt_us", Field::Number(rtt.as_micros() as u64));
            put("retransmits", Field::Number((*retransmits).into()));
        }
    }

    /// Not a byte went either way.
    pub fn is_empty(&self) -> bool {
        self.bytes() == (0, 0)
    }

    /// What the application on this node sent and got.
    pub fn bytes(&self) -> (u64, u64) {
        let from_client = self.from_client.load(Ordering::Relaxed);
        let to_client = self.to_client.load(Ordering::Relaxed);
        match self.direction {
            Direction::Outbound => (from_client, to_client),
            Direction::Inbound => (to_client, from_client),
        }
    }
}

impl super::ConnectionRecord {
    /// What is told of it. Only the first one counts.
    pub fn observe(&self, scope: &Arc<Scope>) {
        self.facts.scope.get_or_init(|| scope.clone());
    }

    /// Makes it a span, where such are traced; gives what the other end is to be told. Only the first one counts.
    pub fn trace(&self, parent: Option<Context>, rng: &mut Rng) -> Option<Context> {
        let scope = self.facts.scope.get()?;
        let settings = self.facts.direction.side(scope).tracing.as_ref()?;
        let trace = self.facts.trace.get_or_init(|| Trace::of_connection(settings, parent, rng));
        Some(trace.context)
    }

    /// Bytes both ways.
    pub fn carried(&self) -> u64 {
        let (sent, received) = self.facts.bytes();
        sent + received
    }
}
