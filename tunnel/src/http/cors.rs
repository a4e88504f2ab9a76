//! Cross-origin requests (VirtualService corsPolicy, HTTPRoute CORS): preflights are answered, responses say who may read them.
use super::{Request, Response};
use crate::routes::Cors;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

fn is_preflight(request: &Request) -> bool {
    request.method == Method::OPTIONS && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight; None: the request goes on. Where all methods or names are allowed it tells those asked for: with
/// credentials browsers take no `*`.
pub fn preflight<'a>(cors: &'a Cors, request: &'a Request) -> Option<Response> {
    let origin = request.headers.get(header::ORIGIN).filter(|_| is_preflight(request))?;
    let mut response = Response::new(StatusCode::OK, "");
    let headers = &mut response.headers;
    match cors.allows(origin.as_bytes()) {
        true => allow(headers, cors, origin),
        false if cors.answer_unmatched_preflights => {}
        false => return None,
    }
    let asked = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = |list: &'a str, name| if list == "*" { asked(name) } else { list };
    let methods = wanted(&cors.allow_methods, header::ACCESS_CONTROL_REQUEST_METHOD);
    let names = wanted(&cors.allow_headers, header::ACCESS_CONTROL_REQUEST_HEADERS);
    insert(headers, header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    insert(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    insert(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers);
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
