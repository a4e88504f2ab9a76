//! The access log: one line for each connection, written by a thread of its own, so that a slow reader never holds up
//! traffic. What does not fit is dropped and counted, and so is what is withheld of a peer's refusals.

use std::io;
use std::net::IpAddr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender, TrySendError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{json, Value};

use super::limit::Limits;
use super::otlp::{Outbox, Signal};
use super::recent::Recent;
use super::record::{End, Facts};
use super::request::{Request, RequestLine};
use super::trace::Trace;
use super::writer::Writer;
use super::Telemetry;
use crate::base::log::{timestamp, Field, Line, LogFormat};
use crate::observability::Logging;

/// Which connections are logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLog {
    which: Which,
    format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Which {
    Off,
    Errors,
    All,
}

impl Which {
    const ALL: [Which; 3] = [Which::Off, Which::Errors, Which::All];

    pub fn name(self) -> &'static str {
        match self {
            Which::Off => "off",
            Which::Errors => "errors",
            Which::All => "all",
        }
    }

    fn wants(self, failed: bool) -> bool {
        match self {
            Which::Off => false,
            Which::Errors => failed,
            Which::All => true,
        }
    }
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Which::ALL.into_iter().find(|which| which.name() == text);
        named.ok_or_else(|| format!("access log {text:?} is none of off, errors, all (with ,json for JSON)"))
    }
}

impl FromStr for AccessLog {
    type Err = String;

    /// `off`, `errors` or `all`; with `,json` behind it, lines are JSON objects.
    fn from_str(text: &str) -> Result<Self, String> {
        let (which, format) = match text.strip_suffix(",json") {
            Some(which) => (which, LogFormat::Json),
            None => (text, LogFormat::Plain),
        };
        Ok(AccessLog { which: which.parse()?, format })
    }
}

/// The scope of connections' lines.
pub const ACCESS: &str = "access";
/// Records that wait for the writer, and their bytes.
const CAPACITY: usize = 16_384;
const BYTES_MAX: usize = 8 << 20;
/// The writer wakes up once for all records of this time.
pub const GATHERING: Duration = Duration::from_millis(5);
/// Bytes of one write, about.
pub const BATCH: usize = 64 * 1024;

/// A connection that has ended. Made into text by the writer.
pub struct Record {
    pub time: SystemTime,
    pub duration: Duration,
    pub facts: Facts,
    /// Whether it was ever known whose it is.
    opened: bool,
    pub end: End,
}

impl Record {
    pub fn new(facts: Facts, opened: bool, end: End) -> Record {
        let now = SystemTime::now();
        Record {
            time: now.checked_sub(end.at.elapsed()).unwrap_or(now),
            duration: end.at.saturating_duration_since(facts.accepted),
            facts,
            opened,
            end,
        }
    }

    /// Whether it failed before it carried a byte: a peer may cause as many of these as it likes.
    fn is_refusal(&self) -> bool {
        self.end.reason.is_some_and(|reason| !reason.is_cut()) && self.facts.is_empty()
    }

    /// Bytes that it takes while it waits, about.
    pub fn size(&self) -> usize {
        size_of::<Record>() + self.end.detail.len()
    }

    pub fn level(&self) -> &'static str {
        match (self.end.reason, self.opened) {
            (None, _) => "info",
            (Some(_), true) => "error",
            (Some(_), false) => "warn",
        }
    }

    pub fn message(&self) -> &'static str {
        if self.opened {
            "connection complete"
        } else {
            "connection failed"
        }
    }

    pub fn fields(&self, mut put: impl FnMut(&'static str, Field<'_>)) {
        self.facts.fields(&mut put);
        put("duration", Field::Text(format!("{}ms", self.duration.as_millis()).into()));
        if let Some(reason) = self.end.reason {
            put("error", Field::Text(reason.explain(&self.end.detail).into()));
            put("reason", Field::Text(reason.name().into()));
            put("response_flags", Field::Text(reason.flag().name().into()));
        }
    }

    pub fn line(&self, format: LogFormat, out: &mut String) {
        let mut line = Line::begin(format, self.time, self.level(), ACCESS, self.message(), out);
        self.fields(|key, field| line.put(key, field));
        line.end();
    }

    fn json(&self) -> Value {
        let mut value = self.facts.json();
        value["time"] = timestamp(self.time).into();
        self.fields(|key, field| value[key] = field.json());
        value["path"] = self.facts.path().name().into();
        value["duration_ms"] = (self.duration.as_micros() as f64 / 1e3).into();
        value
    }
}

/// Refusals of a peer that were not logged.
pub struct Withheld {
    time: SystemTime,
    peer: IpAddr,
    count: u64,
}

impl Withheld {
    pub fn line(&self, format: LogFormat, out: &mut String) {
        let Withheld { time, peer, count } = self;
        let message = format!("{count} more refusals of this peer were not logged");
        let mut line = Line::begin(format, *time, "warn", ACCESS, &message, out);
        line.put("src.addr", Field::Text(peer.to_string().into()));
        line.put("count", Field::Number(*count));
        line.end();
    }
}

/// What the writer is to do.
pub enum Entry {
    /// To be kept, and logged or not where nobody has said more of it.
    Connection(Box<Record>, bool),
    Request(Box<RequestLine>, bool),
    Withheld(Withheld),
    /// Says when all that came before is written.
    Flush(SyncSender<()>),
}

impl Entry {
    fn trace(&self) -> Option<&Trace> {
        match self {
            Entry::Connection(record, _) => record.facts.trace(),
            Entry::Request(line, _) => line.request.trace(),
            Entry::Withheld(_) | Entry::Flush(_) => None,
        }
    }
}

/// What has ended and is remembered.
#[allow(clippy::large_enum_variant)] // nearly all are connections, kept in one piece of memory
pub enum Ended {
    Connection(Record),
    Request(Box<RequestLine>),
}

impl Ended {
    fn json(&self) -> Value {
        match self {
            Ended::Connection(record) => record.json(),
            Ended::Request(line) => line.json(),
        }
    }
}

/// The writer's end that the telemetry holds.
pub struct LogWriter {
    which: AtomicU8,
    recent: Arc<Recent<Ended>>,
    outbox: Arc<Outbox>,
    entries: SyncSender<Entry>,
    /// Bytes of the records that wait.
    waiting: Arc<AtomicUsize>,
    limits: Limits,
    dropped: AtomicU64,
    withheld: AtomicU64,
}

impl LogWriter {
    pub fn start(access_log: AccessLog, mut output: impl io::Write + Send + 'static) -> io::Result<Self> {
        let AccessLog { which, format } = access_log;
        format.set_for_process();
        let (entries, received) = sync_channel(CAPACITY);
        let waiting = Arc::new(AtomicUsize::new(0));
        let recent = Arc::<Recent<Ended>>::default();
        let outbox = Arc::<Outbox>::default();
        let (waits, kept, sent) = (waiting.clone(), recent.clone(), outbox.clone());
        thread::Builder::new().name("access-log".into()).spawn(move || {
            let mut writer = Writer { waiting: waits, recent: kept, outbox: sent, format, text: String::new() };
            // After a panic some lines are lost, and the next ones are written.
            while catch_unwind(AssertUnwindSafe(|| writer.write_all(&received, &mut output))).is_err() {}
        })?;
        let (limits, dropped, withheld) = (Limits::default(), AtomicU64::new(0), AtomicU64::new(0));
        let which = AtomicU8::new(which as u8);
        Ok(LogWriter { which, recent, outbox, entries, waiting, limits, dropped, withheld })
    }

    pub fn which(&self) -> Which {
        let which = self.which.load(Ordering::Relaxed);
        Which::ALL.into_iter().find(|one| *one as u8 == which).unwrap_or(Which::All)
    }

    /// From now on.
    pub fn set_which(&self, which: Which) {
        self.which.store(which as u8, Ordering::Relaxed);
    }

    /// What has ended since a number, oldest first, and the number of the last: connections, and the requests that are
    /// logged.
    pub fn recent(&self, after: u64) -> Value {
        let (last, flows) = self.recent.after(after, Ended::json);
        json!({ "last": last, "flows": flows })
    }

    /// Hands over a record, to be kept and, if one of such an end is wanted, logged; never waits.
    pub fn write(&self, failed: bool, record: Record) {
        if record.is_refusal() && !self.limits.allow(record.facts.source.ip(), record.end.at) {
            self.withheld.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (size, logged) = (record.size(), self.which().wants(failed));
        let told = is_told(logged, record.facts.logging(), record.facts.trace());
        // For what is told to nobody the writer need not wake up.
        match (!told).then(|| self.recent.at_once()).flatten() {
            Some(mut kept) => kept.push(size, Ended::Connection(record)),
            None => self.enqueue(size, Entry::Connection(record.into(), logged)),
        }
    }

    /// As `write`, for a request.
    pub fn request(&self, request: Request) {
        let logged = self.which().wants(request.failed());
        if is_told(logged, request.logging(), request.trace()) {
            let line = RequestLine::new(request);
            self.enqueue(line.size(), Entry::Request(line.into(), logged));
        }
    }

    /// Spans and records that wait for their collectors.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn enqueue(&self, size: usize, entry: Entry) {
        let room = self.waiting.fetch_add(size, Ordering::Relaxed) + size <= BYTES_MAX;
        let refused = if room { self.entries.try_send(entry).err() } else { Some(TrySendError::Full(entry)) };
        if let Some(TrySendError::Full(entry) | TrySendError::Disconnected(entry)) = refused {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if let Some(provider) = entry.trace().and_then(Trace::reported_to) {
                self.outbox.lose(provider, Signal::Traces);
            }
        }
    }

    /// Tells of the refusals that were not logged since the last time.
    pub fn tell_withheld(&self) {
        let logged = self.which().wants(true); // what is not would not have been a line
        for (peer, count) in self.limits.withheld(Instant::now()).into_iter().filter(|_| logged) {
            let _ = self.entries.try_send(Entry::Withheld(Withheld { time: SystemTime::now(), peer, count }));
            // counted
        }
    }

    /// Waits until what was handed over is written; gives up after a second.
    pub fn flush(&self) {
        self.tell_withheld();
        let end = Instant::now() + Duration::from_secs(1);
        let (done, written) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        while let Err(TrySendError::Full(back)) = self.entries.try_send(entry) {
            if Instant::now() >= end {
                return;
            }
            thread::sleep(GATHERING);
            entry = back;
        }
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }
}

/// Whether the log or a collector gets it: it is `logged` where nobody has said more.
fn is_told(logged: bool, said: Option<&Logging>, trace: Option<&Trace>) -> bool {
    said.map_or(logged, |said| !said.logs.is_empty()) || trace.is_some_and(Trace::is_sampled)
}

impl Telemetry {
    /// Waits until the access log is written, a second at most. To be called before the process ends.
    pub fn flush(&self) {
        self.log.flush();
    }

    /// What has ended since a number.
    pub fn recent(&self, after: u64) -> Value {
        self.log.recent(after)
    }

    /// Which connections and requests are logged; with `new`, from now on.
    pub fn access_log(&self, new: Option<Which>) -> Which {
        if let Some(new) = new {
            self.log.set_which(new);
        }
        self.log.which()
    }
}
