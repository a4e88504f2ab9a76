//! Fields of one hop (RFC 9110 section 7.6.1): taken from a message where it arrives, and understood.
use super::head::Refused;
use http::header::{
    HeaderMap, HeaderName, HeaderValue, CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::Version;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

pub struct Hop {
    pub keep_alive: bool,
    /// To what else than HTTP the sender would switch.
    pub upgrade: Option<HeaderValue>,
}

const OF_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, TRANSFER_ENCODING, UPGRADE, TE];

pub fn is_of_hop(name: &HeaderName) -> bool {
    OF_HOP.contains(name)
}

/// What a message is not itself without.
pub fn is_of_message(name: &HeaderName) -> bool {
    [CONTENT_LENGTH, TRANSFER_ENCODING, HOST].contains(name)
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &[u8]) -> bool {
    headers.get_all(name).iter().flat_map(tokens).any(|other| other.eq_ignore_ascii_case(token))
}

/// Takes them away. `te: trailers`, which gRPC needs, is said by this hop as well.
pub fn take(headers: &mut HeaderMap, version: Version) -> Result<Hop, Refused> {
    if !headers.keys().any(is_of_hop) {
        return Ok(Hop { keep_alive: version == Version::HTTP_11, upgrade: None });
    }
    let close = has_token(headers, CONNECTION, b"close");
    let keep_alive = !close && (version == Version::HTTP_11 || has_token(headers, CONNECTION, b"keep-alive"));
    let upgrade = headers.get(UPGRADE).filter(|_| has_token(headers, CONNECTION, b"upgrade"));
    let upgrade = upgrade.filter(|protocol| !is_http(protocol)).cloned();
    if headers.contains_key(CONNECTION) {
        let named = headers.get_all(CONNECTION).iter().flat_map(tokens);
        let named = named.filter_map(|name| HeaderName::from_bytes(name).ok()).collect::<Vec<_>>();
        for name in named {
            if is_of_message(&name) {
                return Err(Refused::bad("Connection names a field that frames or routes"));
            }
            if name != TE {
                headers.remove(name);
            }
        }
    }
    let trailers = has_token(headers, TE, b"trailers");
    for name in &OF_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, TRAILERS);
    }
    Ok(Hop { keep_alive, upgrade })
}

/// `Upgrade: h2c` and the like would carry requests past this hop unseen; a server may ignore them (RFC 9110 section 7.8).
fn is_http(protocols: &HeaderValue) -> bool {
    let starts =
        |token: &[u8], with: &[u8]| token.len() >= with.len() && token[..with.len()].eq_ignore_ascii_case(with);
    tokens(protocols).any(|token| starts(token, b"h2") || starts(token, b"http") || starts(token, b"tls"))
}
