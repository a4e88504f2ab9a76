//! Cross-origin requests (VirtualService corsPolicy, HTTPRoute CORS): preflights are answered, responses say who may read them.
use super::{Request, Response};
use crate::routes::Cors;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

fn is_preflight(request: &Request) -> bool {
    request.method == Method::OPTIONS && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight; None: the request goes on.
pub fn preflight(cors: &Cors, request: &Request) -> Option<Response> {
    let origin = request.headers.get(header::ORIGIN).filter(|_| is_preflight(request))?;
    let mut response = Response::new(StatusCode::OK, "");
    if !cors.allows(origin.as_bytes()) {
        return cors.answer_unmatched_preflights.then_some(response);
    }
    let headers = &mut response.headers;
    allow(headers, cors, origin);
    insert(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods);
    insert(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers);
    if let Some(seconds) = cors.max_age {
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    }
    Some(response)
}

/// What goes with every other response to an allowed origin.
pub fn expose(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if let Some(origin) = origin.filter(|origin| cors.allows(origin.as_bytes())) {
        allow(headers, cors, origin);
        insert(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers);
    }
}

fn allow(headers: &mut HeaderMap, cors: &Cors, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if cors.allow_credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Some(value) = HeaderValue::from_str(value).ok().filter(|value| !value.is_empty()) {
        headers.insert(name, value);
    }
}
