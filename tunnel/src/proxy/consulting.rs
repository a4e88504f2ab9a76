//! What policies do not decide by themselves: external authorizers are asked about a request, and limits count it.
use super::{calls, Proxy};
use crate::base::Identity;
use crate::external::rate_limit::Nearest;
use crate::external::{authorization, http_authorization, rate_limit, Answer};
use crate::http::{Denied, Flags, Request};
use crate::limits::Taken;
use crate::node::Pod;
use crate::policy::{self, Attempt, Authorizer, Global, Guard, Limit, Limited, Token};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::StatusCode;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// Whose requests they are, for a pod of this node.
pub struct Consulting<'a> {
    pub proxy: &'a Rc<Proxy>,
    pub pod: &'a Rc<Pod>,
    pub guard: &'a Guard,
    pub attempt: &'a Attempt,
    pub client: SocketAddr,
    /// The client's address behind trusted proxies.
    pub remote: IpAddr,
}

impl Consulting<'_> {
    /// Has external authorizers judge a request, which they may change; the fields that its answer gets. Before tokens are
    /// looked at, as Istio orders Envoy's filters.
    pub async fn authorize(&self, request: &mut Request) -> Result<HeaderMap, Denied> {
        let mut added = HeaderMap::new();
        let asking = self.guard.asking(self.attempt, seen(request, self.remote, None));
        for (at, policy) in asking.iter().enumerate() {
            let Some(authorizer) = &policy.authorizer else { continue };
            if asking[..at].iter().any(|before| before.authorizer.as_ref() == Some(authorizer)) {
                continue; // it has been asked
            }
            let refused = |status, headers, body, why: String| Denied {
                status,
                body,
                headers,
                flags: Flags::UNAUTHORIZED_EXTERNALLY,
                reason: format!("{}, by provider {}: {why}", policy.name, authorizer.name),
            };
            let answer = self.ask(authorizer, request).await;
            match answer {
                Ok(Answer::Allowed(fields)) => added.extend(fields),
                Ok(Answer::Denied { status, headers, body }) => {
                    self.proxy.thread.telemetry.said(&policy.name, "denied");
                    return Err(refused(status, headers, body, format!("it denies it with {}", status.as_u16())));
                }
                Err(why) => {
                    self.proxy.thread.telemetry.said(&policy.name, "unanswered");
                    if !authorizer.fail_open {
                        let (status, body) = (authorizer.status_on_error, Bytes::new());
                        return Err(refused(status, HeaderMap::new(), body, why));
                    }
                }
            }
        }
        Ok(added)
    }

    async fn ask(&self, authorizer: &Authorizer, request: &mut Request) -> Result<Answer, String> {
        let remote = &authorizer.remote;
        let Some(http) = &authorizer.http else {
            let principal = |identity: Option<&Identity>| identity.map(Identity::to_string).unwrap_or_default();
            let parties = authorization::Parties {
                source: (self.client, principal(self.attempt.peer.as_deref())),
                destination: (self.attempt.destination, principal(Some(&self.pod.identity))),
            };
            let question = authorization::question(calls::authority(remote)?, request, parties);
            let reply = calls::call(self.proxy, self.pod, remote, question).await?;
            return authorization::answer(&reply, request);
        };
        let question = http_authorization::question(http, request)?;
        let reply = calls::call(self.proxy, self.pod, remote, question).await?;
        http_authorization::answer(http, reply, request)
    }

    /// Counts a request that policies allow. `added` gets what its answer tells of the limits.
    pub async fn limit(
        &self,
        request: &mut Request,
        token: Option<&Token>,
        added: &mut HeaderMap,
    ) -> Result<(), Denied> {
        let seen = seen(request, self.remote, token);
        let limiting = self.guard.limiting(self.attempt, seen);
        let now = Instant::now();
        let mut nearest: Option<Nearest> = None;
        let mut elsewhere = vec![];
        for by in &limiting {
            let limit = by.limit();
            match (limit.take(self.attempt, &seen, now), &limit.global) {
                (Some(taken), _) => {
                    nearest = closer(nearest, told(limit, &taken));
                    if taken.lost {
                        self.proxy.thread.telemetry.said(by.policy(), "bucket_lost");
                    }
                    if !taken.allowed {
                        return Err(self.too_many(by, nearest, taken.next, "local_rate_limited".into()));
                    }
                }
                (None, Some(global)) => {
                    elsewhere.push(Elsewhere { by, global, entries: limit.entries(self.attempt, &seen) });
                }
                (None, None) => {}
            }
        }
        while let Some(first) = elsewhere.first() {
            let global = first.global;
            let (asked, others) = elsewhere.into_iter().partition(|one: &Elsewhere<'_>| one.is_asked_with(global));
            elsewhere = others;
            if let Some(answer) = self.ask_limiter(&asked).await? {
                nearest = closer(nearest, answer.quota);
                if answer.over {
                    let wait = answer.quota.map(|quota| quota.reset).unwrap_or_default();
                    return Err(self.too_many(asked[0].by, nearest, wait, answer.body));
                }
                request.headers.extend(answer.request);
                added.extend(answer.response);
            }
        }
        added.extend(nearest.iter().flat_map(fields));
        Ok(())
    }

    /// Asks about all of them at once. None: there is no answer, and that lets the request on.
    async fn ask_limiter(&self, limits: &[Elsewhere<'_>]) -> Result<Option<rate_limit::Answer>, Denied> {
        let Elsewhere { by, global: Global { remote, domain, .. }, .. } = &limits[0];
        let answer = async {
            let asked = limits.iter().map(|one| (one.global, &*one.entries));
            let question = rate_limit::question(calls::authority(remote)?, domain, asked);
            rate_limit::answer(&calls::call(self.proxy, self.pod, remote, question).await?)
        };
        let why = match answer.await {
            Ok(answer) => return Ok(Some(answer)),
            Err(why) => why,
        };
        self.proxy.thread.telemetry.said(by.policy(), "unanswered");
        match limits.iter().find(|one| !one.global.fail_open) {
            None => Ok(None),
            Some(strict) => Err(Denied {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                body: Bytes::new(),
                headers: HeaderMap::new(),
                flags: Flags::RATE_LIMIT_SERVICE_ERROR,
                reason: format!("{}: {why}", strict.by),
            }),
        }
    }

    fn too_many(&self, limited: &Limited, nearest: Option<Nearest>, wait: Duration, body: Bytes) -> Denied {
        self.proxy.thread.telemetry.said(limited.policy(), "rate_limited");
        let mut headers = HeaderMap::new();
        headers.insert(RATE_LIMITED, HeaderValue::from_static("true"));
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds(wait).max(1)));
        headers.extend(nearest.iter().flat_map(fields));
        Denied {
            status: StatusCode::TOO_MANY_REQUESTS,
            body,
            headers,
            flags: Flags::RATE_LIMITED,
            reason: limited.to_string(),
        }
    }
}

/// A limit that a service counts for, with what is told of a request.
struct Elsewhere<'a> {
    by: &'a Limited,
    global: &'a Global,
    entries: Vec<(String, String)>,
}

impl Elsewhere<'_> {
    fn is_asked_with(&self, other: &Global) -> bool {
        self.global.domain == other.domain && self.global.remote == other.remote
    }
}

/// A request as policies look at it.
pub fn seen<'a>(request: &'a Request, remote: IpAddr, token: Option<&'a Token>) -> policy::Request<'a> {
    policy::Request {
        method: request.method.as_str(),
        authority: request.authority.as_str(),
        path: request.path.path(),
        headers: &request.headers,
        remote,
        token,
    }
}

fn told(limit: &Limit, taken: &Taken) -> Option<Nearest> {
    let rate = limit.rate()?;
    let (requests, window) = (rate.times.get(), rate.per);
    Some(Nearest { requests, window, remaining: taken.remaining, reset: taken.full })
}

fn closer(one: Option<Nearest>, other: Option<Nearest>) -> Option<Nearest> {
    one.into_iter().chain(other).min_by_key(|nearest| nearest.remaining)
}

/// Up to the next one.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// As Envoy writes them (draft-polli-ratelimit-headers-03).
fn fields(nearest: &Nearest) -> [(HeaderName, HeaderValue); 3] {
    let limit = format!("{0}, {0};w={1}", nearest.requests, nearest.window.as_secs());
    let limit = HeaderValue::try_from(limit).unwrap_or(HeaderValue::from_static(""));
    [(LIMIT, limit), (REMAINING, nearest.remaining.into()), (RESET, seconds(nearest.reset).into())]
}
