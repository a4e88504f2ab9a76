//! What the routes of a service say about a request or connection: compiled when they arrive, pure, no I/O.
//!
//! [`ServiceRoutes::compile`] takes a resource whole or refuses it, naming the place. A [`Scope`] holds the rules for a client; its
//! `decide` gives what happens to a request, `connect` where a connection goes. Chance is passed in, as a function that
//! gives a number below its argument.

mod connection;
mod credential;
mod decision;
mod describe;
mod destination;
mod explain;
mod headers;
mod hosts;
mod index;
mod labels;
mod listeners;
mod matching;
mod path;
pub mod proto;
pub mod re2;
mod rewrite;
mod rule;
mod scope;
mod split;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
mod within;

use std::sync::Arc;

use prost::bytes::Bytes;
use prost::Message;

pub use connection::{Connection, ConnectionRule};
pub use credential::Credential;
pub use decision::{Decision, Forwarded, Matched};
pub use destination::{
    Balancing, ConnectionPool, Cookie, Destination, Distribute, HashKey, HashTable, Keepalive, Locality, Originate,
    OutlierDetection, Policy, PriorityKey, ProxyProtocol, RetryBudget, Tls, Tunnel, UpstreamProtocol, Warmup,
};
pub use headers::{HeaderChanges, Values, Variable};
use hosts::Hosts;
pub use labels::Labels;
pub use listeners::{Listener, Listeners, Server, ServerKind};
pub use matching::{Client, Condition, HttpMatch, Request};
pub use proto::Protocol;
pub use rule::{Abort, Action, Cors, Fault, Forward, HttpRule, Mirror, Retry, RetryOn, Weighted};
pub use scope::Scope;
pub use split::{Share, Split, Target, Unroutable};
use within::{each, Within};

/// Percentages are parts of it.
pub const MILLION: u32 = 1_000_000;

/// The routes of one service.
#[derive(Debug)]
pub struct ServiceRoutes {
    /// `namespace/hostname`.
    pub service: Arc<str>,
    /// Sorted.
    pub ports: Box<[Arc<PortRoutes>]>,
    /// Of all other ports; None: they are forwarded at L4.
    others: Option<Arc<PortRoutes>>,
}

#[derive(Debug)]
pub struct PortRoutes {
    pub port: u16,
    pub protocol: Protocol,
    pub scopes: Scopes,
    /// Of a wildcard: what holds in their place for requests to a host under it.
    hosts: Hosts<Scopes>,
}

/// The first that fits a client holds; the last fits all.
type Scopes = Box<[Arc<Scope>]>;

impl ServiceRoutes {
    /// The resource of a serialised message.
    pub fn decode(body: &Bytes) -> Result<ServiceRoutes, String> {
        let sent = proto::ServiceRoutes::decode(body.clone()).map_err(|error| error.to_string())?;
        ServiceRoutes::compile(&sent)
    }

    pub fn compile(sent: &proto::ServiceRoutes) -> Result<ServiceRoutes, String> {
        let mut ports: Vec<_> = each("ports", &sent.ports, |port| PortRoutes::decode(port).map(Arc::new))?;
        ports.sort_by_key(|port| port.port);
        match ports.windows(2).find(|pair| pair[0].port == pair[1].port) {
            Some(pair) => Err(format!("port {} is there twice", pair[0].port)),
            None => Ok(ServiceRoutes {
                service: format!("{}/{}", sent.namespace, sent.hostname).into(),
                ports: ports.into(),
                others: None,
            }),
        }
    }

    /// In place of a resource that is not understood: nothing gets through on its ports, nor on any where not even those
    /// can be told.
    pub fn refused(service: &str, body: &Bytes, reason: &str) -> ServiceRoutes {
        let refused = |sent: &proto::PortRoutes| Arc::new(PortRoutes::refused(sent, reason));
        let (mut ports, others): (Vec<_>, _) = match proto::ServiceRoutes::decode(body.clone()) {
            Ok(sent) => (sent.ports.iter().map(refused).collect(), None),
            Err(_) => (vec![], Some(refused(&proto::PortRoutes::default()))),
        };
        ports.sort_by_key(|port| port.port);
        ServiceRoutes { service: service.into(), ports: ports.into(), others }
    }

    /// None: the port is forwarded at L4.
    pub fn port(&self, port: u16) -> Option<&Arc<PortRoutes>> {
        match self.ports.binary_search_by_key(&port, |routes| routes.port) {
            Ok(place) => Some(&self.ports[place]),
            Err(_) => self.others.as_ref(),
        }
    }
}

impl PortRoutes {
    fn decode(sent: &proto::PortRoutes) -> Result<PortRoutes, String> {
        let protocol = match Protocol::try_from(sent.protocol) {
            Ok(Protocol::Unspecified) | Err(_) => Err(format!("protocol {} is unknown", sent.protocol)),
            Ok(protocol) => Ok(protocol),
        };
        let port = sent.port;
        let scopes = |sent| scopes(sent, port);
        let mut hosts = Vec::with_capacity(sent.hosts.len());
        for named in &sent.hosts {
            hosts.push((&*named.host, scopes(&named.scopes).within(&named.host)?));
        }
        Ok(PortRoutes {
            port: destination::port(port)?,
            protocol: protocol?,
            scopes: scopes(&sent.scopes)?,
            hosts: Hosts::new(hosts)?,
        })
    }

    /// Each request goes where its connection would.
    pub fn forwarding(namespace: &str, hostname: &str, port: u16) -> PortRoutes {
        let scope = Scope::forwarding(namespace, hostname, port);
        PortRoutes { port, protocol: Protocol::Http, scopes: [Arc::new(scope)].into(), hosts: Hosts::default() }
    }

    /// Requests get 503, connections are closed.
    fn refused(sent: &proto::PortRoutes, reason: &str) -> PortRoutes {
        let protocol = Protocol::try_from(sent.protocol).unwrap_or(Protocol::Tcp);
        let scopes = [Arc::new(Scope::refused(reason))].into();
        PortRoutes { port: sent.port as u16, protocol, scopes, hosts: Hosts::default() }
    }

    /// What holds for connections of a client, and for its requests to hosts of which nothing else is said.
    pub fn scope(&self, client: &Client<'_>) -> &Arc<Scope> {
        scope(&self.scopes, client)
    }

    /// What holds for a client's requests to a host, a name without a port.
    pub fn scope_of(&self, client: &Client<'_>, host: &str) -> &Arc<Scope> {
        scope(self.hosts.get(host).unwrap_or(&self.scopes), client)
    }

    /// All that may hold for a client.
    pub fn scopes_for<'a>(&'a self, client: &'a Client<'_>) -> impl Iterator<Item = &'a Arc<Scope>> {
        std::iter::once(&self.scopes).chain(self.hosts.values()).map(|scopes| scope(scopes, client))
    }

    pub fn speaks_http2(&self) -> bool {
        matches!(self.protocol, Protocol::Http2 | Protocol::Grpc)
    }

    pub fn is_http(&self) -> bool {
        matches!(self.protocol, Protocol::Http | Protocol::Http2 | Protocol::Grpc)
    }
}

fn scopes(sent: &[proto::Scope], port: u32) -> Result<Scopes, String> {
    let scopes: Scopes = each("scopes", sent, |scope| Scope::decode(scope).map(Arc::new))?;
    let is_whole = scopes.last().is_some_and(|last| last.is_for_all());
    is_whole.then_some(scopes).ok_or_else(|| format!("port {port}: no scope is for all clients"))
}

fn scope<'a>(scopes: &'a Scopes, client: &Client<'_>) -> &'a Arc<Scope> {
    let [others @ .., last] = &**scopes else { unreachable!("there is a last scope") };
    others.iter().find(|scope| scope.fits(client)).unwrap_or(last)
}
