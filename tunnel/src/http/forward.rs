//! Sending a request to a host of its destination: several times, if one fails and nothing speaks against it.
use super::answer::{self, Answer, Failure};
use super::deadline::{self, Deadline};
use super::fields;
use super::h1::ClientError;
use super::h2::SendError;
use super::hashing;
use super::mirror::{self, Copied};
use super::node::{Downstream, Flags, Node};
use super::record::Recording;
use super::replay::Replay;
use super::retry::{self, Tried};
use super::router::Router;
use super::upstream::{Active, Choice, Cluster, Host, Outcome, PoolError};
use super::{Body, Request, Response};
use crate::routes::{Balancing, Forwarded, Retry, Target, UpstreamProtocol};
use http::uri::{Authority, PathAndQuery};
use http::{StatusCode, Version};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{sleep, timeout, Instant};

/// One try's place.
pub struct Try<'a, N: Node> {
    pub router: &'a Rc<Router<N>>,
    pub cluster: &'a Rc<Cluster<N::Io>>,
    pub host: &'a Rc<Host<N::Io>>,
}

/// A body for each try.
enum Bodies {
    /// Bytes that are here.
    Here(Body),
    Kept(Replay),
    /// It can be sent once.
    Once(Option<Body>),
}

impl Bodies {
    fn new(body: Body, again: bool, most: usize) -> Bodies {
        match body.is_here() {
            true => Bodies::Here(body),
            false if again => Bodies::Kept(Replay::new(body, most)),
            false => Bodies::Once(Some(body)),
        }
    }

    fn next(&mut self) -> Body {
        match self {
            Bodies::Here(body) => body.again().unwrap_or_default(),
            Bodies::Kept(replay) => replay.body(),
            Bodies::Once(body) => body.take().unwrap_or_default(),
        }
    }

    fn has_another(&self) -> bool {
        match self {
            Bodies::Here(_) => true,
            Bodies::Kept(replay) => replay.can_begin_again(),
            Bodies::Once(body) => body.is_some(),
        }
    }

    fn copy(&self) -> Copied {
        match self {
            Bodies::Here(body) => Copied::Here(body.again().unwrap_or_default()),
            Bodies::Kept(replay) => Copied::Coming(replay.clone()),
            Bodies::Once(_) => Copied::Here(Body::Empty),
        }
    }
}

/// A request that goes to a destination.
pub async fn forward<N: Node>(
    router: &Rc<Router<N>>,
    downstream: &Rc<Downstream>,
    request: &mut Request,
    forwarded: &Forwarded,
    recording: &mut Recording<N>,
) -> Result<Response, Answer> {
    let weighted = forwarded.weighted();
    let destination = match &weighted.target {
        Target::Destination(destination) => destination,
        Target::Unroutable(no) => {
            let flags = Flags::named(&no.flag).unwrap_or(Flags::NO_CLUSTER);
            return Err(Answer::new(no.status, "", flags));
        }
    };
    recording.record.destination = Some(destination.clone());
    let unknown = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "", Flags::NO_CLUSTER);
    prepare(request, forwarded, downstream)?;
    let host = request.authority.host();
    if destination.policy.balancing == Balancing::DynamicDns {
        Box::pin(router.node.resolve(destination, host)).await;
    }
    let cluster = router.cluster(destination, downstream, host).ok_or(unknown)?;
    let counted = cluster.breaker.request(&destination.policy.pool).ok_or(Answer::from(&Failure::Overflow))?;
    recording.counted = Some(counted);
    let key = hashing::key(&destination.policy.balancing, request, downstream, &|limit| router.node.draw(limit));

    let rule = &forwarded.matched.rule;
    let retry = forwarded.forward.retry.as_ref().filter(|retry| retry.attempts > 0 && !request.wants_tunnel());
    let mut body = std::mem::take(&mut request.body);
    let timeout = forwarded.forward.timeout.map(|timeout| asked(request).map_or(timeout, |asked| asked.min(timeout)));
    let deadline = timeout.map(|timeout| Rc::new(Deadline::new(timeout, &mut body)));
    recording.deadline = deadline.clone();
    let bodies = Bodies::new(body, retry.is_some() || !rule.mirrors.is_empty(), router.settings.replay);
    mirror::send(router, downstream, &rule.mirrors, request, || bodies.copy());
    let began = Instant::now();
    let mut tries = Tries { router, cluster: &cluster, retry, timeout, began, bodies, hash: key.hash, recording };
    let tried = {
        let mut all = pin!(tries.all(request));
        match &deadline {
            None => all.await,
            Some(deadline) => tokio::select! {
                tried = &mut all => tried,
                () = deadline.passed() => Err(Failure::Timeout),
            },
        }
    };
    let mut response = tried.map_err(|failure| Answer::from(&failure))?;
    if let Some(deadline) = &deadline {
        deadline.limit(&mut response.body);
    }
    key.remember(&mut response);
    let changes = weighted.response.iter().map(|changes| &**changes);
    let endpoint = recording.record.endpoint.clone();
    let route = forwarded.matched.route();
    fields::change_response(&mut response, changes, request, downstream, route, endpoint.as_deref());
    Ok(response)
}

/// The time that the client itself gives it.
fn asked(request: &Request) -> Option<Duration> {
    let given = request.headers.get("grpc-timeout").filter(|_| answer::is_grpc(&request.headers))?;
    deadline::of_grpc(given.to_str().ok()?)
}

/// Path, authority and fields as the route wants them.
fn prepare(request: &mut Request, forwarded: &Forwarded, downstream: &Downstream) -> Result<(), Answer> {
    let weighted = forwarded.weighted();
    let malformed = |_| Answer::new(StatusCode::BAD_REQUEST, "", Flags::default());
    let changes = weighted.request.iter().map(|changes| &**changes);
    fields::change_request(request, changes, downstream, forwarded.matched.route());
    if let Some(path) = &forwarded.path {
        fields::keep_original_path(request);
        let query = request.path.query().map(|query| format!("?{query}")).unwrap_or_default();
        request.path = PathAndQuery::try_from(format!("{path}{query}")).map_err(malformed)?;
    }
    if let Some(authority) = &weighted.authority {
        fields::keep_original_host(request);
        request.authority = Authority::try_from(&**authority).map_err(malformed)?;
    }
    Ok(())
}

/// All tries of a request.
struct Tries<'a, N: Node> {
    router: &'a Rc<Router<N>>,
    cluster: &'a Rc<Cluster<N::Io>>,
    retry: Option<&'a Retry>,
    timeout: Option<Duration>,
    began: Instant,
    bodies: Bodies,
    hash: Option<u64>,
    recording: &'a mut Recording<N>,
}

impl<N: Node> Tries<'_, N> {
    /// The response of the last one.
    async fn all(&mut self, request: &mut Request) -> Result<Response, Failure> {
        let mut tried: Vec<Rc<Host<N::Io>>> = Vec::new();
        let draw = |limit| self.router.node.draw(limit);
        let mut _retrying = None;
        loop {
            let avoid = self.retry.is_some_and(|retry| retry.avoid_previous_hosts);
            let others = self.retry.is_some_and(|retry| retry.other_priorities && tried.len() >= 2);
            let choice = Choice { hash: self.hash, tried: if avoid { &tried } else { &[] }, other_priorities: others };
            let host = self.cluster.choose(&choice, &draw).ok_or(Failure::NoHealthyHost)?;
            tried.push(host.clone());
            let result = self.one(&host, request, tried.len() as u32).await;
            let Some(retry) = self.retry else { return result };
            let ended = match &result {
                Ok(response) => Tried::Response(response),
                Err(failure) => Tried::Failure(failure),
            };
            if !retry::wants_another(retry, &ended) {
                return result;
            }
            if tried.len() as u32 > retry.attempts {
                self.recording.record.flags |= Flags::RETRY_LIMIT;
                return result;
            }
            // Not beyond the limit, and not with a body of which a part is gone.
            let policy = &self.cluster.destination().policy;
            _retrying = self.cluster.breaker.retry(&policy.pool, policy.retry_budget.as_ref());
            if _retrying.is_none() || !self.bodies.has_another() {
                return result;
            }
            drop(result);
            sleep(retry::back_off(retry, tried.len() as u32, draw)).await;
        }
    }

    /// Of the next try.
    fn time_left(&self) -> Option<Duration> {
        let whole = self.timeout.map(|timeout| timeout.saturating_sub(self.began.elapsed()));
        let single = self.retry.and_then(|retry| retry.per_try_timeout);
        whole.into_iter().chain(single).min()
    }

    async fn one(&mut self, host: &Rc<Host<N::Io>>, request: &mut Request, number: u32) -> Result<Response, Failure> {
        let active = Active::new(host);
        let record = &mut self.recording.record;
        record.attempts = number;
        record.endpoint = Some(host.endpoint.id.clone());
        fields::attempt(&mut request.headers, number, self.time_left());
        request.body = self.bodies.next();
        let began = Instant::now();
        let one = Try { router: self.router, cluster: self.cluster, host };
        let sending = pin!(send_surely(&one, request, &mut self.bodies, self.retry.is_some()));
        let result = match self.retry.and_then(|retry| retry.per_try_timeout) {
            Some(limit) => timeout(limit, sending).await.unwrap_or(Err(Failure::Timeout)),
            None => sending.await,
        };
        self.recording.tried(host.endpoint.address, began.elapsed(), &result);
        match &result {
            Ok(response) => self.cluster.note(host, Outcome::Status(response.status)),
            Err(Failure::Body(_) | Failure::Overflow) => {}
            Err(Failure::Connect(error)) => {
                self.recording.record.failure = error.reason();
                self.cluster.note(host, Outcome::LocalOrigin);
            }
            Err(_) => self.cluster.note(host, Outcome::LocalOrigin),
        }
        let mut response = result?;
        let took = began.elapsed();
        self.recording.record.upstream = Some(took);
        fields::service_time(&mut response, took);
        self.recording.active = Some(active);
        Ok(response)
    }
}

/// A kept-alive connection may have been closed by the server just when the request went out. Where sending it twice cannot
/// matter, and its route does not forbid retries, it goes to the same host again, over the next connection.
async fn send_surely<N: Node>(
    one: &Try<'_, N>,
    request: &mut Request,
    bodies: &mut Bodies,
    retries: bool,
) -> Result<Response, Failure> {
    loop {
        let waited = retries && one.host.pool.has_idle();
        let result = send(one, request).await;
        let stale = waited && matches!(result, Err(Failure::Closed));
        if !stale || !retry::is_idempotent(&request.method) || !bodies.has_another() {
            return result;
        }
        request.body = bodies.next();
    }
}

/// Once.
pub async fn send<N: Node>(one: &Try<'_, N>, request: &mut Request) -> Result<Response, Failure> {
    if one.speaks_http2(request) {
        return send_shared(one, request).await;
    }
    let lease = one.cluster.lease(&one.router.node, one.host).await?;
    let (cluster, host, counted) = (one.cluster.clone(), one.host.clone(), lease.counted);
    let release = move |upstream| cluster.release(&host, upstream, counted);
    let sent = lease.upstream.send(request, one.router.settings.limits, release).await;
    sent.map_err(|error| match error {
        ClientError::Closed => Failure::Closed,
        ClientError::Malformed(_) => Failure::Protocol,
        ClientError::Body(error) => Failure::Body(error),
    })
}

/// Over a connection of HTTP/2; over another where the server just then takes no more.
async fn send_shared<N: Node>(one: &Try<'_, N>, request: &mut Request) -> Result<Response, Failure> {
    for _ in 0..3 {
        let upstream = one.cluster.share(&one.router.node, one.host, one.router.settings.limits).await?;
        return match upstream.send(request).await {
            Ok(response) => Ok(response),
            Err(SendError::Unsent) => continue,
            Err(SendError::Closed) => Err(Failure::Closed),
            Err(SendError::Reset { refused }) => Err(Failure::Reset { refused }),
            Err(SendError::Malformed) => Err(Failure::Protocol),
            Err(SendError::Body(error)) => Err(Failure::Body(error)),
        };
    }
    Err(Failure::Closed)
}

impl<N: Node> Try<'_, N> {
    /// A switch that a client of HTTP/1.1 asks for is HTTP/1.1's.
    fn speaks_http2(&self, request: &Request) -> bool {
        let client = request.version == Version::HTTP_2;
        let chosen = match self.cluster.destination().policy.pool.upstream_protocol {
            UpstreamProtocol::ByPort => self.cluster.http2.get(),
            UpstreamProtocol::AsClient => client,
            UpstreamProtocol::UpgradeToHttp2 => true,
        };
        chosen && (client || request.upgrade.is_none())
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Overflow => Failure::Overflow,
            PoolError::Connect(error) => Failure::Connect(error),
        }
    }
}
