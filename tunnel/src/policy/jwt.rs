//! Istio's RequestAuthentication: which tokens a request may bring, whether they are valid, and what of them goes on to the
//! application. What is wrong is said in Envoy's words.

use std::borrow::Cow;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use http::header::{HeaderMap, HeaderName, HeaderValue, COOKIE};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::Keys;
use super::token::Token;
use crate::config::proto;

/// Seconds by which clocks may differ (Envoy's `clock_skew_seconds`).
const LEEWAY: u64 = 60;
/// Bytes of a token; beyond it is not looked at.
const LONGEST: usize = 16 << 10;
/// Types of tokens that are for requests (RFC 7519 section 5.1, RFC 9068 section 2.1).
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

const MALFORMED: &str = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
/// Of what no key in the sets has signed.
pub const UNKNOWN_KEY: &str = "Jwks doesn't have key to match kid or alg from Jwt";
const UNVERIFIED: &str = "Jwt verification fails";

/// A rule of a RequestAuthentication.
#[derive(Debug, PartialEq)]
pub struct TokenRule {
    issuer: Box<str>,
    /// Any of them; none: any at all.
    audiences: Box<[Box<str>]>,
    keys: Keys,
    places: Box<[Place]>,
    /// Takes the payload as it came, in base64url.
    payload_to: Option<HeaderName>,
    /// With the steps to a claim.
    claims_to: Box<[(HeaderName, Steps)]>,
    /// The token goes on to the application.
    forward: bool,
    words: Box<[Box<str>]>,
}

type Steps = Box<[Box<str>]>;

/// Where a token may be.
#[derive(Debug, PartialEq)]
enum Place {
    /// Behind a prefix.
    Header(HeaderName, Box<str>),
    Parameter(Box<str>),
    Cookie(Box<str>),
}

/// A request's token, as far as it is to be looked at, and the parts of a request that it may be in.
pub struct Carrier<'a> {
    pub headers: &'a mut HeaderMap,
    pub query: Option<&'a str>,
}

/// What of a request is different, once its tokens have been found valid.
#[derive(Debug, Default)]
pub struct Authenticated {
    /// The first one's.
    pub token: Option<Token>,
    /// The query without tokens, where there were any: None in it: nothing is left.
    pub query: Option<Option<String>>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl TokenRule {
    pub fn decode(message: &proto::JwtRule) -> Result<TokenRule, String> {
        let name = |text: &str| HeaderName::try_from(text).map_err(|_| format!("{text:?} names no header"));
        let headers =
            message.from_headers.iter().map(|one| Ok(Place::Header(name(&one.name)?, one.prefix.as_str().into())));
        let parameters = message.from_params.iter().map(|one| Ok(Place::Parameter(one.as_str().into())));
        let cookies = message.from_cookies.iter().map(|one| Ok(Place::Cookie(one.as_str().into())));
        let claim =
            |one: &proto::ClaimToHeader| Ok((name(&one.header)?, one.claim.split('.').map(Box::from).collect()));
        let payload = &*message.output_payload_to_header;
        Ok(TokenRule {
            issuer: message.issuer.as_str().into(),
            audiences: message.audiences.iter().map(|one| one.as_str().into()).collect(),
            keys: if message.jwks.is_empty() { Keys::default() } else { Keys::parse(&message.jwks)? },
            places: headers.chain(parameters).chain(cookies).collect::<Result<_, String>>()?,
            payload_to: (!payload.is_empty()).then(|| name(payload)).transpose()?,
            claims_to: message.output_claim_to_headers.iter().map(claim).collect::<Result<_, String>>()?,
            forward: message.forward_original_token,
            words: message.space_delimited_claims.iter().map(|one| one.as_str().into()).collect(),
        })
    }

    /// The claims of a token of this issuer. `now`: seconds since 1970. Errors: why it is not valid.
    fn verify(&self, token: &str, now: u64) -> Result<Map<String, Value>, &'static str> {
        let Parts { head, claims, signature } = parts(token)?;
        if claims.get("iss").and_then(Value::as_str).is_none_or(|issuer| *issuer != *self.issuer) {
            return Err("Jwt issuer is not configured");
        }
        let time = |name| claims.get(name).map(|value| value.as_f64().filter(|time| *time >= 0.0).ok_or(MALFORMED));
        if let Some(from) = time("nbf").transpose()? {
            if from as u64 > now + LEEWAY {
                return Err("Jwt not yet valid");
            }
        }
        if let Some(until) = time("exp").transpose()? {
            if now > until as u64 + LEEWAY {
                return Err("Jwt is expired");
            }
        }
        if !self.audiences.is_empty() && !is_for(&claims, &self.audiences) {
            return Err("Audiences in Jwt are not allowed");
        }
        let of_type = head.typ.as_ref().is_none_or(|typ| TYPES.contains(&&*typ.to_ascii_lowercase()));
        if !of_type || head.crit.is_some() {
            return Err(UNVERIFIED);
        }
        let signed = &token[..token.rfind('.').unwrap_or_default()];
        match self.keys.verify(&head.alg, head.kid.as_deref(), signed.as_bytes(), &signature) {
            Some(true) => Ok(claims),
            Some(false) => Err(UNVERIFIED),
            None => Err(UNKNOWN_KEY),
        }
    }

    fn tokens<'a>(&'a self, headers: &'a HeaderMap, query: Option<&'a str>) -> Vec<Cow<'a, str>> {
        let mut found = vec![];
        for place in &self.places {
            match place {
                Place::Header(name, prefix) => {
                    let values = headers.get_all(name).iter().map(text);
                    found.extend(values.filter_map(|value| without(value, prefix)).map(Cow::from));
                }
                Place::Parameter(wanted) => found.extend(parameters(query, wanted)),
                Place::Cookie(wanted) => {
                    let crumbs = headers.get_all(COOKIE).iter().flat_map(|value| text(value).split(';'));
                    let pairs = crumbs.filter_map(|crumb| crumb.trim().split_once('='));
                    found.extend(pairs.filter(|(name, _)| **name == **wanted).map(|(_, value)| Cow::from(value)));
                }
            }
        }
        found
    }

    /// Takes the token away, where it is not to go on.
    fn strip(&self, headers: &mut HeaderMap, query: &mut Option<String>) {
        for place in self.places.iter().filter(|_| !self.forward) {
            match place {
                Place::Header(name, prefix) => {
                    let kept: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
                    headers.remove(name);
                    for value in kept.into_iter().filter(|value| without(text(value), prefix).is_none()) {
                        headers.append(name, value);
                    }
                }
                Place::Parameter(wanted) => {
                    let others = |query: String| {
                        let pairs = query.split('&').filter(|pair| pair.split('=').next() != Some(wanted));
                        Some(pairs.collect::<Vec<_>>().join("&")).filter(|query| !query.is_empty())
                    };
                    *query = query.take().and_then(others);
                }
                Place::Cookie(_) => {} // as Envoy: the application has set it
            }
        }
    }

    fn tell(&self, headers: &mut HeaderMap, payload: &str, token: &Token) {
        if let (Some(name), Ok(value)) = (&self.payload_to, HeaderValue::try_from(payload)) {
            headers.insert(name, value);
        }
        for (name, steps) in &self.claims_to {
            if let Some(value) = token.written(steps).and_then(|claim| HeaderValue::try_from(claim).ok()) {
                headers.insert(name, value);
            }
        }
    }
}

/// Verifies all tokens of a request, and has it go on as the rules want it. Whatever a client itself writes into a header
/// that a rule writes is taken away. Errors: why a token is not valid.
pub fn authenticate(rules: &[&TokenRule], carrier: Carrier<'_>, now: u64) -> Result<Authenticated, &'static str> {
    let Carrier { headers, query } = carrier;
    for rule in rules {
        rule.payload_to
            .iter()
            .chain(rule.claims_to.iter().map(|(name, _)| name))
            .for_each(|name| drop(headers.remove(name)));
    }
    let mut valid: Vec<(&TokenRule, String, Token)> = vec![];
    let mut seen: Vec<String> = vec![];
    for rule in rules {
        for token in rule.tokens(headers, query) {
            if seen.iter().any(|other| **other == *token) {
                continue;
            }
            let (by, claims) = verified(rules, &token, headers, query, now)?;
            let text = |name: &str| claims.get(name).and_then(Value::as_str);
            let principal = text("iss").zip(text("sub")).map(|(issuer, subject)| format!("{issuer}/{subject}").into());
            seen.push(token.to_string());
            valid.push((by, token.into_owned(), Token { principal, claims, words: by.words.clone() }));
        }
    }
    let mut rest = query.map(str::to_owned);
    for (rule, text, token) in &valid {
        rule.strip(headers, &mut rest);
        rule.tell(headers, text.split('.').nth(1).unwrap_or_default(), token);
    }
    let query = (rest.as_deref() != query).then_some(rest);
    Ok(Authenticated { token: valid.into_iter().next().map(|(_, _, token)| token), query })
}

/// By any rule in whose places it is.
fn verified<'a>(
    rules: &[&'a TokenRule],
    token: &str,
    headers: &HeaderMap,
    query: Option<&str>,
    now: u64,
) -> Result<(&'a TokenRule, Map<String, Value>), &'static str> {
    let mut why = "Jwt issuer is not configured";
    for rule in rules {
        if !rule.tokens(headers, query).iter().any(|other| **other == *token) {
            continue;
        }
        match rule.verify(token, now) {
            Ok(claims) => return Ok((rule, claims)),
            Err("Jwt issuer is not configured") => {}
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Taken apart, and verified by nobody yet.
struct Parts {
    head: Head,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

fn parts(token: &str) -> Result<Parts, &'static str> {
    let mut sections = token.split('.');
    let (Some(head), Some(claims), Some(signature), None) =
        (sections.next(), sections.next(), sections.next(), sections.next())
    else {
        return Err(MALFORMED);
    };
    if token.len() > LONGEST {
        return Err("Jwt is too long");
    }
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text);
    let head = bytes(head).map_err(|_| "Jwt header is an invalid Base64url encoded")?;
    let head = serde_json::from_slice(&head).map_err(|_| "Jwt header is an invalid JSON")?;
    let claims = bytes(claims).map_err(|_| "Jwt payload is an invalid Base64url encoded")?;
    let claims = serde_json::from_slice(&claims).map_err(|_| "Jwt payload is an invalid JSON")?;
    let signature = bytes(signature).map_err(|_| "Jwt signature is an invalid Base64url encoded")?;
    Ok(Parts { head, claims, signature })
}

fn is_for(claims: &Map<String, Value>, audiences: &[Box<str>]) -> bool {
    let is_one = |value: &Value| value.as_str().is_some_and(|one| audiences.iter().any(|audience| **audience == *one));
    match claims.get("aud") {
        Some(Value::Array(several)) => several.iter().any(is_one),
        Some(one) => is_one(one),
        None => false,
    }
}

/// Empty where it is none.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

/// What follows a prefix, without blanks around it; a scheme is one with or without case (RFC 9110 section 11.1).
fn without<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    let (begin, rest) = value.split_at_checked(prefix.len())?;
    let same = begin == prefix || prefix == "Bearer " && begin.eq_ignore_ascii_case(prefix);
    same.then(|| rest.trim())
}

fn parameters<'a>(query: Option<&'a str>, wanted: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
    pairs.filter(move |(name, _)| *name == wanted).map(|(_, value)| Cow::from(value))
}
