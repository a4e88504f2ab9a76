//! What a gateway's pod listens on: ports, servers by the client's SNI, virtual hosts by a request's Host.

use std::sync::{Arc, LazyLock};

use prost::bytes::Bytes;
use prost::Message;
use rustls::ServerConfig;

use super::destination::port;
use super::hosts::Hosts;
use super::proto;
use super::scope::Scope;
use super::within::{each, Within};
use crate::tls::server;

/// Misdirected Request: RFC 9110 section 15.5.20.
static MISDIRECTED: LazyLock<Arc<Scope>> = LazyLock::new(|| Scope::answering(421).into());
static NOT_FOUND: LazyLock<Arc<Scope>> = LazyLock::new(|| Scope::answering(404).into());

#[derive(Debug)]
pub struct Listeners {
    /// `namespace/pod`.
    pub name: Arc<str>,
    pub all: Box<[Arc<Listener>]>,
    pub trusted_proxies: usize,
    /// What is not served because others have its place, for people.
    pub conflicts: Vec<String>,
}

#[derive(Debug)]
pub struct Listener {
    /// As rules name it.
    pub port: u16,
    /// The pod's own.
    pub bind: u16,
    pub proxy_protocol: bool,
    pub(super) servers: Hosts<Arc<Server>>,
}

#[derive(Debug)]
pub struct Server {
    pub name: Arc<str>,
    /// None: in plain text, or passed through.
    pub tls: Option<Arc<ServerConfig>>,
    pub kind: ServerKind,
}

#[derive(Debug)]
pub enum ServerKind {
    /// Requests, by their Host.
    Http(Hosts<Arc<Scope>>),
    Connections(Arc<Scope>),
}

impl Listeners {
    /// The resource of a serialised message.
    pub fn decode(body: &Bytes) -> Result<Listeners, String> {
        let sent = proto::GatewayListeners::decode(body.clone()).map_err(|error| error.to_string())?;
        let all: Box<[_]> = each("listeners", &sent.listeners, |one| Listener::decode(one).map(Arc::new))?;
        let mut binds: Vec<_> = all.iter().map(|one| one.bind).collect();
        binds.sort_unstable();
        match binds.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("port {} of the pod is there twice", pair[0])),
            None => Ok(Listeners {
                name: format!("{}/{}", sent.namespace, sent.pod).into(),
                all,
                trusted_proxies: sent.trusted_proxies as usize,
                conflicts: sent.conflicts,
            }),
        }
    }

    /// The pod's own ports on which requests are seen, in order.
    pub fn http_binds(&self) -> Box<[u16]> {
        let http = |one: &&Arc<Listener>| one.servers.values().any(|server| matches!(server.kind, ServerKind::Http(_)));
        let mut binds: Vec<_> = self.all.iter().filter(http).map(|one| one.bind).collect();
        binds.sort_unstable();
        binds.into()
    }

    /// The policies that hold at some of its places beside those of the pod, each time all that hold at one.
    pub fn policies(&self) -> Vec<&[Arc<str>]> {
        let servers = self.all.iter().flat_map(|one| one.servers.values());
        let mut found: Vec<_> = servers.flat_map(|server| server.policies()).filter(|all| !all.is_empty()).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The one that is meant by the pod's own port.
    pub fn bound_to(&self, bind: u16) -> Option<&Arc<Listener>> {
        self.all.iter().find(|one| one.bind == bind)
    }

    /// The one of a port as rules name it.
    pub fn of_port(&self, port: u16) -> Option<&Arc<Listener>> {
        self.all.iter().find(|one| one.port == port)
    }
}

impl Listener {
    fn decode(sent: &proto::Listener) -> Result<Listener, String> {
        let named = |server: &proto::Server| Server::decode(server).within(&server.name).map(Arc::new);
        let servers: Vec<Arc<Server>> = each("servers", &sent.servers, named)?;
        let patterns = |(server, sent): (&Arc<Server>, &proto::Server)| -> Vec<(String, Arc<Server>)> {
            let any = vec!["*".to_owned()];
            let hosts = if sent.sni_hosts.is_empty() { any } else { sent.sni_hosts.clone() };
            hosts.into_iter().map(|host| (host, server.clone())).collect()
        };
        let all: Vec<_> = servers.iter().zip(&sent.servers).flat_map(patterns).collect();
        Ok(Listener {
            port: port(sent.port)?,
            bind: port(sent.bind)?,
            proxy_protocol: sent.proxy_protocol,
            servers: Hosts::new(all.iter().map(|(host, server)| (host.as_str(), server.clone())))?,
        })
    }

    /// Whether the client's SNI must be known before its server is.
    pub fn needs_sni(&self) -> bool {
        !self.servers.is_one_for_all() || self.servers.any().is_some_and(|server| server.needs_sni())
    }

    /// For a client's SNI; None: no server is for it.
    pub fn server(&self, sni: Option<&str>) -> Option<&Arc<Server>> {
        match sni {
            Some(name) => self.servers.get(name),
            None => self.servers.any(),
        }
    }

    /// What holds for a request to a host over a connection with this SNI. With TLS only where the SNI would have been the
    /// host's as well: of others clients have seen no certificate.
    pub fn scope(&self, sni: Option<&str>, host: &str) -> Option<&Arc<Scope>> {
        let server = self.server(sni)?;
        let ServerKind::Http(hosts) = &server.kind else { return None };
        let right = server.tls.is_none() || self.servers.get(host).is_none_or(|other| Arc::ptr_eq(other, server));
        Some(if right { hosts.get(host).unwrap_or(&NOT_FOUND) } else { &MISDIRECTED })
    }
}

impl Server {
    fn decode(sent: &proto::Server) -> Result<Server, String> {
        let kind = match sent.kind.as_ref().ok_or("neither requests nor connections")? {
            proto::ServerKind::Http(sent) => ServerKind::Http(virtual_hosts(sent)?),
            proto::ServerKind::Connections(scope) => ServerKind::Connections(for_all(scope)?),
        };
        let http = matches!(kind, ServerKind::Http(_));
        let tls = sent.tls.as_ref().map(|tls| configuration(tls, http).within("tls")).transpose()?;
        Ok(Server { name: sent.name.as_str().into(), tls: tls.map(Arc::new), kind })
    }

    fn policies(&self) -> Vec<&[Arc<str>]> {
        match &self.kind {
            ServerKind::Http(hosts) => hosts.values().map(|scope| &*scope.policies).collect(),
            ServerKind::Connections(scope) => vec![&scope.policies],
        }
    }

    pub(super) fn needs_sni(&self) -> bool {
        self.tls.is_some() || matches!(&self.kind, ServerKind::Connections(scope) if scope.needs_sni())
    }
}

fn virtual_hosts(sent: &proto::VirtualHosts) -> Result<Hosts<Arc<Scope>>, String> {
    let of_one = |one: &proto::VirtualHost| {
        let scope = for_all(one.scope.as_ref().ok_or("no scope")?).within(one.hosts.join(", "))?;
        Ok(one.hosts.iter().map(|host| (host.clone(), scope.clone())).collect::<Vec<_>>())
    };
    let all: Vec<Vec<_>> = each("hosts", &sent.hosts, of_one)?;
    Hosts::new(all.iter().flatten().map(|(host, scope)| (host.as_str(), scope.clone())))
}

fn for_all(sent: &proto::Scope) -> Result<Arc<Scope>, String> {
    let scope = Scope::decode(sent)?;
    scope.is_for_all().then(|| scope.into()).ok_or_else(|| "its scope is for some clients only".to_owned())
}

fn configuration(sent: &proto::ServerTls, http: bool) -> Result<ServerConfig, String> {
    let chains = sent.certificates.iter().map(|one| (&*one.chain, &*one.private_key)).collect();
    let asked = proto::ClientCertificates::try_from(sent.client_certificates);
    let clients = match asked.map_err(|_| format!("client_certificates {} is unknown", sent.client_certificates))? {
        proto::ClientCertificates::NotAsked => None,
        asked => Some(server::Clients {
            required: asked == proto::ClientCertificates::Required,
            roots: &sent.ca_certificates,
            crl: &sent.ca_crl,
            names: &sent.subject_alt_names,
        }),
    };
    let versions = (sent.minimum_version, sent.maximum_version);
    server::configuration(&server::Terms { chains, clients, versions, http })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::testing::{rule, scope};

    fn http(hosts: &[&str]) -> Option<proto::ServerKind> {
        let host = |host: &&str| proto::VirtualHost {
            hosts: vec![host.to_string()],
            scope: Some(scope(vec![rule(host, &[])])),
        };
        Some(proto::ServerKind::Http(proto::VirtualHosts { hosts: hosts.iter().map(host).collect() }))
    }

    fn server(sni_hosts: &[&str], hosts: &[&str]) -> proto::Server {
        let key = rcgen::generate_simple_self_signed(vec!["a.example.com".into()]).unwrap();
        let certificate = proto::ServerCertificate {
            chain: key.cert.pem().into_bytes(),
            private_key: key.signing_key.serialize_pem().into_bytes(),
            ..Default::default()
        };
        let tls =
            (!sni_hosts.is_empty()).then(|| proto::ServerTls { certificates: vec![certificate], ..Default::default() });
        let sni_hosts = sni_hosts.iter().map(|host| host.to_string()).collect();
        proto::Server { name: "Gateway default/g".into(), sni_hosts, tls, kind: http(hosts) }
    }

    fn listener(servers: Vec<proto::Server>) -> Result<Listener, String> {
        Listener::decode(&proto::Listener { port: 443, bind: 8443, servers, ..Default::default() })
    }

    /// The name of the rule that answers, or its status.
    fn answers(listener: &Listener, sni: Option<&str>, host: &str) -> String {
        let Some(scope) = listener.scope(sni, host) else { return "nobody".into() };
        let rule = &scope.http[0];
        match &rule.action {
            crate::routes::Action::Respond { status, .. } if rule.name.is_empty() => status.as_u16().to_string(),
            _ => rule.name.to_string(),
        }
    }

    #[test]
    fn requests_in_plain_text_go_by_their_host() {
        let listener = listener(vec![server(&[], &["a.example.com", "*.example.com"])]).unwrap();
        assert!(!listener.needs_sni());
        for (host, expected) in [("A.example.com", "a.example.com"), ("b.example.com", "*.example.com"), ("x", "404")] {
            assert_eq!(answers(&listener, None, host), expected);
        }
    }

    #[test]
    fn a_connection_is_for_hosts_whose_certificate_it_has_shown() {
        let servers = vec![
            server(&["a.example.com"], &["a.example.com"]),
            server(&["*.example.com"], &["*.example.com"]),
            server(&["c.com", "d.com"], &["c.com"]),
        ];
        let listener = listener(servers).unwrap();
        assert!(listener.needs_sni());
        for (sni, host, expected) in [
            (Some("a.example.com"), "a.example.com", "a.example.com"),
            (Some("b.example.com"), "c.example.com", "*.example.com"),
            (Some("b.example.com"), "a.example.com", "421"),
            (Some("a.example.com"), "b.example.com", "421"),
            (Some("c.com"), "d.com", "404"),
            (Some("c.com"), "else.org", "404"),
            (Some("else.org"), "else.org", "nobody"),
            (None, "a.example.com", "nobody"),
        ] {
            assert_eq!(answers(&listener, sni, host), expected, "{sni:?} {host}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        let wrong = |change: fn(&mut proto::Server)| {
            let mut sent = server(&["a.example.com"], &["*"]);
            change(&mut sent);
            listener(vec![sent]).unwrap_err()
        };
        assert_eq!(wrong(|sent| sent.kind = None), "servers[0]: Gateway default/g: neither requests nor connections");
        assert_eq!(
            wrong(|sent| sent.tls = Some(Default::default())),
            "servers[0]: Gateway default/g: tls: no certificate"
        );
        let other = wrong(|sent| {
            let key = server(&["x"], &[]).tls.unwrap().certificates.remove(0).private_key;
            sent.tls.as_mut().unwrap().certificates[0].private_key = key;
        });
        assert!(other.contains("servers[0]: Gateway default/g: tls: "), "{other}");
        assert_eq!(
            wrong(|sent| sent.tls.as_mut().unwrap().minimum_version = 14),
            "servers[0]: Gateway default/g: tls: no version of TLS is from 14 to 0"
        );
        let twice = vec![server(&["a.com"], &[]), server(&["A.com"], &[])];
        assert_eq!(listener(twice).unwrap_err(), "host A.com is there twice");
    }
}
