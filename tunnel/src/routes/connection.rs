//! Rules for connections: TCP, and TLS by its SNI.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::destination::Destination;
use super::labels::Labels;
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

#[derive(Debug, Default)]
pub struct ConnectionMatch {
    /// In lower case; any of them; none: all.
    sni_hosts: Box<[Box<str>]>,
    subnets: Box<[Prefix]>,
    port: Option<u16>,
    source_namespace: Option<Box<str>>,
    source_labels: Labels,
}

#[derive(Debug)]
pub enum ConnectionMismatch<'a> {
    Sni(&'a [Box<str>]),
    Subnet(&'a [Prefix]),
    Port(u16),
    SourceNamespace(&'a str),
    SourceLabel(&'a str, &'a str),
}

impl ConnectionRule {
    pub fn tls(sent: &proto::TlsRule, known: &[Arc<Destination>]) -> Result<ConnectionRule, String> {
        let matches = each("matches", &sent.matches, |one| {
            let connection = ConnectionMatch::decode(&one.connection.clone().unwrap_or_default())?;
            let sni_hosts = one.sni_hosts.iter().map(|host| host.to_ascii_lowercase().into()).collect();
            Ok(ConnectionMatch { sni_hosts, ..connection })
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
        let matches = each("matches", &sent.matches, ConnectionMatch::decode)?;
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
        self.matches.is_empty() || self.matches.iter().any(|one| one.test(client, connection).is_ok())
    }
}

fn split(sent: &[proto::Weighted], known: &[Arc<Destination>]) -> Result<Split<Target>, String> {
    let shares = each("destinations", sent, |one| {
        Ok(Share { weight: one.weight, what: Target::decode(one.to.as_ref(), known)? })
    });
    Split::new(shares?)
}

impl ConnectionMatch {
    fn decode(sent: &proto::ConnectionMatch) -> Result<ConnectionMatch, String> {
        let subnet = |sent: &proto::Subnet| Prefix::new(&sent.address, sent.length);
        Ok(ConnectionMatch {
            sni_hosts: Box::default(),
            subnets: each("destination_subnets", &sent.destination_subnets, subnet)?,
            port: port(sent.port).within("port")?,
            source_namespace: (!sent.source_namespace.is_empty()).then(|| sent.source_namespace.as_str().into()),
            source_labels: Labels::from(&sent.source_labels),
        })
    }

    pub fn test(&self, client: &Client<'_>, connection: &Connection<'_>) -> Result<(), ConnectionMismatch<'_>> {
        if !self.sni_hosts.is_empty() && !self.sni_hosts.iter().any(|host| names(host, connection.sni)) {
            return Err(ConnectionMismatch::Sni(&self.sni_hosts));
        }
        let contains = |subnet: &Prefix| Prefix::around(connection.destination, subnet.length) == Some(*subnet);
        if !self.subnets.is_empty() && !self.subnets.iter().any(contains) {
            return Err(ConnectionMismatch::Subnet(&self.subnets));
        }
        if let Some(port) = self.port.filter(|port| *port != connection.port) {
            return Err(ConnectionMismatch::Port(port));
        }
        if let Some(namespace) = self.source_namespace.as_deref().filter(|namespace| *namespace != client.namespace) {
            return Err(ConnectionMismatch::SourceNamespace(namespace));
        }
        let missing = self.source_labels.missing_in(client.labels);
        missing.map_or(Ok(()), |(key, value)| Err(ConnectionMismatch::SourceLabel(key, value)))
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

impl fmt::Display for ConnectionMismatch<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionMismatch::Sni(hosts) => write!(to, "SNI is none of {}", hosts.join(", ")),
            ConnectionMismatch::Subnet(subnets) => {
                let subnets: Vec<_> =
                    subnets.iter().map(|subnet| format!("{}/{}", subnet.first, subnet.length)).collect();
                write!(to, "destination is in none of {}", subnets.join(", "))
            }
            ConnectionMismatch::Port(port) => write!(to, "port is not {port}"),
            ConnectionMismatch::SourceNamespace(namespace) => write!(to, "source namespace is not {namespace}"),
            ConnectionMismatch::SourceLabel(key, value) => write!(to, "source has no label {key}={value}"),
        }
    }
}
