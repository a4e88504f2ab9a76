//! Fields that this hop adds, as Istio's sidecar does for requests inside the mesh, and the changes that routes ask for.
use super::node::Downstream;
use super::{Request, Response};
use crate::routes::{self, HeaderChanges, Values, Variable};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::Version;
use std::sync::Arc;
use std::time::Duration;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// What a client would ask of a proxy: Envoy hears it from proxies of its own only, and takes it away from all others.
const FOR_PROXIES: [&str; 15] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// Before anything is decided: what asks something of proxies goes, `x-forwarded-proto` and `x-request-id` come where the
/// application has not set them. The scheme is what `x-forwarded-proto` says it was.
pub fn arrive(request: &mut Request, draw: impl Fn(u64) -> u64) {
    if request.headers.keys().any(|name| name.as_str().starts_with("x-envoy-")) {
        for name in FOR_PROXIES {
            request.headers.remove(name);
        }
    }
    match request.headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(b"https") => request.scheme = Scheme::HTTPS,
        Some(b"http") => request.scheme = Scheme::HTTP,
        Some(_) => {}
        None => {
            let scheme = if request.scheme == Scheme::HTTPS { "https" } else { "http" };
            request.headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
        }
    }
    request.headers.entry(REQUEST_ID).or_insert_with(|| uuid(draw(u64::MAX), draw(u64::MAX)));
}

/// Version 4, RFC 9562 section 5.4.
fn uuid(high: u64, low: u64) -> HeaderValue {
    let (high, low) = ((high & !0xf000) | 0x4000, (low & !(3 << 62)) | (1 << 63));
    let digit = |place: usize| {
        let half = if place < 16 { high } else { low };
        b"0123456789abcdef"[(half >> (60 - 4 * (place % 16)) & 0xf) as usize]
    };
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|place| ![8, 13, 18, 23].contains(place));
    places.enumerate().for_each(|(nth, place)| text[place] = digit(nth));
    let mut value = HeaderValue::from_bytes(&text).expect("hexadecimal digits are visible");
    value.set_sensitive(true); // HPACK keeps what will not come again out of its table, where it would push out what does
    value
}

/// Of a request whose path is rewritten.
pub fn keep_original_path(request: &mut Request) {
    if let Ok(path) = HeaderValue::from_str(request.path.as_str()) {
        request.headers.insert(ORIGINAL_PATH, path);
    }
}

/// Of a request whose authority is rewritten.
pub fn keep_original_host(request: &mut Request) {
    if let Ok(host) = HeaderValue::from_str(request.authority.as_str()) {
        request.headers.insert(ORIGINAL_HOST, host);
    }
}

/// Of each try: its number, and the time that it has.
pub fn attempt(headers: &mut HeaderMap, number: u32, timeout: Option<Duration>) {
    headers.insert(ATTEMPT_COUNT, of_number(number.into()));
    if let Some(timeout) = timeout {
        headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(timeout.as_millis() as u64));
    }
}

pub fn service_time(response: &mut Response, time: Duration) {
    response.headers.insert(SERVICE_TIME, of_number(time.as_millis() as u64));
}

/// Most are small: these take no memory.
fn of_number(number: u64) -> HeaderValue {
    const SMALL: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    match SMALL.get(usize::try_from(number).unwrap_or(usize::MAX)) {
        Some(digit) => HeaderValue::from_static(digit),
        None => HeaderValue::from(number),
    }
}

/// What formatters in header changes may ask for.
pub struct Context<'a> {
    pub downstream: &'a Downstream,
    pub request: routes::Request<'a>,
    pub version: Version,
    pub route: &'a Arc<str>,
    pub upstream: Option<&'a str>,
    /// Of the response, whose fields are changed.
    pub response: Option<(&'a HeaderMap, http::StatusCode)>,
}

impl Values for Context<'_> {
    fn request(&self) -> routes::Request<'_> {
        routes::Request { ..self.request }
    }

    fn response(&self) -> Option<&HeaderMap> {
        self.response.map(|(headers, _)| headers)
    }

    fn variable(&self, variable: Variable) -> Option<String> {
        Some(match variable {
            Variable::DownstreamRemoteAddress => self.downstream.source.to_string(),
            Variable::DownstreamRemoteAddressWithoutPort => self.downstream.source.ip().to_string(),
            Variable::DownstreamLocalAddress => self.downstream.original.to_string(),
            Variable::Protocol => format!("{:?}", self.version),
            Variable::ResponseCode => self.response?.1.as_str().to_owned(),
            Variable::RouteName => self.route.to_string(),
            Variable::UpstreamHost => self.upstream?.to_owned(),
            Variable::ResponseFlags | Variable::StartTime => return None,
        })
    }
}

/// The request as routes see it, its fields apart: those may be about to change.
pub fn view<'a>(request: &'a Request, headers: &'a HeaderMap, port: u16) -> routes::Request<'a> {
    routes::Request {
        method: &request.method,
        scheme: request.scheme.as_str(),
        authority: request.authority.as_str(),
        path: request.path.path(),
        query: request.path.query(),
        headers,
        port,
    }
}

pub fn change_request<'a>(
    request: &mut Request,
    changes: impl Iterator<Item = &'a HeaderChanges>,
    downstream: &Downstream,
    route: &Arc<str>,
) {
    for changes in changes {
        let before = request.headers.clone();
        let mut headers = std::mem::take(&mut request.headers);
        let version = request.version;
        let request_view = view(request, &before, downstream.port);
        let context = Context { downstream, request: request_view, version, route, upstream: None, response: None };
        changes.apply(&mut headers, &context);
        request.headers = headers;
    }
}

pub fn change_response<'a>(
    response: &mut Response,
    changes: impl Iterator<Item = &'a HeaderChanges>,
    request: &Request,
    downstream: &Downstream,
    route: &Arc<str>,
    upstream: Option<&str>,
) {
    for changes in changes {
        let before = response.headers.clone();
        let context = Context {
            downstream,
            request: view(request, &request.headers, downstream.port),
            version: request.version,
            route,
            upstream,
            response: Some((&before, response.status)),
        };
        changes.apply(&mut response.headers, &context);
    }
}
