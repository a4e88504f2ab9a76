//! What a destination's policy puts between an endpoint and what is sent to it: the PROXY protocol's head, TLS, the tunnel
//! of a proxy; in this order.
use super::connector::Source;
use super::upstream::Upstream;
use super::{proxy_protocol, Proxy};
use crate::base::refusal::quoted;
use crate::base::{Failure, Refusal};
use crate::decision::{Target, Way};
use crate::routes::{Credential, Destination, Originate, Policy, Tls, Tunnel};
use crate::tls::originate::{self, Terms};
use rustls::ClientConfig;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of a proxy's answer at most.
const ANSWER_MAX: usize = 8 << 10;

/// What a connection to an endpoint is for.
pub struct Call<'a> {
    pub destination: &'a Destination,
    /// The server's own name, where the policy gives no SNI.
    pub server_name: &'a str,
    /// Whether the server is to speak HTTP/2.
    pub http2: bool,
}

/// The TLS configurations of a thread: with them sessions are resumed.
#[derive(Default)]
pub struct Configs(RefCell<HashMap<Settings, Config>>);

/// What a configuration is made of: also the credential's name, and whether the server is to speak HTTP/2.
type Settings = (Originate, Option<String>, bool);

struct Config {
    credential: Option<Arc<Credential>>,
    config: Arc<ClientConfig>,
}

/// Whether an endpoint may be sent to: what is to be encrypted never goes in the clear.
pub fn check(policy: &Policy, target: &Target) -> Result<(), Failure> {
    let fail = |refusal, detail: String| Err(Failure { refusal, detail });
    match (&policy.tls, target.way()) {
        (Some(Tls::IstioMutual), Way::Plain(plain)) => fail(Refusal::NotMutual, plain.addr.to_string()),
        _ => match &policy.tunnel {
            Some(tunnel) if &*tunnel.method != "CONNECT" => fail(Refusal::NotDone, String::new()),
            _ => Ok(()),
        },
    }
}

impl Proxy {
    /// A connection to an endpoint, with all that its destination's policy asks for.
    pub async fn call(
        self: &Rc<Self>,
        source: &Source<'_>,
        target: &Target,
        call: &Call<'_>,
    ) -> Result<Upstream, Failure> {
        let policy = &call.destination.policy;
        check(policy, target)?;
        let to = SocketAddr::new(target.ip, target.port);
        let mut io = self.connect(source, target).await?;
        if let Some(keepalive) = &policy.pool.keepalive {
            io.keep_alive(keepalive);
        }
        if target.behind.is_some() {
            return Ok(io); // the waypoint has the policy of what is behind it
        }
        if let Some(version) = policy.proxy_protocol {
            let head = proxy_protocol::head(version, source.client, to);
            io.write_all(&head).await.map_err(|error| originate::failure(&error))?;
        }
        if let Some(with) = policy.originate() {
            let config = self.tls_config(with, &source.workload.identity.namespace, call)?;
            let name = if with.sni.is_empty() { call.server_name } else { &with.sni };
            let name = name.trim_start_matches('[').trim_end_matches(']');
            let named = |why: Failure| Failure { detail: format!("{to} ({name}): {why}"), ..why };
            io = Upstream::tls(originate::connect(config, name, io).await.map_err(named)?);
        }
        if let Some(tunnel) = &policy.tunnel {
            open_tunnel(&mut io, tunnel).await?;
        }
        Ok(io)
    }

    fn tls_config(&self, with: &Originate, namespace: &str, call: &Call<'_>) -> Result<Arc<ClientConfig>, Failure> {
        let unusable = |what: &str, why: &str| Failure {
            refusal: Refusal::NoCredential,
            detail: format!("{}: {what}: {why}", call.destination.origin),
        };
        let name = with.credential(namespace);
        let credential = match &name {
            None => None,
            Some(name) => match self.shared.mesh.load().credential(name) {
                None => return Err(unusable(name, "the agent has not told of it")),
                Some(credential) => match &credential.problem {
                    Some(problem) => return Err(unusable(name, problem)),
                    None => Some(credential.clone()),
                },
            },
        };
        let mut configs = self.tls_configs.0.borrow_mut();
        let key = (with.clone(), name, call.http2);
        let is_current = |known: &&Config| match (&known.credential, &credential) {
            (Some(known), Some(now)) => Arc::ptr_eq(known, now),
            (known, now) => known.is_none() && now.is_none(),
        };
        if let Some(known) = configs.get(&key).filter(is_current) {
            return Ok(known.config.clone());
        }
        let config = terms(with, credential.as_deref(), call.http2).config();
        let config = config.map_err(|why| unusable(key.1.as_deref().unwrap_or("the system's roots"), &why))?;
        configs.insert(key, Config { credential, config: config.clone() });
        Ok(config)
    }
}

fn terms<'a>(with: &'a Originate, credential: Option<&'a Credential>, http2: bool) -> Terms<'a> {
    let client = credential.filter(|_| with.mutual);
    Terms {
        roots: credential.map(|credential| &*credential.roots).filter(|roots| !roots.is_empty()),
        crl: credential.map(|credential| &*credential.crl).unwrap_or_default(),
        client: client.map(|credential| (&*credential.certificate, &*credential.key)),
        subject_alt_names: &with.subject_alt_names,
        verify: !with.insecure_skip_verify,
        http2,
    }
}

/// Asks a proxy for a connection (RFC 9110 section 9.3.6), over which then everything goes.
async fn open_tunnel(io: &mut Upstream, tunnel: &Tunnel) -> Result<(), Failure> {
    let refused = |detail: String| Failure { refusal: Refusal::ProxyRefused, detail };
    let host = match tunnel.host.contains(':') {
        true => format!("[{}]:{}", tunnel.host, tunnel.port),
        false => format!("{}:{}", tunnel.host, tunnel.port),
    };
    let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    io.write_all(request.as_bytes()).await.map_err(|error| originate::failure(&error))?;
    io.flush().await.map_err(|error| originate::failure(&error))?;
    let mut answer = Vec::new();
    // One at a time: what follows the head is the destination's.
    while !answer.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) if answer.len() < ANSWER_MAX => answer.push(byte),
            Ok(_) => return Err(refused("its answer's head is too large".to_owned())),
            Err(error) => return Err(refused(format!("it broke off: {error}"))),
        }
    }
    let line = String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status.is_some_and(|status| status.len() == 3 && status.starts_with('2')) {
        true => Ok(()),
        false => Err(refused(format!("it answers {:?}", quoted(&line)))),
    }
}
