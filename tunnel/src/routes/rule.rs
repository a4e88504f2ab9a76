//! HTTP rules: what happens to a request that matches.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use prost::bytes::Bytes;

use super::destination::{milliseconds, parts, Destination};
use super::headers::HeaderChanges;
use super::matching::HttpMatch;
use super::proto;
use super::rewrite::{PathRewrite, RedirectTo};
use super::split::{Share, Split, Target};
use super::text::Text;
use super::within::{each, Within};
use super::MILLION;

#[derive(Debug)]
pub struct HttpRule {
    /// Empty: it has none.
    pub name: Arc<str>,
    /// "VirtualService default/reviews"; empty: none, the default.
    pub origin: Arc<str>,
    /// Any of them; none: it always matches.
    pub matches: Box<[HttpMatch]>,
    pub action: Action,
    /// Of a request that is answered here; a request that is forwarded has its share's.
    pub response: HeaderChanges,
    pub fault: Option<Fault>,
    pub cors: Option<Cors>,
    pub mirrors: Box<[Mirror]>,
}

#[derive(Debug)]
pub enum Action {
    Forward(Arc<Forward>),
    Redirect { to: RedirectTo, status: StatusCode },
    Respond { status: StatusCode, body: Bytes },
}

#[derive(Debug)]
pub struct Forward {
    pub split: Split<Weighted>,
    pub(super) path: Option<PathRewrite>,
    /// For the request with all of its tries.
    pub timeout: Option<Duration>,
    /// None: no retries.
    pub retry: Option<Retry>,
}

/// Where a share of the requests goes, and how they are changed.
#[derive(Debug)]
pub struct Weighted {
    pub target: Target,
    /// In the order in which they apply, one after the other.
    pub request: Box<[Arc<HeaderChanges>]>,
    pub response: Box<[Arc<HeaderChanges>]>,
    pub authority: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After the first try.
    pub attempts: u32,
    /// None: the timeout of the whole request.
    pub per_try_timeout: Option<Duration>,
    pub conditions: Box<[RetryOn]>,
    pub statuses: Box<[StatusCode]>,
    /// Of a response; any of them.
    pub headers: Box<[HeaderName]>,
    pub avoid_previous_hosts: bool,
    pub other_priorities: bool,
    pub backoff_base: Duration,
    pub backoff_max: Duration,
}

pub use proto::RetryOn;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) delay: Duration,
    pub(super) delay_parts: u32,
    pub(super) abort: Option<Abort>,
    pub(super) abort_parts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    Http(StatusCode),
    Grpc(u32),
}

/// Lists are joined as headers have them; empty: the header is left out.
#[derive(Debug)]
pub struct Cors {
    allow_origins: Box<[Text]>,
    pub allow_methods: Box<str>,
    pub allow_headers: Box<str>,
    pub expose_headers: Box<str>,
    /// Seconds.
    pub max_age: Option<u64>,
    pub allow_credentials: bool,
    /// A preflight of another origin is answered without CORS headers, not forwarded.
    pub answer_unmatched_preflights: bool,
}

#[derive(Debug)]
pub struct Mirror {
    pub destination: Arc<Destination>,
    pub(super) parts: u32,
}

/// Whether something falls that does for so many of a million; `draw` gives a number below its argument.
fn falls(parts: u32, draw: impl FnOnce(u64) -> u64) -> bool {
    parts > 0 && (parts >= MILLION || draw(u64::from(MILLION)) < u64::from(parts))
}

impl Fault {
    fn decode(sent: &proto::Fault) -> Result<Fault, String> {
        let abort = sent.abort.as_ref().map(|abort| match abort {
            proto::Abort::HttpStatus(code) => status(*code).map(Abort::Http),
            proto::Abort::GrpcStatus(code @ 0..=16) => Ok(Abort::Grpc(*code)),
            proto::Abort::GrpcStatus(code) => Err(format!("gRPC status {code} is unknown")),
        });
        Ok(Fault {
            delay: Duration::from_millis(sent.delay_ms),
            delay_parts: parts(sent.delay_parts)?,
            abort: abort.transpose()?,
            abort_parts: parts(sent.abort_parts)?,
        })
    }

    pub fn delay(&self, draw: impl FnOnce(u64) -> u64) -> Option<Duration> {
        (!self.delay.is_zero() && falls(self.delay_parts, draw)).then_some(self.delay)
    }

    pub fn abort(&self, draw: impl FnOnce(u64) -> u64) -> Option<Abort> {
        self.abort.filter(|_| falls(self.abort_parts, draw))
    }
}

impl Mirror {
    pub fn falls(&self, draw: impl FnOnce(u64) -> u64) -> bool {
        falls(self.parts, draw)
    }
}

impl Cors {
    fn decode(sent: &proto::Cors) -> Result<Cors, String> {
        let list = |sent: &[String]| sent.join(",").into();
        Ok(Cors {
            allow_origins: each("allow_origins", &sent.allow_origins, Text::decode)?,
            allow_methods: list(&sent.allow_methods),
            allow_headers: list(&sent.allow_headers),
            expose_headers: list(&sent.expose_headers),
            max_age: sent.max_age,
            allow_credentials: sent.allow_credentials,
            answer_unmatched_preflights: sent.answer_unmatched_preflights,
        })
    }

    pub fn allows(&self, origin: &[u8]) -> bool {
        self.allow_origins.iter().any(|allowed| allowed.matches(origin))
    }
}

impl Retry {
    fn decode(sent: &proto::Retry) -> Result<Retry, String> {
        let header = |name: &String| name.as_str().try_into().map_err(|_| format!("'{name}' is no name of a header"));
        let condition = |condition: &i32| match RetryOn::try_from(*condition) {
            Ok(RetryOn::Unspecified) | Err(_) => Err(format!("{condition} is unknown")),
            Ok(condition) => Ok(condition),
        };
        Ok(Retry {
            attempts: sent.attempts,
            per_try_timeout: milliseconds(sent.per_try_timeout_ms),
            conditions: each("conditions", &sent.conditions, condition)?,
            statuses: each("statuses", &sent.statuses, |code| status(*code))?,
            headers: each("headers", &sent.headers, header)?,
            avoid_previous_hosts: sent.avoid_previous_hosts,
            other_priorities: sent.other_priorities,
            backoff_base: Duration::from_millis(sent.backoff_base_ms),
            backoff_max: Duration::from_millis(sent.backoff_max_ms),
        })
    }
}

impl HttpRule {
    pub fn decode(sent: &proto::HttpRule, destinations: &[Arc<Destination>]) -> Result<HttpRule, String> {
        Ok(HttpRule {
            name: sent.name.as_str().into(),
            origin: sent.origin.as_str().into(),
            matches: each("matches", &sent.matches, |one| HttpMatch::decode(one, &sent.name))?,
            action: Action::decode(sent, destinations)?,
            response: changes(&sent.response).within("response")?,
            fault: sent.fault.as_ref().map(Fault::decode).transpose().within("fault")?,
            cors: sent.cors.as_ref().map(Cors::decode).transpose().within("cors")?,
            mirrors: each("mirrors", &sent.mirrors, |mirror| {
                let destination = super::split::find(mirror.destination, destinations)?;
                Ok(Mirror { destination, parts: parts(mirror.parts)? })
            })?,
        })
    }

    /// What telemetry calls the route of a request that one of the matches let in.
    pub fn route(&self, place: Option<usize>) -> &Arc<str> {
        place.map_or(&self.name, |place| &self.matches[place].route)
    }
}

impl Action {
    fn decode(sent: &proto::HttpRule, destinations: &[Arc<Destination>]) -> Result<Action, String> {
        match sent.action.as_ref().ok_or("no action")? {
            proto::Action::Forward(forward) => {
                Ok(Action::Forward(Arc::new(Forward::decode(forward, sent, destinations).within("forward")?)))
            }
            proto::Action::Redirect(redirect) => {
                let status = status(redirect.status).within("redirect")?;
                Ok(Action::Redirect { to: RedirectTo::decode(redirect).within("redirect")?, status })
            }
            proto::Action::Respond(response) => {
                let status = status(response.status).within("respond")?;
                Ok(Action::Respond { status, body: response.body.clone().into() })
            }
        }
    }
}

impl Forward {
    fn decode(sent: &proto::Forward, rule: &proto::HttpRule, known: &[Arc<Destination>]) -> Result<Forward, String> {
        let rewrite = sent.rewrite.as_ref();
        let path = rewrite.and_then(|rewrite| rewrite.path.as_ref()).map(PathRewrite::decode);
        let lone = sent.destinations.len() == 1;
        let shares: Vec<_> = each("destinations", &sent.destinations, |one| {
            let authority = [rewrite.map_or("", |rewrite| &rewrite.authority), &one.authority];
            let weighted = Weighted {
                target: Target::decode(one.to.as_ref(), known)?,
                request: in_order(lone, &rule.request, &one.request).within("request")?,
                response: in_order(lone, &rule.response, &one.response).within("response")?,
                authority: authority.into_iter().find(|name| !name.is_empty()).map(Arc::from),
            };
            Ok(Share { weight: one.weight, what: weighted })
        })?;
        Ok(Forward {
            split: Split::new(shares)?,
            path: path.transpose().within("rewrite")?,
            timeout: milliseconds(sent.timeout_ms),
            retry: sent.retry.as_ref().map(Retry::decode).transpose().within("retry")?,
        })
    }
}

/// The rule's changes and those of one destination: as one list where there is one destination only, which has the last
/// word; else one after the other, the rule having the last word. (So Istio tells them to Envoy.)
fn in_order(
    lone: bool,
    rule: &Option<proto::HeaderChanges>,
    destination: &Option<proto::HeaderChanges>,
) -> Result<Box<[Arc<HeaderChanges>]>, String> {
    let (rule, destination) = (changes(rule)?, changes(destination)?);
    let all = if lone { vec![rule.then(&destination)] } else { vec![destination, rule] };
    Ok(all.into_iter().filter(|changes| !changes.is_empty()).map(Arc::new).collect())
}

fn changes(sent: &Option<proto::HeaderChanges>) -> Result<HeaderChanges, String> {
    sent.as_ref().map_or(Ok(HeaderChanges::default()), HeaderChanges::decode)
}

/// Of an answer, 200 to 599.
pub(super) fn status(code: u32) -> Result<StatusCode, String> {
    let status = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    status.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| format!("status {code} is out of range"))
}
