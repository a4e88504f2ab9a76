//! Rules for connections: TCP, and TLS by its SNI.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::destination::Destination;
use super::matching::{port, Client};
use super::proto;
use super::split::{Share, Split, Target};
use super::within::{each, Within};
use crate::base::Prefix;

/// A connection, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The address that the client called, canonical.
    pub destination: IpAddr,
    /// The service's port.
    pub port: u16,
    /// None: it is not TLS, or names no server.
    pub sni: Option<&'a str>,
}

/// A rule of `tls` or `tcp`; one of `tcp` looks at no SNI.
#[derive(Debug)]
pub struct ConnectionRule {
    pub name: Arc<str>,
    pub origin: Arc<str>,
    /// Any of them; none: it always matches.
    pub matches: Box<[ConnectionMatch]>,
    pub split: Split<Target>,
    /// It is one of `tls`.
    pub tls: bool,
}

#[derive(Debug)]
pub struct ConnectionMatch {
    pub conditions: Box<[ConnectionCondition]>,
}

#[derive(Debug)]
pub enum ConnectionCondition {
    /// In lower case; any of them.
    Sni(Box<[Box<str>]>),
    Subnets(Box<[Prefix]>),
    Port(u16),
    SourceNamespace(Box<str>),
    SourceLabel(Box<str>, Box<str>),
}

impl ConnectionRule {
    pub fn tls(sent: &proto::TlsRule, known: &[Arc<Destination>]) -> Result<ConnectionRule, String> {
        let matches = each("matches", &sent.matches, |one| {
            ConnectionMatch::decode(&one.sni_hosts, &one.connection.clone().unwrap_or_default())
        })?;
        let split = split(&sent.destinations, known)?;
        Ok(ConnectionRule {
            name: sent.name.as_str().into(),
            origin: sent.origin.as_str().into(),
            matches,
            split,
            tls: true,
        })
    }

    pub fn tcp(sent: &proto::TcpRule, known: &[Arc<Destination>]) -> Result<ConnectionRule, String> {
        let matches = each("matches", &sent.matches, |one| ConnectionMatch::decode(&[], one))?;
        let split = split(&sent.destinations, known)?;
        Ok(ConnectionRule {
            name: sent.name.as_str().into(),
            origin: sent.origin.as_str().into(),
            matches,
            split,
            tls: false,
        })
    }

    pub fn holds(&self, client: &Client<'_>, connection: &Connection<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|one| one.unmet(client, connection).is_none())
    }
}

fn split(sent: &[proto::Weighted], known: &[Arc<Destination>]) -> Result<Split<Target>, String> {
    let shares = each("destinations", sent, |one| {
        Ok(Share { weight: one.weight, what: Target::decode(one.to.as_ref(), known)? })
    });
    Split::new(shares?)
}

impl ConnectionMatch {
    fn decode(sni_hosts: &[String], sent: &proto::ConnectionMatch) -> Result<ConnectionMatch, String> {
        let subnet = |sent: &proto::Subnet| Prefix::new(&sent.address, sent.length);
        let subnets: Box<[_]> = each("destination_subnets", &sent.destination_subnets, subnet)?;
        let hosts: Box<[_]> = sni_hosts.iter().map(|host| host.to_ascii_lowercase().into()).collect();
        let namespace = &*sent.source_namespace;
        let mut conditions = vec![];
        conditions.extend((!hosts.is_empty()).then_some(ConnectionCondition::Sni(hosts)));
        conditions.extend((!subnets.is_empty()).then_some(ConnectionCondition::Subnets(subnets)));
        conditions.extend(port(sent.port).within("port")?.map(ConnectionCondition::Port));
        conditions.extend((!namespace.is_empty()).then(|| ConnectionCondition::SourceNamespace(namespace.into())));
        let label = |(key, value): (&String, &String)| {
            ConnectionCondition::SourceLabel(key.as_str().into(), value.as_str().into())
        };
        conditions.extend(sent.source_labels.iter().map(label));
        Ok(ConnectionMatch { conditions: conditions.into() })
    }

    /// The first condition that does not hold.
    pub fn unmet(&self, client: &Client<'_>, connection: &Connection<'_>) -> Option<&ConnectionCondition> {
        self.conditions.iter().find(|condition| !condition.holds(client, connection))
    }
}

impl ConnectionCondition {
    fn holds(&self, client: &Client<'_>, connection: &Connection<'_>) -> bool {
        let contains = |subnet: &Prefix| Prefix::around(connection.destination, subnet.length) == Some(*subnet);
        match self {
            ConnectionCondition::Sni(hosts) => hosts.iter().any(|host| names(host, connection.sni)),
            ConnectionCondition::Subnets(subnets) => subnets.iter().any(contains),
            ConnectionCondition::Port(port) => *port == connection.port,
            ConnectionCondition::SourceNamespace(namespace) => **namespace == *client.namespace,
            ConnectionCondition::SourceLabel(key, value) => client.labels.get(key) == Some(value),
        }
    }

    /// Why it does not hold.
    pub fn mismatch(&self) -> String {
        let (subject, wanted) = self.words();
        format!("{subject} is not {wanted}")
    }

    /// Of what it is a condition, and what that has to be.
    fn words(&self) -> (String, String) {
        match self {
            ConnectionCondition::Sni(hosts) => ("SNI".to_owned(), hosts.join(" or ")),
            ConnectionCondition::Subnets(subnets) => {
                let subnets: Vec<_> =
                    subnets.iter().map(|subnet| format!("{}/{}", subnet.first, subnet.length)).collect();
                ("destination".to_owned(), format!("in {}", subnets.join(" or ")))
            }
            ConnectionCondition::Port(port) => ("port".to_owned(), port.to_string()),
            ConnectionCondition::SourceNamespace(namespace) => {
                ("source namespace".to_owned(), format!("'{namespace}'"))
            }
            ConnectionCondition::SourceLabel(key, value) => (format!("source label {key}"), format!("'{value}'")),
        }
    }
}

/// `*.example.com` is any name below, however deep; `*` is any name.
fn names(host: &str, sni: Option<&str>) -> bool {
    let Some(sni) = sni.map(str::to_ascii_lowercase) else { return false };
    match host.strip_prefix('*') {
        Some(suffix) => sni.len() > suffix.len() && sni.ends_with(suffix),
        None => sni == host,
    }
}

impl fmt::Display for ConnectionCondition {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, wanted) = self.words();
        write!(to, "{subject} is {wanted}")
    }
}
