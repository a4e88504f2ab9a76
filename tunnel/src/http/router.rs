//! A request's way through this hop: normalised, routed, filtered, forwarded.
use super::answer::{self, Answer};
use super::forward::forward;
use super::node::{Downstream, Flags, Node};
use super::record::Recording;
use super::upstream::Cluster;
use super::{cors, edge, fields, Drain, Request, Response, Settings};
use crate::routes::{Abort, Balancing, Client, Decision, Destination, Fault, Scope};
use http::header::{HeaderValue, LOCATION, ORIGIN};
use http::{Method, StatusCode};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::sleep;

/// What one pod's requests share on one thread.
pub struct Router<N: Node> {
    pub node: N,
    pub settings: Settings,
    clusters: RefCell<Clusters<N::Io>>,
}

/// By the destination's name; behind a `|` the request's host, where that is the server's name, or the address that the client
/// called, where that is the endpoint.
type Clusters<S> = HashMap<Arc<str>, Rc<Cluster<S>>>;

/// Clusters of one router beyond which those of hosts and addresses that nobody uses go.
const NAMED: usize = 64;

/// A client's connection.
pub struct Session {
    pub downstream: Rc<Downstream>,
    /// What held for its last request; it holds on where the port is no longer routed, until the connection has ended.
    scope: RefCell<Arc<Scope>>,
    pub drain: Drain,
}

impl Session {
    pub fn new(downstream: Downstream, scope: Arc<Scope>, drain: Drain) -> Session {
        Session { downstream: Rc::new(downstream), scope: RefCell::new(scope), drain }
    }

    fn scope<N: Node>(&self, node: &N, host: &str) -> Arc<Scope> {
        match node.scope(&self.downstream, host) {
            Some(scope) => *self.scope.borrow_mut() = scope,
            None => self.drain.order(),
        }
        self.scope.borrow().clone()
    }
}

impl<N: Node> Router<N> {
    pub fn new(node: N, settings: Settings) -> Rc<Router<N>> {
        Rc::new(Router { node, settings, clusters: RefCell::default() })
    }

    /// No connection waits for further requests.
    pub fn close(&self) {
        self.clusters.borrow().values().for_each(|cluster| cluster.close());
    }

    /// Answers a request.
    pub async fn handle(self: &Rc<Self>, session: &Session, mut request: Request) -> Response {
        let mut recording = Recording::new(self.clone(), session.downstream.clone(), &mut request);
        let grpc = answer::is_grpc(&request.headers);
        let mut response = match self.answer(session, &mut request, &mut recording, grpc).await {
            Ok(response) => response,
            Err(answer) => {
                recording.record.flags |= answer.flags;
                answer.response(grpc)
            }
        };
        recording.answered(&mut response);
        Response { ticket: Some(Box::new(recording)), ..response }
    }

    async fn answer(
        self: &Rc<Self>,
        session: &Session,
        request: &mut Request,
        recording: &mut Recording<N>,
        grpc: bool,
    ) -> Result<Response, Answer> {
        let draw = |limit| self.node.draw(limit);
        let downstream = &session.downstream;
        let client = downstream.source.ip();
        let remote = downstream.edge.as_ref().map_or(client, |edge| edge::arrive(request, edge, client));
        fields::arrive(request, draw);
        recording.record.observed = self.node.observe(request);
        if request.method != Method::CONNECT {
            let bad = Answer::new(StatusCode::BAD_REQUEST, "", Flags::default());
            request.path = self.settings.normalization.of(&request.path).ok_or(bad)?;
        }
        recording.record.path = request.path.clone();
        let scope = session.scope(&self.node, request.authority.host());
        match self.node.admit(downstream, remote, &scope, request).await {
            Ok(added) => {
                let routed = self.route(downstream, &scope, request, recording, grpc).await;
                let mut response = routed.unwrap_or_else(|answer| {
                    recording.record.flags |= answer.flags;
                    answer.response(grpc)
                });
                response.headers.extend(added);
                Ok(response)
            }
            Err(denied) => {
                recording.record.flags |= denied.flags;
                recording.record.reason.clone_from(&denied.reason);
                Ok(answer::denied(denied, grpc))
            }
        }
    }

    /// A request that may go on.
    async fn route(
        self: &Rc<Self>,
        downstream: &Rc<Downstream>,
        scope: &Scope,
        request: &mut Request,
        recording: &mut Recording<N>,
        grpc: bool,
    ) -> Result<Response, Answer> {
        let draw = |limit| self.node.draw(limit);
        let client = Client { namespace: &downstream.pod.namespace, labels: &downstream.pod.labels };
        let decision = scope.decide(&client, &fields::view(request, &request.headers, downstream.port), draw);
        let Some(matched) = decision.matched().cloned() else {
            // For gRPC that is UNIMPLEMENTED.
            return Err(Answer::new(StatusCode::NOT_FOUND, "", Flags::NO_ROUTE));
        };
        recording.record.route = matched.route().clone();

        let origin = request.headers.get(ORIGIN).cloned();
        // As Istio orders Envoy's filters.
        if let Some(fault) = &matched.rule.fault {
            if let Some(response) = self.fault(fault, recording, grpc).await {
                return Ok(changed(response, &decision, request, downstream));
            }
        }
        if let Some(response) = matched.rule.cors.as_ref().and_then(|cors| cors::preflight(cors, request)) {
            return Ok(response);
        }
        let mut response = match self.act(&decision, downstream, request, recording).await {
            Ok(response) => response,
            Err(answer) => {
                recording.record.flags |= answer.flags;
                changed(answer.response(grpc), &decision, request, downstream)
            }
        };
        if let Some(cors) = &matched.rule.cors {
            cors::expose(cors, origin.as_ref(), &mut response.headers);
        }
        Ok(response)
    }

    async fn act(
        self: &Rc<Self>,
        decision: &Decision,
        downstream: &Rc<Downstream>,
        request: &mut Request,
        recording: &mut Recording<N>,
    ) -> Result<Response, Answer> {
        let response = match decision {
            Decision::Forward(forwarded) => return forward(self, downstream, request, forwarded, recording).await,
            Decision::Redirect { status, location, .. } => {
                let malformed = |_| Answer::new(StatusCode::BAD_REQUEST, "", Flags::default());
                let mut response = Response::new(*status, "");
                response.headers.insert(LOCATION, HeaderValue::try_from(location).map_err(malformed)?);
                response
            }
            Decision::Respond { status, body, .. } => answer::text(*status, body.clone()),
            Decision::NotFound | Decision::Unimplemented => unreachable!("a rule has matched"),
        };
        Ok(changed(response, decision, request, downstream))
    }

    /// An abort's answer; a delay has passed by then.
    async fn fault(&self, fault: &Fault, recording: &mut Recording<N>, grpc: bool) -> Option<Response> {
        if let Some(delay) = fault.delay(|limit| self.node.draw(limit)) {
            recording.record.flags |= Flags::DELAY_INJECTED;
            sleep(delay).await;
        }
        let abort = fault.abort(|limit| self.node.draw(limit))?;
        recording.record.flags |= Flags::FAULT_INJECTED;
        Some(match abort {
            Abort::Http(status) => Answer::new(status, "fault filter abort", Flags::default()).response(grpc),
            Abort::Grpc(status) if grpc => answer::grpc_response(status, b"fault filter abort"),
            Abort::Grpc(_) => Answer::new(StatusCode::OK, "fault filter abort", Flags::default()).response(grpc),
        })
    }

    /// The destination as it is now, for requests to a host; None: there is no such service.
    pub fn cluster(
        &self,
        destination: &Arc<Destination>,
        downstream: &Downstream,
        host: &str,
    ) -> Option<Rc<Cluster<N::Io>>> {
        let policy = &destination.policy;
        let by_host =
            policy.balancing == Balancing::DynamicDns || policy.originate().is_some_and(|tls| tls.sni.is_empty());
        let host = if by_host { host } else { "" };
        let name = match policy.balancing {
            Balancing::Passthrough => format!("{}|{host}|{}", destination.name, downstream.original).into(),
            _ if by_host => format!("{}|{host}", destination.name).into(),
            _ => destination.name.clone(),
        };
        let known = self.clusters.borrow().get(&name).cloned();
        let cluster = known.unwrap_or_else(|| {
            let cluster = Cluster::new(destination.clone(), host);
            let mut clusters = self.clusters.borrow_mut();
            if name.contains('|') && clusters.len() >= NAMED {
                clusters.retain(|name, cluster| !name.contains('|') || Rc::strong_count(cluster) > 1);
            }
            clusters.insert(name.clone(), cluster.clone());
            cluster
        });
        let there = cluster.refresh(&self.node, destination, downstream);
        if !there {
            self.clusters.borrow_mut().remove(&name);
        }
        there.then_some(cluster)
    }
}

/// An answer of our own as its rule wants it.
fn changed(mut response: Response, decision: &Decision, request: &Request, downstream: &Downstream) -> Response {
    let Some(matched) = decision.matched() else { return response };
    let (rule, target) = match decision {
        Decision::Forward(forwarded) => (None, &*forwarded.weighted().response),
        _ => (Some(&matched.rule.response), &[][..]),
    };
    let changes = rule.into_iter().chain(target.iter().map(|changes| &**changes));
    fields::change_response(&mut response, changes, request, downstream, matched.route(), None);
    response
}
