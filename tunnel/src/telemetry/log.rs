//! The access log: one line for each connection, written by a thread of its own, so that a slow reader never holds up
//! traffic. What does not fit is dropped and counted.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender, TrySendError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::record::{timestamp, End, Facts, Field};

/// Which connections are logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLog {
    which: Which,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Off,
    Errors,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Tab-separated `key=value`.
    Plain,
    Json,
}

impl FromStr for AccessLog {
    type Err = String;

    /// `off`, `errors` or `all`; with `,json` behind it, lines are JSON objects.
    fn from_str(text: &str) -> Result<Self, String> {
        let (which, format) = match text.strip_suffix(",json") {
            Some(which) => (which, Format::Json),
            None => (text, Format::Plain),
        };
        let which = match which {
            "off" => Which::Off,
            "errors" => Which::Errors,
            "all" => Which::All,
            _ => return Err(format!("access log {text:?} is none of off, errors, all (with ,json for JSON)")),
        };
        Ok(AccessLog { which, format })
    }
}

/// Records that wait for the writer.
const CAPACITY: usize = 16_384;
/// The writer wakes up once for all records of this time.
const GATHERING: Duration = Duration::from_millis(5);
/// Bytes of one write, about.
const BATCH: usize = 64 * 1024;

/// A connection that has ended. Made into text by the writer.
pub struct Record {
    time: SystemTime,
    duration: Duration,
    facts: Arc<Facts>,
    /// Whether it was ever known whose it is.
    opened: bool,
    end: End,
}

impl Record {
    pub fn new(facts: Arc<Facts>, opened: bool, end: End) -> Record {
        let now = SystemTime::now();
        Record {
            time: now.checked_sub(end.at.elapsed()).unwrap_or(now),
            duration: end.at.saturating_duration_since(facts.accepted),
            facts,
            opened,
            end,
        }
    }

    fn level(&self) -> &'static str {
        match (self.end.reason, self.opened) {
            (None, _) => "info",
            (Some(_), true) => "error",
            (Some(_), false) => "warn",
        }
    }

    fn message(&self) -> &'static str {
        if self.opened {
            "connection complete"
        } else {
            "connection failed"
        }
    }

    fn fields(&self, mut put: impl FnMut(&'static str, Field<'_>)) {
        self.facts.fields(&mut put);
        put("duration", Field::Text(format!("{}ms", self.duration.as_millis()).into()));
        if let Some(reason) = self.end.reason {
            put("error", Field::Text(reason.explain(&self.end.detail).into()));
            put("reason", Field::Text(reason.name().into()));
            put("response_flags", Field::Text(reason.flag().name().into()));
        }
    }

    fn line(&self, format: Format, out: &mut String) {
        match format {
            Format::Plain => self.plain(out),
            Format::Json => self.json(out),
        }
    }

    fn plain(&self, out: &mut String) {
        let _ = write!(out, "{}\t{}\taccess\t{}", timestamp(self.time), self.level(), self.message());
        self.fields(|key, field| {
            let _ = match field {
                Field::Number(number) => write!(out, "\t{key}={number}"),
                Field::Text(text) => write!(out, "\t{key}={}", printable(&text)),
            };
        });
        out.push('\n');
    }

    fn json(&self, out: &mut String) {
        let mut value = json!({
            "time": timestamp(self.time), "level": self.level(), "scope": "access", "message": self.message(),
        });
        self.fields(|key, field| value[key] = field.json());
        let _ = writeln!(out, "{value}");
    }
}

/// Text that can not end its line or field.
fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
    } else {
        text.into()
    }
}

/// What the writer is to do.
enum Entry {
    Write(Record),
    /// Says when all that came before is written.
    Flush(SyncSender<()>),
}

/// The writer's end that the telemetry holds.
pub struct LogWriter {
    which: Which,
    entries: SyncSender<Entry>,
    dropped: AtomicU64,
}

impl LogWriter {
    pub fn start(access_log: AccessLog, mut output: impl io::Write + Send + 'static) -> io::Result<Self> {
        let AccessLog { which, format } = access_log;
        let (entries, received) = sync_channel(CAPACITY);
        if which != Which::Off {
            thread::Builder::new().name("access-log".into()).spawn(move || {
                // After a panic some lines are lost, and the next ones are written.
                while catch_unwind(AssertUnwindSafe(|| write_all(&received, format, &mut output))).is_err() {}
            })?;
        }
        Ok(LogWriter { which, entries, dropped: AtomicU64::new(0) })
    }

    /// Hands over a record, if one of such an end is wanted; never waits.
    pub fn write(&self, failed: bool, record: impl FnOnce() -> Record) {
        let wanted = match self.which {
            Which::Off => false,
            Which::Errors => failed,
            Which::All => true,
        };
        if wanted && self.entries.try_send(Entry::Write(record())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was handed over is written; gives up after a second.
    pub fn flush(&self) {
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
}

/// Until there can be no more records. Where the output fails there is nobody left to tell.
fn write_all(entries: &Receiver<Entry>, format: Format, output: &mut impl io::Write) {
    let mut text = String::new();
    while let Ok(first) = entries.recv() {
        thread::sleep(GATHERING);
        let mut flushed = vec![];
        for entry in std::iter::once(first).chain(entries.try_iter()) {
            match entry {
                Entry::Write(record) => record.line(format, &mut text),
                Entry::Flush(done) => flushed.push(done),
            }
            if text.len() >= BATCH {
                let _ = output.write_all(text.as_bytes());
                text.clear();
            }
        }
        let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
        text.clear();
        // Dropping it says that it is done.
        drop(flushed);
    }
}
