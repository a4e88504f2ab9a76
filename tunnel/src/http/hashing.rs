//! The key by which consistent hashing chooses (DestinationRule consistentHash).
use super::node::Downstream;
use super::upstream::hash;
use super::{Request, Response};
use crate::routes::{Balancing, Cookie, HashKey};
use http::header::{HeaderValue, COOKIE, SET_COOKIE};

#[derive(Default)]
pub struct Key {
    /// None: chance chooses.
    pub hash: Option<u64>,
    /// For the client to keep.
    made: Option<HeaderValue>,
}

impl Key {
    pub fn remember(self, response: &mut Response) {
        if let Some(cookie) = self.made {
            response.headers.append(SET_COOKIE, cookie);
        }
    }
}

pub fn key(balancing: &Balancing, request: &Request, downstream: &Downstream, draw: &dyn Fn(u64) -> u64) -> Key {
    let Balancing::Hash { key, .. } = balancing else { return Key::default() };
    let hash = match key {
        HashKey::Header(name) => request.headers.get(name).map(|value| hash(value.as_bytes())),
        HashKey::Query(name) => parameter(request.path.query(), name).map(|value| hash(value.as_bytes())),
        HashKey::SourceIp => Some(hash(downstream.source.ip().to_canonical().to_string().as_bytes())),
        HashKey::Cookie(cookie) => match value(request, &cookie.name) {
            Some(value) => Some(hash(value)),
            None => return made(cookie, draw),
        },
    };
    Key { hash, made: None }
}

/// The first of that name.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(other, _)| *other == name).map(|(_, value)| value)
}

fn value<'a>(request: &'a Request, name: &str) -> Option<&'a [u8]> {
    let cookies = request.headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let mut values = cookies.filter_map(|cookie| cookie.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    values.find(|value| !value.is_empty())
}

/// One that a client without gets, where the policy says how long it is to live.
fn made(cookie: &Cookie, draw: &dyn Fn(u64) -> u64) -> Key {
    let Some(ttl) = cookie.ttl else { return Key::default() };
    let value = format!("{:016x}", draw(u64::MAX));
    let mut text = format!("{}=\"{value}\"", cookie.name);
    if !ttl.is_zero() {
        text += &format!("; Max-Age={}", ttl.as_secs());
    }
    if !cookie.path.is_empty() {
        text += &format!("; Path={}", cookie.path);
    }
    for (name, value) in cookie.attributes.iter() {
        text += &if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") };
    }
    text += "; HttpOnly";
    // Clients send it back with its quotes.
    Key { hash: Some(hash(format!("\"{value}\"").as_bytes())), made: HeaderValue::try_from(text).ok() }
}
