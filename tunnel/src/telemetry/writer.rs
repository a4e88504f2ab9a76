//! The thread of the access log: makes text of what has ended, and what collectors are sent.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::Arc;
use std::thread;

use super::log::{Ended, Entry, Record, ACCESS, BATCH, GATHERING};
use super::otlp::{self, Item, Outbox, Signal};
use super::recent::Recent;
use super::request::RequestLine;
use crate::base::log::LogFormat;
use crate::observability::{Attributes, Logging};

/// The thread's end.
pub struct Writer {
    pub waiting: Arc<AtomicUsize>,
    pub recent: Arc<Recent<Ended>>,
    pub outbox: Arc<Outbox>,
    pub format: LogFormat,
    pub text: String,
}

impl Writer {
    /// Until there can be no more records. Where the output fails there is nobody left to tell.
    pub fn write_all(&mut self, entries: &Receiver<Entry>, output: &mut impl io::Write) {
        self.text.clear();
        while let Ok(first) = entries.recv() {
            thread::sleep(GATHERING);
            let mut flushed = vec![];
            for entry in std::iter::once(first).chain(entries.try_iter()) {
                match entry {
                    Entry::Connection(record, logged) => self.connection(record, logged),
                    Entry::Request(line, logged) => self.request(line, logged),
                    Entry::Withheld(withheld) => withheld.line(self.format, &mut self.text),
                    Entry::Flush(done) => flushed.push(done),
                }
                if self.text.len() >= BATCH {
                    let _ = output.write_all(self.text.as_bytes());
                    self.text.clear();
                }
            }
            let _ = output.write_all(self.text.as_bytes()).and_then(|()| output.flush());
            self.text.clear();
            // Dropping it says that it is done.
            drop(flushed);
        }
    }

    fn connection(&mut self, record: Box<Record>, logged: bool) {
        let size = record.size();
        self.waiting.fetch_sub(size, Ordering::Relaxed);
        if self.logs(logged, record.facts.logging(), &*record, || otlp::connection_log(&record)) {
            record.line(self.format, &mut self.text);
        }
        if let Some((provider, span)) = otlp::of_connection(&record) {
            self.outbox.push(provider, Signal::Traces, span);
        }
        self.recent.push(size, Ended::Connection(*record));
    }

    /// Whether it is a line of our own log: as was `said` for its workload, else as by default. Collectors get theirs.
    fn logs(
        &self,
        default: bool,
        said: Option<&Logging>,
        one: &dyn Attributes,
        encoded: impl Fn() -> Option<Item>,
    ) -> bool {
        let Some(Logging { logs }) = said else { return default };
        let mut own = false;
        for log in logs.iter().filter(|log| log.wants(one)) {
            match &log.collector {
                None => own = true,
                Some(collector) => {
                    encoded().into_iter().for_each(|item| self.outbox.push(collector, Signal::Logs, item))
                }
            }
        }
        own
    }

    fn request(&mut self, line: Box<RequestLine>, logged: bool) {
        let size = line.size();
        self.waiting.fetch_sub(size, Ordering::Relaxed);
        if self.logs(logged, line.request.logging(), &line.request, || otlp::request_log(&line)) {
            line.write(self.format, ACCESS, &mut self.text);
        }
        if let Some((provider, span)) = otlp::of_request(&line) {
            self.outbox.push(provider, Signal::Traces, span);
        }
        self.recent.push(size, Ended::Request(line));
    }
}
