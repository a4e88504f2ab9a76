//! Routes in force as JSON, for people.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Map, Value};

use super::connection::ConnectionRule;
use super::rule::{Abort, Action, Fault, Forward, HttpRule, Mirror, Retry};
use super::split::{Share, Split, Target};
use super::{
    Balancing, Destination, HashKey, Listener, Listeners, PortRoutes, Scope, Scopes, Server, ServerKind, ServiceRoutes,
    Tls, MILLION,
};

impl ServiceRoutes {
    /// `service`, and its `ports`.
    pub fn json(&self) -> Value {
        let others = self.others.iter();
        json!({
            "service": &*self.service,
            "ports": self.ports.iter().chain(others).map(|port| port.json()).collect::<Vec<_>>(),
        })
    }
}

impl PortRoutes {
    /// Port 0: all that are not named. The `host` of a scope is empty for all of which nothing else is said.
    fn json(&self) -> Value {
        let mut all = self.hosts.all();
        all.push((String::new(), &self.scopes));
        let of_host = |(host, scopes): (String, &Scopes)| {
            scopes.iter().map(|scope| with(scope.json(), "host", &*host)).collect::<Vec<_>>()
        };
        json!({
            "port": self.port,
            "protocol": constant(self.protocol),
            "scopes": all.into_iter().flat_map(of_host).collect::<Vec<_>>(),
        })
    }
}

impl Listeners {
    /// `pod`, its `listeners`, and `conflicts`: what is not served because others have its place.
    pub fn json(&self) -> Value {
        json!({
            "pod": &*self.name,
            "listeners": self.all.iter().map(|listener| listener.json()).collect::<Vec<_>>(),
            "conflicts": self.conflicts,
        })
    }
}

impl Listener {
    /// `bind` is the pod's own port. A server's `sni_hosts` are none in plain text.
    fn json(&self) -> Value {
        let mut servers: Vec<(Arc<Server>, Vec<String>)> = vec![];
        for (host, server) in self.servers.all() {
            match servers.iter_mut().find(|(known, _)| Arc::ptr_eq(known, server)) {
                Some((_, hosts)) => hosts.push(host),
                None => servers.push((server.clone(), vec![host])),
            }
        }
        json!({
            "port": self.port,
            "bind": self.bind,
            "proxy_protocol": self.proxy_protocol,
            "servers": servers.iter().map(|(server, hosts)| server.json(hosts)).collect::<Vec<_>>(),
        })
    }
}

impl Server {
    fn json(&self, sni_hosts: &[String]) -> Value {
        let (protocol, scopes) = match &self.kind {
            ServerKind::Http(hosts) => ("HTTP", hosts.all()),
            ServerKind::Connections(scope) => ("TCP", vec![(String::new(), scope)]),
        };
        json!({
            "name": &*self.name,
            "protocol": protocol,
            "tls": if self.tls.is_some() { "terminated" } else if self.needs_sni() { "passed through" } else { "" },
            "sni_hosts": if self.needs_sni() { sni_hosts } else { &[] },
            "scopes": scopes.into_iter().map(|(host, scope)| with(scope.json(), "host", host)).collect::<Vec<_>>(),
        })
    }
}

impl Scope {
    fn json(&self) -> Value {
        json!({
            "clients": self.clients(),
            "http": self.http.iter().map(|rule| rule.json()).collect::<Vec<_>>(),
            "connections": self.connections.iter().map(ConnectionRule::json).collect::<Vec<_>>(),
            "unmatched": constant(self.unmatched),
            "destinations": self.destinations.iter().map(|destination| destination.json()).collect::<Vec<_>>(),
        })
    }

    /// Whom it is for: `namespaces` and `labels`, empty for all.
    pub fn clients(&self) -> Value {
        json!({ "namespaces": &self.namespaces, "labels": self.labels.iter().collect::<std::collections::BTreeMap<_, _>>() })
    }
}

impl HttpRule {
    /// What it is called, when it matches and what it does. Times in milliseconds.
    pub fn json(&self) -> Value {
        json!({
            "name": &*self.name,
            "origin": &*self.origin,
            "matches": self.matches.iter().map(|one| words(&one.conditions)).collect::<Vec<_>>(),
            "action": self.action.json(),
            "fault": self.fault.as_ref().map(Fault::json),
            "cors": self.cors.is_some(),
            "mirrors": self.mirrors.iter().map(Mirror::json).collect::<Vec<_>>(),
        })
    }
}

impl Action {
    pub fn json(&self) -> Value {
        match self {
            Action::Forward(forward) => forward.json(),
            Action::Redirect { status, .. } => json!({ "kind": "redirect", "status": status.as_u16() }),
            Action::Respond { status, body } => {
                json!({ "kind": "respond", "status": status.as_u16(), "body_bytes": body.len() })
            }
        }
    }
}

impl Forward {
    fn json(&self) -> Value {
        json!({
            "kind": "forward",
            "destinations": shares(&self.split, |weighted| &weighted.target),
            "rewrites_path": self.path.is_some(),
            "timeout_ms": self.timeout.map(milliseconds),
            "retry": self.retry.as_ref().map(Retry::json),
        })
    }
}

impl Retry {
    fn json(&self) -> Value {
        json!({
            "attempts": self.attempts,
            "per_try_timeout_ms": self.per_try_timeout.map(milliseconds),
            "conditions": self.conditions.iter().map(constant).collect::<Vec<_>>(),
            "statuses": self.statuses.iter().map(|status| status.as_u16()).collect::<Vec<_>>(),
        })
    }
}

impl Fault {
    fn json(&self) -> Value {
        let abort = self.abort.map(|abort| match abort {
            Abort::Http(status) => json!({ "status": status.as_u16() }),
            Abort::Grpc(code) => json!({ "grpc_status": code }),
        });
        json!({
            "delay_ms": milliseconds(self.delay),
            "delay_percent": percent(self.delay_parts.into()),
            "abort": abort,
            "abort_percent": percent(self.abort_parts.into()),
        })
    }
}

impl Mirror {
    fn json(&self) -> Value {
        with(self.destination.brief(), "percent", percent(self.parts.into()))
    }
}

impl ConnectionRule {
    pub fn json(&self) -> Value {
        json!({
            "name": &*self.name,
            "origin": &*self.origin,
            "matches": self.matches.iter().map(|one| words(&one.conditions)).collect::<Vec<_>>(),
            "action": { "kind": "forward", "destinations": shares(&self.split, |target| target) },
        })
    }
}

impl Destination {
    /// Enough to tell it from others.
    pub fn brief(&self) -> Value {
        json!({ "service": &*self.service, "port": self.port, "subset": &*self.subset })
    }

    /// With its policy, and the object that it comes from.
    pub fn json(&self) -> Value {
        let policy = json!({
            "labels": self.labels.iter().collect::<std::collections::BTreeMap<_, _>>(),
            "origin": &*self.origin,
            "balancing": self.policy.balancing.name(),
            "ejects": self.policy.outliers.is_some(),
            "tls": self.policy.tls.as_ref().map(Tls::name),
            "sni": self.policy.originate().map(|tls| &*tls.sni),
            "credential": self.policy.originate().and_then(|tls| tls.credential("<client's namespace>")),
            "verifies": self.policy.originate().map(|tls| !tls.insecure_skip_verify),
            "proxy_protocol": self.policy.proxy_protocol.map(|version| format!("{version:?}")),
            "tunnel": self.policy.tunnel.as_ref().map(|tunnel| format!("{} {}:{}", tunnel.method, tunnel.host, tunnel.port)),
        });
        let Value::Object(policy) = policy else { return self.brief() };
        policy.into_iter().fold(self.brief(), |told, (name, value)| with(told, &name, value))
    }
}

impl Balancing {
    fn name(&self) -> String {
        match self {
            Balancing::LeastRequest => "LEAST_REQUEST".to_owned(),
            Balancing::RoundRobin => "ROUND_ROBIN".to_owned(),
            Balancing::Random => "RANDOM".to_owned(),
            Balancing::Passthrough => "PASSTHROUGH".to_owned(),
            Balancing::DynamicDns => "DYNAMIC_DNS".to_owned(),
            Balancing::Hash { key: HashKey::Header(name), .. } => format!("hash of header {name}"),
            Balancing::Hash { key: HashKey::Cookie(cookie), .. } => format!("hash of cookie {}", cookie.name),
            Balancing::Hash { key: HashKey::SourceIp, .. } => "hash of the source address".to_owned(),
            Balancing::Hash { key: HashKey::Query(name), .. } => format!("hash of query parameter {name}"),
        }
    }
}

impl Tls {
    fn name(&self) -> &'static str {
        match self {
            Tls::Disable => "DISABLE",
            Tls::IstioMutual => "ISTIO_MUTUAL",
            Tls::Originate(with) if with.mutual => "MUTUAL",
            Tls::Originate(_) => "SIMPLE",
        }
    }
}

impl Target {
    /// A destination, or the answer in its place.
    pub fn json(&self) -> Value {
        match self {
            Target::Destination(destination) => destination.brief(),
            Target::Unroutable(answer) => {
                json!({ "status": answer.status.as_u16(), "flag": &*answer.flag, "reason": &*answer.reason })
            }
        }
    }
}

/// As the `.proto` file has it: `NOT_FOUND` for `NotFound`.
fn constant(variant: impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for character in format!("{variant:?}").chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
}

fn words(conditions: &[impl ToString]) -> Vec<String> {
    conditions.iter().map(ToString::to_string).collect()
}

fn shares<T>(split: &Split<T>, target: impl Fn(&T) -> &Target) -> Vec<Value> {
    let told = |share: &Share<T>| with(target(&share.what).json(), "percent", percent(split.parts(share)));
    split.shares().iter().map(told).collect()
}

fn with(told: Value, name: &str, value: impl Into<Value>) -> Value {
    let mut fields = match told {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert(name.to_owned(), value.into());
    fields.into()
}

fn percent(parts: u64) -> f64 {
    parts as f64 * 100.0 / f64::from(MILLION)
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}
