//! Heads of messages: read whole or not at all.
use super::framing::{self, Framing};
use super::hop;
use crate::http::message::Request;
use crate::http::settings::Limits;
use crate::http::Body;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue, HOST, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode, Version};
use httparse::Header;
use memchr::{memchr2_iter, memmem};
use std::mem::MaybeUninit;

/// A message that is not taken, and what a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: StatusCode,
    pub reason: &'static str,
}

impl Refused {
    pub const fn bad(reason: &'static str) -> Refused {
        Refused { status: StatusCode::BAD_REQUEST, reason }
    }

    pub const fn unimplemented(reason: &'static str) -> Refused {
        Refused { status: StatusCode::NOT_IMPLEMENTED, reason }
    }

    const fn large(reason: &'static str) -> Refused {
        Refused { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason }
    }
}

pub struct RequestHead {
    /// Without its body.
    pub request: Request,
    pub framing: Framing,
    pub keep_alive: bool,
}

pub struct ResponseHead {
    pub status: StatusCode,
    /// With `Upgrade` where the status is 101.
    pub headers: HeaderMap,
    pub framing: Framing,
    pub keep_alive: bool,
}

/// Finds where heads end in what has arrived so far.
#[derive(Default)]
pub struct Finder {
    /// Bytes in which there is no end.
    searched: usize,
}

impl Finder {
    /// Takes the next head from `input`, if it is whole; its lines end properly. Empty lines before it are passed over (RFC 9112 section 2.2).
    pub fn take(&mut self, input: &mut BytesMut, limits: Limits) -> Result<Option<Bytes>, Refused> {
        while input.starts_with(b"\r\n") {
            input.advance(2);
            self.searched = 0;
        }
        let from = self.searched.saturating_sub(3);
        let end = memmem::find(&input[from..], b"\r\n\r\n").map(|at| from + at + 4);
        let size = end.unwrap_or(input.len());
        if size > limits.bytes {
            return Err(Refused::large("more bytes in the head than max_request_headers_kb"));
        }
        // At once: a line that ends in LF alone would wait for an end that never comes.
        lines_end_properly(&input[..size], from)?;
        if let Some(end) = end {
            self.searched = 0;
            return Ok(Some(input.split_to(end).freeze()));
        }
        self.searched = input.len();
        Ok(None)
    }
}

/// Every line ends in CRLF, and neither of the two is anywhere else. What is before `from` has been looked at.
fn lines_end_properly(head: &[u8], from: usize) -> Result<(), Refused> {
    for at in memchr2_iter(b'\r', b'\n', &head[from..]).map(|at| from + at) {
        let proper = match head[at] {
            b'\r' => head.get(at + 1).is_none_or(|next| *next == b'\n'),
            _ => at > 0 && head[at - 1] == b'\r',
        };
        if !proper {
            return Err(Refused::bad("a line that does not end in CRLF"));
        }
    }
    Ok(())
}

pub fn request(head: &Bytes, limits: Limits, default_host: Option<&Authority>) -> Result<RequestHead, Refused> {
    let mut space = [const { MaybeUninit::<Header>::uninit() }; Limits::FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    complete(parsed.parse_with_uninit_headers(head, &mut space))?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = parsed.method.unwrap_or_default();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refused::bad("not a method"))?;
    let mut headers = fields(head, parsed.headers, limits)?;
    let framing = framing::of_request(&headers, version)?;
    let host = host(&mut headers)?;
    let target = target(head, parsed.path.unwrap_or_default(), &method)?;
    let authority = match (target.authority, host) {
        (Some(target), Some(host)) if target != host => return Err(Refused::bad("the target is not on Host")),
        (_, None) if version == Version::HTTP_11 => return Err(Refused::bad("no Host")),
        (Some(authority), _) | (None, Some(authority)) => authority,
        (None, None) => default_host.cloned().ok_or(Refused::bad("no Host"))?,
    };
    let hop = hop::take(&mut headers, version)?;
    // A CONNECT asks for a tunnel already. An Upgrade may be passed over (RFC 9110 section 7.8).
    let switches = framing == Framing::Length(0) && version == Version::HTTP_11 && method != Method::CONNECT;
    let upgrade = hop.upgrade.filter(|_| switches);
    let request = Request {
        method,
        scheme: target.scheme,
        authority,
        path: target.path,
        version,
        headers,
        body: Body::Empty,
        upgrade,
        interim: None,
    };
    Ok(RequestHead { request, framing, keep_alive: hop.keep_alive })
}

/// `method` is the request's.
pub fn response(head: &Bytes, limits: Limits, method: &Method) -> Result<ResponseHead, Refused> {
    let mut space = [const { MaybeUninit::<Header>::uninit() }; Limits::FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    complete(config.parse_response_with_uninit_headers(&mut parsed, head, &mut space))?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| Refused::bad("not a status"))?;
    let mut headers = fields(head, parsed.headers, limits)?;
    let framing = framing::of_response(&headers, version, status, method)?;
    let hop = hop::take(&mut headers, version)?;
    if let Some(upgrade) = hop.upgrade.filter(|_| status == StatusCode::SWITCHING_PROTOCOLS) {
        headers.insert(UPGRADE, upgrade);
    }
    Ok(ResponseHead { status, headers, framing, keep_alive: hop.keep_alive && framing != Framing::UntilClose })
}

/// Fields behind a chunked body, of those that may be there (RFC 9110 section 6.5.1).
pub fn trailers(block: &Bytes, limits: Limits) -> Result<HeaderMap, Refused> {
    lines_end_properly(block, 0)?;
    let mut space = [httparse::EMPTY_HEADER; 64];
    let parsed = match httparse::parse_headers(block, &mut space) {
        Ok(httparse::Status::Complete((end, parsed))) if end == block.len() => parsed,
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::large("too many trailers")),
        _ => return Err(Refused::bad("malformed trailers")),
    };
    let trailers = fields(block, parsed, limits)?;
    are_trailers(&trailers).then_some(trailers).ok_or(Refused::bad("a trailer that frames or routes"))
}

/// Whether none of these fields says where a message ends or whom it is for.
pub fn are_trailers(fields: &HeaderMap) -> bool {
    !fields.keys().any(|name| hop::is_of_message(name) || hop::is_of_hop(name))
}

fn complete(parsed: httparse::Result<usize>) -> Result<(), Refused> {
    match parsed {
        Ok(httparse::Status::Complete(_)) => Ok(()),
        Ok(httparse::Status::Partial) => Err(Refused::bad("an incomplete head")),
        Err(httparse::Error::TooManyHeaders) => Err(Refused::large("too many fields")),
        Err(httparse::Error::Version) => Err(Refused::bad("not HTTP/1.1")),
        Err(httparse::Error::HeaderName) => Err(Refused::bad("malformed field name")),
        Err(httparse::Error::HeaderValue) => Err(Refused::bad("malformed field value")),
        Err(_) => Err(Refused::bad("malformed head")),
    }
}

/// The part of `head` that `text`, which is in it, takes.
fn part(head: &Bytes, text: &[u8]) -> Bytes {
    head.slice_ref(text)
}

/// Fields that this hop adds to most messages.
const ADDED: usize = 5;

fn fields(head: &Bytes, parsed: &[Header], limits: Limits) -> Result<HeaderMap, Refused> {
    if parsed.len() > limits.fields {
        return Err(Refused::large("more fields than max_headers_count"));
    }
    let mut headers = HeaderMap::with_capacity(parsed.len() + ADDED);
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refused::bad("malformed field name"))?;
        let value = HeaderValue::from_maybe_shared(part(head, field.value));
        headers.append(name, value.map_err(|_| Refused::bad("malformed field value"))?);
    }
    Ok(headers)
}

fn host(headers: &mut HeaderMap) -> Result<Option<Authority>, Refused> {
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Refused::bad("repeated Host"));
    }
    let Some(host) = headers.remove(HOST) else { return Ok(None) };
    authority(host.to_str().map_err(|_| Refused::bad("malformed authority"))?).map(Some)
}

pub fn authority(text: &str) -> Result<Authority, Refused> {
    named(Authority::try_from(text).map_err(|_| Refused::bad("malformed authority"))?)
}

/// A host and perhaps a port, of nobody in particular (RFC 9110 section 4.2.4).
pub fn named(authority: Authority) -> Result<Authority, Refused> {
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or("@");
    let proper = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if authority.host().is_empty() || !proper {
        return Err(Refused::bad("malformed authority"));
    }
    Ok(authority)
}

struct Target {
    scheme: Scheme,
    authority: Option<Authority>,
    path: PathAndQuery,
}

/// RFC 9112 section 3.2: the four forms, each only with the methods that it is for.
fn target(head: &Bytes, text: &str, method: &Method) -> Result<Target, Refused> {
    let whole = part(head, text.as_bytes());
    if method == Method::CONNECT {
        let authority = authority(text)?;
        authority.port_u16().ok_or(Refused::bad("CONNECT without a port"))?;
        return Ok(Target { scheme: Scheme::HTTP, authority: Some(authority), path: PathAndQuery::from_static("/") });
    }
    if text == "*" {
        let path = PathAndQuery::from_static("*");
        let options = method == Method::OPTIONS;
        return options.then_some(Target { scheme: Scheme::HTTP, authority: None, path }).ok_or(Refused::bad("target"));
    }
    if text.starts_with('/') {
        return Ok(Target { scheme: Scheme::HTTP, authority: None, path: path(whole)? });
    }
    let (scheme, rest) = text.split_once("://").ok_or(Refused::bad("malformed target"))?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::HTTP,
        "https" => Scheme::HTTPS,
        _ => return Err(Refused::bad("a target's scheme that is not http")),
    };
    let (host, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = match after.as_bytes() {
        [] => PathAndQuery::from_static("/"),
        [b'/', ..] => path(part(head, after.as_bytes()))?,
        _ => path(Bytes::from(format!("/{after}")))?,
    };
    Ok(Target { scheme, authority: Some(authority(host)?), path })
}

fn path(text: Bytes) -> Result<PathAndQuery, Refused> {
    if !is_path(&text) {
        return Err(Refused::bad("malformed path"));
    }
    PathAndQuery::from_maybe_shared(text).map_err(|_| Refused::bad("malformed path"))
}

/// The fragment is the client's alone, and other bytes are to be encoded (RFC 3986 section 3.3).
pub fn is_path(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#')
}
