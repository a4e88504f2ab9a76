//! Lines of the log: their two formats, and a way to write one that depends on nothing else.
use serde_json::{json, Value};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Of the whole process: a panic knows of no telemetry.
static IN_JSON: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Tab-separated `key=value`.
    Plain,
    Json,
}

impl LogFormat {
    /// Lines that belong to no connection have it from now on.
    pub fn set_for_process(self) {
        IN_JSON.store(self == LogFormat::Json, Ordering::Relaxed);
    }
}

/// A value of a record.
pub enum Field<'a> {
    Number(u64),
    Text(Cow<'a, str>),
}

impl Field<'_> {
    pub fn json(&self) -> Value {
        match self {
            Field::Number(number) => Value::from(*number),
            Field::Text(text) => Value::from(text.as_ref()),
        }
    }
}

/// A line of the log under construction.
pub enum Line<'a> {
    Plain(&'a mut String),
    Json(&'a mut String, serde_json::Value),
}

impl<'a> Line<'a> {
    pub fn begin(
        format: LogFormat,
        time: SystemTime,
        level: &str,
        scope: &str,
        message: &str,
        out: &'a mut String,
    ) -> Self {
        let time = timestamp(time);
        match format {
            LogFormat::Plain => {
                let _ = write!(out, "{time}\t{level}\t{scope}\t{}", printable(message));
                Line::Plain(out)
            }
            LogFormat::Json => {
                Line::Json(out, json!({ "time": time, "level": level, "scope": scope, "message": message }))
            }
        }
    }

    pub fn put(&mut self, key: &'static str, field: Field<'_>) {
        match (self, field) {
            (Line::Plain(out), Field::Number(number)) => drop(write!(out, "\t{key}={number}")),
            (Line::Plain(out), Field::Text(text)) => drop(write!(out, "\t{key}={}", printable(&text))),
            (Line::Json(_, value), field) => value[key] = field.json(),
        }
    }

    pub fn end(self) {
        match self {
            Line::Plain(out) => out.push('\n'),
            Line::Json(out, value) => drop(writeln!(out, "{value}")),
        }
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

/// Writes a line that is of no connection to standard error, in the format of the access log.
pub fn error(scope: &str, message: &str) {
    let format = if IN_JSON.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Plain };
    let mut text = String::new();
    Line::begin(format, SystemTime::now(), "error", scope, message, &mut text).end();
    eprint!("{text}");
}

/// RFC 3339 in UTC, to the microsecond.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second, micros) = (second / 3600, second / 60 % 60, second % 60, since.subsec_micros());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Counts in years that begin in March, so
/// that the leap day is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(1500);
            assert_eq!(timestamp(time), format!("{text}.000001Z"));
        }
    }
}
