//! `envoy.service.auth.v3.Authorization`: whether a request may go on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue, CONTENT_LENGTH};
use http::uri::Authority;
use http::StatusCode;

use super::proto::{
    Address, Asked, Attributes, CheckRequest, CheckResponse, HeaderOption, HttpRequest, Peer, SocketAddress, Timestamp,
};
use super::{grpc, Answer, Reply};
use crate::http::Request;

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Whose request it is, and for whom. Principals as certificates have them; empty: there is none.
pub struct Parties {
    pub source: (SocketAddr, String),
    pub destination: (SocketAddr, String),
}

/// The question about a request.
pub fn question(authority: Authority, request: &Request, parties: Parties) -> Request {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Timestamp { seconds: now.as_secs() as i64, nanos: now.subsec_nanos() as i32 };
    let asked = Asked { time: Some(time), http: Some(attributes(request)) };
    let [source, destination] = [parties.source, parties.destination].map(peer);
    let attributes = Attributes { source: Some(source), destination: Some(destination), request: Some(asked) };
    grpc::request(authority, METHOD, &CheckRequest { attributes: Some(attributes) })
}

/// What its answer says; the request is changed as it wants. Errors: it is none.
pub fn answer(reply: &Reply, request: &mut Request) -> Result<Answer, String> {
    let said: CheckResponse = grpc::message(reply)?;
    let code = said.status.unwrap_or_default().code;
    if code == 0 {
        let ok = said.ok.unwrap_or_default();
        put(&mut request.headers, &ok.headers);
        for name in &ok.headers_to_remove {
            request.headers.remove(name);
        }
        let mut added = HeaderMap::new();
        put(&mut added, &ok.response_headers_to_add);
        return Ok(Answer::Allowed(added));
    }
    let denied = said.denied.unwrap_or_default();
    let status = denied.status.and_then(|status| u16::try_from(status.code).ok()).filter(|status| *status >= 200);
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::FORBIDDEN);
    let mut headers = HeaderMap::new();
    put(&mut headers, &denied.headers);
    headers.remove(CONTENT_LENGTH);
    Ok(Answer::Denied { status, headers, body: denied.body.into() })
}

/// What belongs to the hop or the request line is not theirs to say.
fn put(headers: &mut HeaderMap, options: &[HeaderOption]) {
    for option in options {
        let Some(header) = &option.header else { continue };
        let text = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
        let name = HeaderName::try_from(&header.key).ok().filter(|name| name != http::header::HOST);
        let Some((name, value)) = name.zip(HeaderValue::from_bytes(text).ok()) else { continue };
        match option.append.as_ref().is_some_and(|append| append.value) {
            true => drop(headers.append(name, value)),
            false => drop(headers.insert(name, value)),
        }
    }
}

fn peer((address, principal): (SocketAddr, String)) -> Peer {
    let socket_address = SocketAddress { address: address.ip().to_string(), port_value: address.port().into() };
    Peer { address: Some(Address { socket_address: Some(socket_address) }), principal }
}

/// As Envoy fills them: headers with the pseudo-headers, several lines of one joined.
fn attributes(request: &Request) -> HttpRequest {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let [method, path, host, scheme] =
        [request.method.as_str(), request.path.as_str(), request.authority.as_str(), request.scheme.as_str()]
            .map(str::to_owned);
    let pseudo = [(":method", &method), (":path", &path), (":authority", &host), (":scheme", &scheme)];
    let mut headers: HashMap<String, String> =
        pseudo.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    for name in request.headers.keys() {
        let lines: Vec<_> = request.headers.get_all(name).iter().map(text).collect();
        headers.insert(name.to_string(), lines.join(","));
    }
    HttpRequest {
        id: request.headers.get("x-request-id").map(text).unwrap_or_default(),
        size: request.body.length().map_or(-1, |length| length as i64),
        protocol: format!("{:?}", request.version),
        method,
        headers,
        path,
        host,
        scheme,
    }
}
