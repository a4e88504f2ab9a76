//! The answer to why a connection goes as it goes, as JSON with the fields of protocols/admin.py.
use crate::base::Refusal;
use serde::Serialize;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

#[derive(Serialize)]
pub struct Answer {
    pub source: Source,
    pub destination: Destination,
    pub ports: Vec<Port>,
}

#[derive(Serialize)]
pub struct Source {
    pub name: String,
    pub identity: String,
    pub addresses: Vec<IpAddr>,
    pub served: bool,
    pub certificate_until: Option<i64>,
}

/// `kind`: service, pod, address or outside.
#[derive(Serialize)]
pub struct Destination {
    pub asked: String,
    pub kind: &'static str,
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

/// What becomes of connections to a port. `path`: tunnel, direct, plain, requests; empty where there is none.
#[derive(Serialize)]
pub struct Port {
    pub port: u16,
    pub address: Option<SocketAddr>,
    pub verdict: &'static str,
    pub text: String,
    pub path: &'static str,
    pub not_direct: &'static str,
    pub waypoint: bool,
    pub routes: Option<Value>,
    pub endpoints: Vec<Endpoint>,
}

/// One that may be chosen. `used`: not only once nearer ones are gone. `policy`: of connections to it, as far as it is known here.
#[derive(Clone, Serialize)]
pub struct Endpoint {
    pub name: String,
    pub address: SocketAddr,
    pub node: String,
    pub identity: String,
    pub path: &'static str,
    pub used: bool,
    pub verdict: &'static str,
    pub text: String,
    pub policy: Option<Value>,
    pub policies_known: bool,
}

impl Port {
    pub fn new(port: u16) -> Port {
        Port {
            port,
            address: None,
            verdict: "allowed",
            text: "allowed".into(),
            path: "",
            not_direct: "",
            waypoint: false,
            routes: None,
            endpoints: vec![],
        }
    }

    pub fn refused(port: u16, why: Refusal) -> Port {
        Port::new(port).because(why)
    }

    pub fn because(self, why: Refusal) -> Port {
        Port { verdict: why.name(), text: why.explain(""), ..self }
    }

    /// No rule forwards it: the answer of a redirect or of a fixed response is one, too.
    pub fn without_forward(self, requests: bool) -> Port {
        let outcome = self.routes.as_ref().map(|told| told["routes"]["outcome"]["kind"].clone());
        let answered =
            outcome.as_ref().and_then(Value::as_str).is_some_and(|kind| matches!(kind, "redirect" | "respond"));
        match requests && answered {
            true => Port { path: "requests", ..self },
            false => self.because(Refusal::NoRoute),
        }
    }

    /// Where a share of the requests goes nowhere, that it is allowed depends on the share.
    pub fn unless_missing(self, why: Option<Refusal>) -> Port {
        match why {
            Some(why) if self.verdict == "allowed" => Port {
                verdict: "depends",
                text: format!("a share of the requests is refused: {}", why.explain("")),
                ..self
            },
            _ => self,
        }
    }

    /// By the endpoints that may be chosen now: of several that differ, nothing is sure.
    pub fn judged(self) -> Port {
        let mut used = self.endpoints.iter().filter(|one| one.used);
        let Some(first) = used.next() else { return self };
        let path = if self.path.is_empty() { first.path } else { self.path };
        let (verdict, text) = match used.all(|other| other.verdict == first.verdict) {
            true => (first.verdict, first.text.clone()),
            false => ("depends", "depends on the endpoint that is chosen".into()),
        };
        Port { path, verdict, text, ..self }
    }
}
