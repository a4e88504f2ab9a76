//! How often requests or connections may come that a rule matches (`istio.security.RateLimit`).

use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

use http::HeaderName;

use super::remote::Remote;
use super::request::Request;
use super::Attempt;
use crate::config::proto::{self, Subject, Unit};
use crate::limits::{Buckets, Open, Permit, Rate, Taken};

/// A limit with its buckets: as long as it stays the same, so do they.
#[derive(Debug)]
pub struct Limit {
    sent: proto::RateLimit,
    by: Box<[Descriptor]>,
    /// None: a service decides, or it is only counted what is open.
    buckets: Option<Buckets>,
    pub global: Option<Global>,
    /// None: it counts requests.
    connections: Option<Open>,
}

/// A service counts, for all who ask it.
#[derive(Debug)]
pub struct Global {
    pub remote: Remote,
    pub domain: Box<str>,
    pub fail_open: bool,
    /// What a request counts as.
    pub hits: u32,
    /// How many within which unit; None: as it is configured.
    pub requests: Option<(u32, Unit)>,
}

/// By what requests are told apart.
#[derive(Debug)]
struct Descriptor {
    of: Of,
    name: Box<str>,
}

#[derive(Debug)]
enum Of {
    Constant(Box<str>),
    Principal,
    Namespace,
    Source,
    Remote,
    Host,
    Method,
    Path,
    Header(HeaderName),
    TokenPrincipal,
    Claim(Box<[String]>),
}

impl PartialEq for Limit {
    fn eq(&self, other: &Limit) -> bool {
        self.sent == other.sent
    }
}

impl Limit {
    pub fn decode(sent: &proto::RateLimit) -> Result<Limit, String> {
        let by = sent.by.iter().map(Descriptor::decode).collect::<Result<Box<_>, _>>()?;
        let unit = Unit::try_from(sent.unit).map_err(|_| format!("unit {} is unknown", sent.unit))?;
        let requests = NonZeroU64::new(sent.requests);
        let global = sent.shared.as_ref().map(|global| Global::decode(global, requests, unit)).transpose()?;
        let concurrent = sent.connections.as_ref().map(|sent| NonZeroU32::new(sent.concurrent));
        if concurrent.is_some() && global.is_some() {
            return Err("nobody else counts connections".to_owned());
        }
        let buckets = match (&global, requests) {
            (Some(_), _) => None,
            (None, None) if concurrent.flatten().is_some() => None,
            (None, None) => return Err("a limit of no requests, and nobody else counts".to_owned()),
            (None, Some(times)) => {
                let per = seconds(unit).ok_or("a limit has no unit")?;
                let burst = NonZeroU64::new(sent.burst).unwrap_or(times);
                let keyed = by.iter().any(|one| !matches!(one.of, Of::Constant(_)));
                Some(Buckets::new(Rate { times, per, burst }, keyed))
            }
        };
        Ok(Limit { sent: sent.clone(), by, buckets, global, connections: concurrent.map(Open::new) })
    }

    /// Whether it counts connections, and not requests.
    pub fn is_of_connections(&self) -> bool {
        self.connections.is_some()
    }

    /// Counts a connection that begins, as one that is open until the result is dropped; None: there are too many. Of a limit
    /// that counts requests, nothing.
    pub fn admit(&self, attempt: &Attempt, now: Instant) -> Option<Permit> {
        let by = self.by.iter().map(|one| one.of.of_connection(attempt).unwrap_or_default());
        let (key, open) = (by.collect::<Vec<_>>(), self.connections.as_ref()?);
        let permit = open.take(&key)?;
        let begun = self.buckets.as_ref().is_none_or(|buckets| buckets.take(&key, now).allowed);
        begun.then_some(permit)
    }

    /// Counts a request; None: a service has to be asked.
    pub fn take(&self, attempt: &Attempt, request: &Request<'_>, now: Instant) -> Option<Taken> {
        Some(self.buckets.as_ref()?.take(&self.key(attempt, request), now))
    }

    /// Each descriptor's name, and what the request has there.
    pub fn entries(&self, attempt: &Attempt, request: &Request<'_>) -> Vec<(String, String)> {
        let names = self.by.iter().map(|one| one.name.to_string());
        names.zip(self.key(attempt, request)).collect()
    }

    /// Of its buckets; None: a service decides.
    pub fn rate(&self) -> Option<&Rate> {
        self.buckets.as_ref().map(Buckets::rate)
    }

    fn key(&self, attempt: &Attempt, request: &Request<'_>) -> Vec<String> {
        self.by.iter().map(|one| one.of.value(attempt, request).unwrap_or_default()).collect()
    }
}

impl Global {
    fn decode(sent: &proto::SharedLimit, requests: Option<NonZeroU64>, unit: Unit) -> Result<Global, String> {
        let most = |_| format!("more than {} requests are more than the protocol can say", u32::MAX);
        let times = requests.map(|times| u32::try_from(times.get()).map_err(most)).transpose()?;
        if sent.domain.is_empty() {
            return Err("a global limit has no domain".to_owned());
        }
        Ok(Global {
            remote: Remote::decode(sent.remote.as_ref())?,
            domain: sent.domain.as_str().into(),
            fail_open: sent.fail_open,
            hits: sent.hits,
            requests: times.map(|times| (times, unit)),
        })
    }
}

impl Descriptor {
    fn decode(sent: &proto::Descriptor) -> Result<Descriptor, String> {
        let subject = Subject::try_from(sent.subject).map_err(|_| format!("subject {} is unknown", sent.subject))?;
        let step = || sent.path.first().ok_or("a descriptor has no name");
        let of = match subject {
            Subject::Constant => Of::Constant(step()?.as_str().into()),
            Subject::SourcePrincipal => Of::Principal,
            Subject::SourceNamespace => Of::Namespace,
            Subject::SourceIp => Of::Source,
            Subject::RemoteIp => Of::Remote,
            Subject::RequestHost => Of::Host,
            Subject::RequestMethod => Of::Method,
            Subject::RequestPath => Of::Path,
            Subject::RequestHeader => {
                Of::Header(HeaderName::try_from(step()?).map_err(|_| format!("{:?} names no header", sent.path[0]))?)
            }
            Subject::TokenPrincipal => Of::TokenPrincipal,
            Subject::TokenClaim => {
                step()?;
                Of::Claim(sent.path.clone().into())
            }
        };
        Ok(Descriptor { of, name: sent.name.as_str().into() })
    }
}

impl Of {
    /// None: the request has none.
    fn value(&self, attempt: &Attempt, request: &Request<'_>) -> Option<String> {
        Some(match self {
            Of::Constant(_) | Of::Principal | Of::Namespace | Of::Source => return self.of_connection(attempt),
            Of::Remote => request.remote.to_string(),
            Of::Host => request.authority.to_ascii_lowercase(),
            Of::Method => request.method.to_owned(),
            Of::Path => request.path.to_owned(),
            Of::Header(name) => {
                let lines = request.headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
                lines.collect::<Vec<_>>().join(",")
            }
            Of::TokenPrincipal => request.token?.principal.as_deref()?.to_owned(),
            Of::Claim(steps) => request.token?.written(steps)?,
        })
    }

    /// As far as it is known of a connection.
    fn of_connection(&self, attempt: &Attempt) -> Option<String> {
        let peer = attempt.peer.as_ref();
        match self {
            Of::Constant(text) => Some(text.to_string()),
            Of::Principal => {
                let peer = peer?;
                Some(format!("{}/ns/{}/sa/{}", peer.trust_domain, peer.namespace, peer.service_account))
            }
            Of::Namespace => Some(peer?.namespace.to_string()),
            Of::Source => Some(attempt.source.to_string()),
            _ => None,
        }
    }
}

fn seconds(unit: Unit) -> Option<Duration> {
    let seconds = match unit {
        Unit::Unspecified => return None,
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 3600,
        Unit::Day => 86400,
    };
    Some(Duration::from_secs(seconds))
}
