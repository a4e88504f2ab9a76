//! Mirrors (VirtualService mirrors, HTTPRoute RequestMirror): a copy of a request, whose response nobody gets.
use super::forward::{self, Try};
use super::node::{Downstream, Node};
use super::replay::Replay;
use super::router::Router;
use super::upstream::Choice;
use super::{Body, Request};
use crate::routes::Mirror;
use http::uri::Authority;
use std::rc::Rc;
use tokio::task::spawn_local;

/// A copy's body: there, or as soon as it is.
pub enum Copied {
    Here(Body),
    Coming(Replay),
}

/// Sends a copy to each mirror whose share the request falls into.
pub fn send<N: Node>(
    router: &Rc<Router<N>>,
    downstream: &Rc<Downstream>,
    mirrors: &[Mirror],
    request: &Request,
    body: impl Fn() -> Copied,
) {
    for mirror in mirrors.iter().filter(|mirror| mirror.falls(|limit| router.node.draw(limit))) {
        let copy = Request {
            method: request.method.clone(),
            scheme: request.scheme.clone(),
            authority: shadow(&request.authority),
            path: request.path.clone(),
            version: request.version,
            headers: request.headers.clone(),
            body: Body::Empty,
            upgrade: None,
            interim: None,
        };
        let (router, downstream) = (router.clone(), downstream.clone());
        let (destination, body) = (mirror.destination.clone(), body());
        spawn_local(async move {
            let whole = match body {
                Copied::Here(body) => Some(body),
                Copied::Coming(replay) => replay.whole().await,
            };
            let cluster = router.cluster(&destination, &downstream, copy.authority.host());
            let (Some(cluster), Some(body)) = (cluster, whole) else { return };
            let draw = |limit| router.node.draw(limit);
            let choice = Choice { hash: None, tried: &[], other_priorities: false };
            let (Some(host), Some(_counted)) =
                (cluster.choose(&choice, &draw), cluster.breaker.request(&destination.policy.pool))
            else {
                return;
            };
            let mut copy = copy;
            copy.body = body;
            let one = Try { router: &router, cluster: &cluster, host: &host };
            if let Ok(mut response) = forward::send(&one, &mut copy).await {
                while let Some(Ok(_)) = response.body.frame().await {}
            }
        });
    }
}

/// `reviews:9080` is `reviews-shadow:9080`.
fn shadow(authority: &Authority) -> Authority {
    let (host, port) = authority.as_str().split_at(authority.host().len());
    Authority::try_from(format!("{host}-shadow{port}")).unwrap_or_else(|_| authority.clone())
}
