//! Who may talk to whom: authorization policies, compiled when they arrive, and the verdict on one connection, or on one
//! request of it.
//!
//! `wire` takes a policy from its message, `condition` and `request` are what a match of it asks, a [`Guard`] is all that
//! holds for one workload, indexed, and [`Policies`] knows them all; `jwt` finds a request's tokens and verifies them;
//! `limit` says how often requests and connections may come, `remote` who else is asked; [`Explanation`] says in words why a
//! verdict is what it is. What is not understood is refused by name and never lets anybody through: its last good version stays in
//! force, and where there is none, whom it may concern is held and then refused.

mod condition;
mod explain;
mod forms;
mod guard;
mod jwt;
mod keys;
mod limit;
mod limiting;
mod policies;
mod remote;
mod request;
mod template;
mod token;
mod wire;

use crate::base::PodKey;
use crate::limits::Permit;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::{Failure, Identity, Refusal};
pub use explain::{Explained, ExplainedRule, Explanation, Outcome, Port};
pub use guard::Guard;
pub use jwt::{Authenticated, Carrier, UNKNOWN_KEY};
pub use limit::{Global, Limit};
pub use limiting::Limited;
pub use policies::{Guarded, Policies};
pub use remote::{Authorizer, HttpAuthorizer, Remote};
pub use request::Request;
pub use token::Token;
pub use wire::{Policy, Unreadable};

/// The policy that every control plane makes of PeerAuthentications with mode STRICT: it denies plain text.
const STRICT: &str = "istio-system/istio_converted_static_strict";

/// A connection that somebody attempts, as far as policies look at it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Who asks, as proven by mutual TLS; nobody in plain text.
    pub peer: Option<Arc<Identity>>,
    /// Canonical.
    pub source: IpAddr,
    /// Address and port of the application, canonical.
    pub destination: SocketAddr,
    /// Of one from outside of the mesh.
    pub door: Option<Arc<Door>>,
}

/// What a gateway's listener has to do with who comes in there.
#[derive(Debug, PartialEq, Eq)]
pub struct Door {
    /// Those that hold there beside those of the gateway's pod, by `namespace/name`, in order.
    pub policies: Arc<[Arc<str>]>,
    /// Requests are not seen, whatever the port is for: TLS is passed through.
    pub opaque: bool,
}

/// What the enforced policies say. Policies go by `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// This DENY policy matches.
    Denied(Arc<str>),
    /// There are ALLOW policies, of which none matches.
    NotAllowed,
    /// The connection is let in; each of its requests is judged.
    NeedsRequest,
    /// This policy may decide it, and has not arrived or was not understood.
    Undecided(Arc<str>),
}

/// A verdict, and what is told of the connection beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// The policy behind a refusal, if its object was refused: else it might have said something else.
    pub refused: Option<Arc<Policy>>,
    /// The dry-run policy that would refuse what the enforced ones allow.
    pub would_refuse: Option<Arc<str>>,
    /// The first AUDIT policy that matches.
    pub audited: Option<Arc<str>>,
}

/// A connection that was let in, and by what.
#[derive(Clone)]
pub struct Admission {
    pub attempt: Attempt,
    pub guard: Arc<Guard>,
    /// Each of its requests is judged.
    pub requests: bool,
    /// To be kept as long as it is open.
    pub permits: Permits,
}

/// What a connection takes of the limits that count it, until it is dropped.
pub type Permits = Arc<[Permit]>;

/// A connection that is open as long as policies allow it.
#[derive(Clone)]
pub struct Admitted {
    pub pod: PodKey,
    pub attempt: Attempt,
    /// Whether each of its requests is judged.
    pub requests: bool,
    /// As JSON.
    pub record: String,
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        Judgement { verdict, refused: None, would_refuse: None, audited: None }
    }
}

impl Verdict {
    /// Whether a connection may stay open that is served as it is: its requests judged, or its bytes carried. What cannot be
    /// decided yet stays as it was decided before.
    pub fn keeps(&self, requests: bool) -> bool {
        match self {
            Verdict::Allowed | Verdict::Undecided(_) => true,
            Verdict::NeedsRequest => requests,
            Verdict::Denied(_) | Verdict::NotAllowed => false,
        }
    }
}

impl Judgement {
    /// Why the connection or request is refused, if it is.
    pub fn outcome(&self) -> Result<(), Failure> {
        let (refusal, policy) = match &self.verdict {
            Verdict::Allowed | Verdict::NeedsRequest => return Ok(()),
            Verdict::Denied(policy) => (Refusal::PolicyDenied, &**policy),
            Verdict::NotAllowed => (Refusal::PolicyNotAllowed, ""),
            Verdict::Undecided(policy) => (Refusal::PolicyUnknown, &**policy),
        };
        Err(Failure {
            refusal,
            detail: self.refused.as_ref().map_or_else(|| in_words(policy), |policy| policy.blamed()),
        })
    }
}

/// A policy by name, for people.
fn in_words(policy: &str) -> String {
    match policy {
        STRICT => format!("{STRICT} (PeerAuthentication, mode STRICT: plain text)"),
        policy => policy.to_owned(),
    }
}

#[cfg(test)]
mod tests;
