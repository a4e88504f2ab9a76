//! Services that are asked about requests: external authorizers, and those that count for many tunnels.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::StatusCode;

use super::condition::Strings;
use super::wire::texts;
use crate::config::proto;

/// A port of a service.
#[derive(Debug, PartialEq)]
pub struct Remote {
    /// `namespace/hostname`.
    pub service: Arc<str>,
    pub hostname: Box<str>,
    pub port: u16,
    pub timeout: Duration,
    /// Why it cannot be called; empty: it can.
    pub problem: Box<str>,
}

/// Whom a policy asks in the place of denying (Istio's action CUSTOM).
#[derive(Debug, PartialEq)]
pub struct Authorizer {
    /// The provider's.
    pub name: Box<str>,
    pub remote: Remote,
    /// Where it gives no answer: the request goes on, or is refused with this status.
    pub fail_open: bool,
    pub status_on_error: StatusCode,
    /// None: it is asked by gRPC.
    pub http: Option<HttpAuthorizer>,
}

/// What goes to it, and what of its answer goes on.
#[derive(Debug, PartialEq)]
pub struct HttpAuthorizer {
    pub path_prefix: Box<str>,
    pub request_headers: Strings,
    pub additional_headers: HeaderMap,
    pub to_upstream: Strings,
    /// None: all.
    pub to_downstream_on_deny: Option<Strings>,
    pub to_downstream_on_allow: Strings,
}

impl Remote {
    pub fn decode(sent: Option<&proto::Remote>) -> Result<Remote, String> {
        let sent = sent.ok_or("it says not who is asked")?;
        let port = u16::try_from(sent.port).map_err(|_| format!("port {} is out of range", sent.port))?;
        if sent.problem.is_empty() && (sent.hostname.is_empty() || port == 0 || sent.timeout_ms == 0) {
            return Err("who is asked has no name, no port or no time".to_owned());
        }
        Ok(Remote {
            service: format!("{}/{}", sent.namespace, sent.hostname).into(),
            hostname: sent.hostname.as_str().into(),
            port,
            timeout: Duration::from_millis(sent.timeout_ms),
            problem: sent.problem.as_str().into(),
        })
    }
}

impl Authorizer {
    pub fn decode(sent: &proto::Authorizer) -> Result<Authorizer, String> {
        let status = u16::try_from(sent.status_on_error).ok().and_then(|status| StatusCode::from_u16(status).ok());
        Ok(Authorizer {
            name: sent.name.as_str().into(),
            remote: Remote::decode(sent.remote.as_ref())?,
            fail_open: sent.fail_open,
            status_on_error: status.ok_or_else(|| format!("{} is no status", sent.status_on_error))?,
            http: sent.http.as_ref().map(HttpAuthorizer::decode).transpose()?,
        })
    }
}

impl HttpAuthorizer {
    fn decode(sent: &proto::HttpAuthorizer) -> Result<HttpAuthorizer, String> {
        let strings = |sent: &[proto::StringMatch]| texts(sent).map(|(values, _)| values);
        let mut additional_headers = HeaderMap::new();
        for (name, value) in &sent.additional_headers {
            let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} names no header"))?;
            let value = HeaderValue::try_from(value).map_err(|_| format!("{value:?} is no value of a header"))?;
            additional_headers.insert(name, value);
        }
        let on_deny = &sent.to_downstream_on_deny;
        Ok(HttpAuthorizer {
            path_prefix: sent.path_prefix.as_str().into(),
            request_headers: strings(&sent.request_headers)?,
            additional_headers,
            to_upstream: strings(&sent.to_upstream)?,
            to_downstream_on_deny: (!on_deny.is_empty()).then(|| strings(on_deny)).transpose()?,
            to_downstream_on_allow: strings(&sent.to_downstream_on_allow)?,
        })
    }
}
