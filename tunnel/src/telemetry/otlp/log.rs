//! Records of the access log for collectors, under the names that its lines have.
use super::attributes::Attributes;
use super::nanos;
use super::outbox::Item;
use super::proto::{AnyValue, LogRecord, Value};
use crate::base::log::Field;
use crate::telemetry::log::Record;
use crate::telemetry::request::RequestLine;
use crate::telemetry::trace::Trace;
use prost::Message;
use std::time::SystemTime;

/// Of a request.
pub fn request_log(line: &RequestLine) -> Option<Item> {
    let own = line.request.parties.own(line.request.direction)?;
    let mut attributes = Attributes::default();
    line.fields(|key, field| attributes.field(key, field));
    let level = if line.request.failed() { "error" } else { "info" };
    let record = record(line.time, level, "request complete", attributes, line.request.trace());
    Some(Item { of: own.clone(), encoded: record.encode_to_vec() })
}

/// Of a connection whose workload is known.
pub fn connection_log(ended: &Record) -> Option<Item> {
    let facts = &ended.facts;
    let own = facts.parties()?.own(facts.direction)?;
    let mut attributes = Attributes::default();
    ended.fields(|key, field| attributes.field(key, field));
    let record = record(ended.time, ended.level(), ended.message(), attributes, facts.trace());
    Some(Item { of: own.clone(), encoded: record.encode_to_vec() })
}

impl Attributes {
    fn field(&mut self, key: &str, field: Field<'_>) {
        match field {
            Field::Number(number) => self.number(key, number),
            Field::Text(text) => self.text(key, &text),
        }
    }
}

fn record(time: SystemTime, level: &str, message: &str, attributes: Attributes, trace: Option<&Trace>) -> LogRecord {
    let context = trace.map(|trace| trace.context);
    LogRecord {
        time_unix_nano: nanos(time),
        observed_time_unix_nano: nanos(time),
        severity_number: severity(level),
        severity_text: level.to_uppercase(),
        body: Some(AnyValue { value: Some(Value::Text(message.to_owned())) }),
        attributes: attributes.0,
        flags: context.map_or(0, |context| context.sampled.into()),
        trace_id: context.map(|context| context.trace.to_be_bytes().to_vec()).unwrap_or_default(),
        span_id: context.map(|context| context.span.to_be_bytes().to_vec()).unwrap_or_default(),
    }
}

/// `SeverityNumber`.
fn severity(level: &str) -> i32 {
    match level {
        "error" => 17,
        "warn" => 13,
        _ => 9,
    }
}
