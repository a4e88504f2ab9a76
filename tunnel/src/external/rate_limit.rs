//! `envoy.service.ratelimit.v3.RateLimitService`: whether there have been too many requests, as counted for many proxies.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;

use super::proto::{self, Code, DescriptorStatus, Header, Number, Quota, RateLimitRequest, RateLimitResponse};
use super::{grpc, Reply};
use crate::http::Request;
use crate::policy::Global;

const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Seconds of each unit, by its number.
const SECONDS: [u64; 7] = [0, 1, 60, 3600, 86400, 30 * 86400, 365 * 86400];

/// What it says.
#[derive(Debug)]
pub struct Answer {
    pub over: bool,
    /// The limit that is nearest to its end.
    pub quota: Option<Nearest>,
    pub request: HeaderMap,
    pub response: HeaderMap,
    pub body: Bytes,
}

/// `requests` within `window`, of which so many are left until `reset` has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest {
    pub requests: u64,
    pub window: Duration,
    pub remaining: u64,
    pub reset: Duration,
}

/// The question about a request that limits of one domain count, each with its descriptor's entries.
pub fn question<'a>(
    authority: Authority,
    domain: &str,
    limits: impl Iterator<Item = (&'a Global, &'a [(String, String)])>,
) -> Request {
    let entry = |(key, value): &(String, String)| proto::Entry { key: key.clone(), value: value.clone() };
    let descriptor = |(limit, entries): (&Global, &[(String, String)])| proto::Descriptor {
        entries: entries.iter().map(entry).collect(),
        limit: limit.requests.map(|(requests_per_unit, unit)| Quota { requests_per_unit, unit: unit as i32 }),
        hits_addend: (limit.hits > 1).then(|| Number { value: limit.hits.into() }),
    };
    let message =
        RateLimitRequest { domain: domain.to_owned(), descriptors: limits.map(descriptor).collect(), hits_addend: 0 };
    grpc::request(authority, METHOD, &message)
}

/// Errors: it gives none.
pub fn answer(reply: &Reply) -> Result<Answer, String> {
    let said: RateLimitResponse = grpc::message(reply)?;
    let over = match said.overall_code() {
        Code::Ok => false,
        Code::OverLimit => true,
        Code::Unknown => return Err("it answers neither OK nor OVER_LIMIT".to_owned()),
    };
    let quotas = said.statuses.iter().filter_map(nearest);
    Ok(Answer {
        over,
        quota: quotas.min_by_key(|quota| quota.remaining),
        request: fields(&said.request_headers_to_add),
        response: fields(&said.response_headers_to_add),
        body: said.raw_body,
    })
}

fn nearest(status: &DescriptorStatus) -> Option<Nearest> {
    let limit = status.current_limit.as_ref()?;
    let reset = status.duration_until_reset.clone().unwrap_or_default();
    Some(Nearest {
        requests: limit.requests_per_unit.into(),
        window: Duration::from_secs(*SECONDS.get(usize::try_from(limit.unit).ok()?)?),
        remaining: status.limit_remaining.into(),
        reset: Duration::new(u64::try_from(reset.seconds).ok()?, u32::try_from(reset.nanos).ok()?),
    })
}

fn fields(sent: &[Header]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for Header { key, value, raw_value } in sent {
        let text = if raw_value.is_empty() { value.as_bytes() } else { raw_value };
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::from_bytes(text)) {
            headers.append(name, value);
        }
    }
    headers
}
