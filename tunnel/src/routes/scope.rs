//! Rules and destinations of one port, for some clients or all.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::connection::{Connection, ConnectionRule};
use super::decision::{Decision, Forwarded, Matched};
use super::destination::{Balancing, Destination, Tls};
use super::index::{Index, Place};
use super::labels::Labels;
use super::matching::{Client, Request};
use super::proto::{self, Unmatched};
use super::rule::{Action, HttpRule};
use super::split::{Share, Target};
use super::within::{each, Within};

/// Calls of ours that are open at once, of one pod by one thread.
const MOST_CALLS: u32 = 1024;

#[derive(Debug)]
pub struct Scope {
    /// Any of them; none: all.
    pub namespaces: Box<[Box<str>]>,
    pub labels: Labels,
    /// In the order of evaluation.
    pub http: Box<[Arc<HttpRule>]>,
    index: Index,
    /// Those of `tls`, then those of `tcp`.
    pub connections: Box<[ConnectionRule]>,
    pub unmatched: Unmatched,
    pub destinations: Box<[Arc<Destination>]>,
    /// Of a gateway: those that hold for what comes here beside those of its pod, by `namespace/name`, in order.
    pub policies: Arc<[Arc<str>]>,
}

impl Scope {
    pub fn decode(sent: &proto::Scope) -> Result<Scope, String> {
        let destinations: Box<[_]> =
            each("destinations", &sent.destinations, |one| Destination::decode(one).map(Arc::new))?;
        let rule = |rule: &proto::HttpRule| {
            let named = [&*rule.origin, &rule.name].join(" ");
            HttpRule::decode(rule, &destinations).within(named.trim()).map(Arc::new)
        };
        let http: Box<[_]> = each("http", &sent.http, rule)?;
        let mut connections: Vec<_> = each("tls", &sent.tls, |rule| ConnectionRule::tls(rule, &destinations))?;
        connections.extend(each::<_, _, Vec<_>>("tcp", &sent.tcp, |rule| ConnectionRule::tcp(rule, &destinations))?);
        Ok(Scope {
            namespaces: sent.namespaces.iter().map(|namespace| namespace.as_str().into()).collect(),
            labels: Labels::from(&sent.labels),
            index: Index::new(&http)?,
            http,
            connections: connections.into(),
            unmatched: Unmatched::try_from(sent.unmatched)
                .map_err(|_| format!("unmatched {} is unknown", sent.unmatched))?,
            destinations,
            policies: sent
                .policies
                .iter()
                .map(|name| name.as_str().into())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        })
    }

    /// Of all clients: every request goes to the one destination, in the version of HTTP in which it has come.
    pub fn forwarding(namespace: &str, hostname: &str, port: u16) -> Scope {
        let upstream_protocol = proto::UpstreamProtocol::AsClient as i32;
        let pool = proto::ConnectionPool { upstream_protocol, ..Default::default() };
        let policy = proto::Policy { connection_pool: Some(pool), ..Default::default() };
        Scope::to(proto::Destination {
            namespace: namespace.into(),
            hostname: hostname.into(),
            port: port.into(),
            policy: Some(policy),
            ..Default::default()
        })
    }

    /// Of all clients; every request goes to one service's port, for which nothing else is said: its name is its own. `http2`:
    /// whatever its port says.
    pub fn calling(namespace: &str, hostname: &str, port: u16, http2: bool) -> Scope {
        let protocol = if http2 { proto::UpstreamProtocol::UpgradeToHttp2 } else { proto::UpstreamProtocol::ByPort };
        let pool = proto::ConnectionPool {
            upstream_protocol: protocol as i32,
            http2_max_requests: MOST_CALLS,
            ..Default::default()
        };
        Scope::to(proto::Destination {
            namespace: namespace.into(),
            hostname: hostname.into(),
            port: port.into(),
            subset: if http2 { "called by gRPC" } else { "called" }.into(),
            policy: Some(proto::Policy { connection_pool: Some(pool), ..Default::default() }),
            ..Default::default()
        })
    }

    fn to(destination: proto::Destination) -> Scope {
        let share = proto::Weighted { to: Some(proto::Target::Destination(0)), ..Default::default() };
        let action = Some(proto::Action::Forward(proto::Forward { destinations: vec![share], ..Default::default() }));
        let http = vec![proto::HttpRule { action, ..Default::default() }];
        let scope = Scope::decode(&proto::Scope { http, destinations: vec![destination], ..Default::default() });
        scope.unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// Of all clients; no rule of it leads anywhere.
    pub fn refused(reason: &str) -> Scope {
        let unroutable = proto::Unroutable { status: 503, flag: "NC".into(), reason: reason.into() };
        let share = proto::Weighted { to: Some(proto::Target::Unroutable(unroutable)), ..Default::default() };
        let forward = proto::Forward { destinations: vec![share.clone()], ..Default::default() };
        let action = Some(proto::Action::Forward(forward));
        let http = proto::HttpRule { name: "refused".into(), action, ..Default::default() };
        let tcp = proto::TcpRule { name: "refused".into(), destinations: vec![share], ..Default::default() };
        let scope = Scope::decode(&proto::Scope { http: vec![http], tcp: vec![tcp], ..Default::default() });
        scope.unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// Of all clients; each request gets this status and nothing else.
    pub fn answering(status: u32) -> Scope {
        let action = Some(proto::Action::Respond(proto::DirectResponse { status, body: vec![] }));
        let http = proto::HttpRule { action, ..Default::default() };
        let scope = Scope::decode(&proto::Scope { http: vec![http], ..Default::default() });
        scope.unwrap_or_else(|error| unreachable!("{error}"))
    }

    pub fn is_for_all(&self) -> bool {
        self.namespaces.is_empty() && self.labels.is_empty()
    }

    pub fn fits(&self, client: &Client<'_>) -> bool {
        let named =
            self.namespaces.is_empty() || self.namespaces.iter().any(|namespace| **namespace == *client.namespace);
        named && self.labels.fit(client.labels)
    }

    /// The first match that holds: the place of its rule, and its own in there.
    pub fn find(&self, client: &Client<'_>, request: &Request<'_>) -> Option<Place> {
        self.index.find(&self.http, client, request)
    }

    /// What happens to a request. `draw` gives a number below its argument, by chance.
    pub fn decide(&self, client: &Client<'_>, request: &Request<'_>, draw: impl FnOnce(u64) -> u64) -> Decision {
        match self.find(client, request) {
            Some((rule, place)) => decide(Matched { rule: self.http[rule].clone(), place }, request, draw),
            None if self.unmatched == Unmatched::Unimplemented => Decision::Unimplemented,
            None => Decision::NotFound,
        }
    }

    /// Where a connection goes; None: no rule matches, it is closed.
    pub fn connect(
        &self,
        client: &Client<'_>,
        connection: &Connection<'_>,
        draw: impl FnOnce(u64) -> u64,
    ) -> Option<(&ConnectionRule, &Target)> {
        let rule = self.connections.iter().find(|rule| rule.holds(client, connection))?;
        Some((rule, rule.split.get(rule.split.choose(draw))))
    }

    /// How TLS is asked for, where that is all that is said of connections to a service's port: any endpoint will do.
    pub fn only_tls(&self, service: &str, port: u16) -> Option<&Tls> {
        let [rule] = &*self.connections else { return None };
        let [Share { what: Target::Destination(to), .. }] = rule.split.shares() else { return None };
        let is_itself = *to.service == *service && to.port == port && to.subset.is_empty();
        let policy = &to.policy;
        let is_plain =
            policy.balancing == Balancing::default() && policy.locality.is_none() && !policy.governs_connections();
        policy.tls.as_ref().filter(|_| rule.matches.is_empty() && !rule.tls && is_itself && is_plain)
    }

    /// Whether the SNI must be known before a connection's target is.
    pub fn needs_sni(&self) -> bool {
        let by_name = |one: &Arc<Destination>| one.policy.balancing == Balancing::DynamicDns;
        self.connections.iter().any(|rule| rule.tls) || self.destinations.iter().any(by_name)
    }

    /// What DNS is to be asked before the target of a connection to a server is known; None: nothing.
    pub fn name_of(&self, sni: &str) -> Option<String> {
        self.destinations.iter().find_map(|one| one.name_of(sni))
    }
}

fn decide(matched: Matched, request: &Request<'_>, draw: impl FnOnce(u64) -> u64) -> Decision {
    match &matched.rule.action {
        Action::Forward(forward) => Decision::Forward(Forwarded {
            path: forward.path.as_ref().map(|rewrite| rewrite.apply(matched.one(), request.path)),
            chosen: forward.split.choose(draw),
            forward: forward.clone(),
            matched,
        }),
        Action::Redirect { to, status } => {
            Decision::Redirect { location: to.location(matched.one(), request), status: *status, matched }
        }
        Action::Respond { status, body } => Decision::Respond { status: *status, body: body.clone(), matched },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_here_is_valid() {
        assert_eq!(Scope::forwarding("a", "b", 80).destinations.len(), 1);
        assert_eq!(Scope::calling("a", "b.c", 1, true).destinations.len(), 1);
        assert!(Scope::refused("x").destinations.is_empty());
    }
}
