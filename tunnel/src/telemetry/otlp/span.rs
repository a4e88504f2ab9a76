//! Spans of requests (OpenTelemetry's semantic conventions for HTTP and RPC) and of connections.
use super::attributes::{hostname, istio, Attributes};
use super::nanos;
use super::outbox::Item;
use super::proto::{Code, Event, Kind, Span, Status};
use crate::mesh::Workload;
use crate::observability::Provider;
use crate::telemetry::log::Record;
use crate::telemetry::party::{Parties, Party};
use crate::telemetry::request::{Request, RequestLine};
use crate::telemetry::trace::Trace;
use crate::telemetry::Direction;
use prost::Message;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The span's flags tell whether its parent is in another process (`SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE`, `_IS_REMOTE`).
const REMOTE: u32 = 0x300;
const SAMPLED: u32 = 1;

impl Parties {
    /// The workload on whose behalf this side tells.
    pub fn own(&self, direction: Direction) -> Option<&Arc<Workload>> {
        let own = match direction {
            Direction::Outbound => &self.source,
            Direction::Inbound => &self.destination,
        };
        match own {
            Party::Workload(workload) => Some(workload),
            Party::Unknown | Party::Baggage(_) => None,
        }
    }
}

/// Of a request that has one.
pub fn of_request(line: &RequestLine) -> Option<(&Arc<Provider>, Item)> {
    let request = &line.request;
    let trace = request.trace()?;
    let provider = trace.reported_to()?;
    let own = request.parties.own(request.direction)?;
    let mut attributes = Attributes::default();
    http(&mut attributes, request, trace);
    parties(&mut attributes, &request.parties, trace, own);
    let start = before(line.time, request.duration);
    let failure = failure(request);
    if let Some(why) = &failure {
        attributes.text("error.type", why);
    }
    let mut span = begin(trace, request.direction, (start, line.time), attributes, failure);
    span.name = name(request);
    span.events = trace.tries.iter().enumerate().map(|(index, _)| attempt(trace, index, start)).collect();
    Some((provider, Item { of: own.clone(), encoded: span.encode_to_vec() }))
}

/// Of a connection that has one.
pub fn of_connection(record: &Record) -> Option<(&Arc<Provider>, Item)> {
    let facts = &record.facts;
    let trace = facts.trace()?;
    let provider = trace.reported_to()?;
    let known = facts.parties()?;
    let own = known.own(facts.direction)?;
    let mut attributes = Attributes::default();
    attributes.text("network.transport", "tcp");
    attributes.address("client", facts.source);
    let service = hostname(&known.service);
    match service.is_empty() {
        true => attributes.address("server", facts.destination),
        false => {
            attributes.text("server.address", service);
            attributes.number("server.port", facts.destination.port());
            attributes.address("network.peer", facts.destination);
        }
    }
    let (sent, received) = facts.bytes();
    attributes.number("bytes_sent", sent);
    attributes.number("bytes_recv", received);
    attributes.text("path", known.path.name());
    parties(&mut attributes, known, trace, own);
    let failure = record.end.reason.map(|reason| reason.name().to_owned());
    if let Some(reason) = record.end.reason {
        attributes.text("error.type", reason.name());
        attributes.text("response_flags", reason.flag().name());
    }
    let times = (before(record.time, record.duration), record.time);
    let mut span = begin(trace, facts.direction, times, attributes, failure);
    span.name = match service.is_empty() {
        true => "TCP".to_owned(),
        false => format!("TCP {service}"),
    };
    Some((provider, Item { of: own.clone(), encoded: span.encode_to_vec() }))
}

fn begin(
    trace: &Trace,
    direction: Direction,
    (start, end): (SystemTime, SystemTime),
    attributes: Attributes,
    failure: Option<String>,
) -> Span {
    let kind = match direction {
        Direction::Outbound => Kind::Client,
        Direction::Inbound => Kind::Server,
    };
    let parent = (trace.parent != 0).then(|| trace.parent.to_be_bytes().to_vec());
    Span {
        trace_id: trace.context.trace.to_be_bytes().to_vec(),
        span_id: trace.context.span.to_be_bytes().to_vec(),
        parent_span_id: parent.unwrap_or_default(),
        kind: kind.into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(end),
        attributes: attributes.0,
        status: failure.map(|message| Status { message, code: Code::Error.into() }),
        flags: REMOTE | SAMPLED,
        ..Span::default()
    }
}

fn before(time: SystemTime, duration: Duration) -> SystemTime {
    time.checked_sub(duration).unwrap_or(time)
}

/// Of few values only, as the conventions ask: a route's or a service's name and not a path; of gRPC its method.
fn name(request: &Request) -> String {
    if request.grpc {
        return request.url().0.trim_start_matches('/').to_owned();
    }
    let service = hostname(&request.parties.service);
    let place = if request.route.is_empty() { service } else { &request.route };
    format!("{} {place}", request.method).trim_end().to_owned()
}

fn http(attributes: &mut Attributes, request: &Request, trace: &Trace) {
    let (path, query) = request.url();
    attributes.text("http.request.method", request.method.as_str());
    attributes.text("url.path", trace.settings.cut(path));
    attributes.text("url.query", trace.settings.cut(query));
    let (host, port) = host_and_port(&request.authority);
    attributes.text("server.address", trace.settings.cut(host));
    if let Some(port) = port {
        attributes.number("server.port", port);
    }
    attributes.address("client", request.client);
    if let Some(endpoint) = request.endpoint {
        attributes.address("network.peer", endpoint);
    }
    attributes.text("network.protocol.name", "http");
    attributes.text("network.protocol.version", if request.http2 { "2" } else { "1.1" });
    if let Some(status) = request.status {
        attributes.number("http.response.status_code", status.as_u16());
    }
    if request.attempts > 1 {
        attributes.number("http.request.resend_count", request.attempts - 1);
    }
    attributes.text("response_flags", &request.flags.to_string());
    attributes.text("route_name", &request.route);
    if request.grpc {
        attributes.text("rpc.system", "grpc");
        let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or_default();
        attributes.text("rpc.service", trace.settings.cut(service));
        attributes.text("rpc.method", trace.settings.cut(method));
    }
}

fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    let port = authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = port.map_or((authority, None), |(host, port)| (host, Some(port)));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// Who is at the ends, and what users want.
fn parties(attributes: &mut Attributes, known: &Parties, trace: &Trace, own: &Workload) {
    let principals = [("source", &known.source_identity), ("destination", &known.destination_identity)];
    for (name, identity) in principals.iter().filter_map(|(name, identity)| Some((name, (*identity).as_ref()?))) {
        attributes.text(&format!("{name}.principal"), &identity.to_string());
    }
    attributes.text("destination.service.host", hostname(&known.service));
    for (name, party) in [("source", &known.source), ("destination", &known.destination)] {
        if let Some(app) = party.app() {
            attributes.text(&format!("{name}.workload.name"), &app.workload);
            attributes.text(&format!("{name}.workload.namespace"), &app.namespace);
        }
    }
    if trace.settings.istio_tags {
        istio(attributes, own);
    }
    trace.attributes.iter().for_each(|(name, value)| attributes.text(name, value));
}

/// Why it failed, as `error.type` has it. What a client did wrong is no failure of the server (conventions for HTTP spans).
fn failure(request: &Request) -> Option<String> {
    let Some(status) = request.status else { return Some(request.flags.to_string()) };
    let failed = match request.direction {
        Direction::Outbound => status.is_client_error() || status.is_server_error(),
        Direction::Inbound => status.is_server_error(),
    };
    failed.then(|| status.as_str().to_owned())
}

/// One span a request and not one a try, as Envoy has it: a server's span has then the same parent whichever try reached it.
fn attempt(trace: &Trace, index: usize, start: SystemTime) -> Event {
    let one = &trace.tries[index];
    let mut attributes = Attributes::default();
    attributes.number("http.request.resend_count", index as u64);
    attributes.address("network.peer", one.endpoint);
    attributes.text("outcome", &one.outcome);
    Event { time_unix_nano: nanos(start + one.at), name: "attempt".to_owned(), attributes: attributes.0 }
}
