//! What happens to a request.

use std::sync::Arc;

use http::StatusCode;
use prost::bytes::Bytes;

use super::matching::HttpMatch;
use super::rule::{Forward, HttpRule, Weighted};

#[derive(Debug)]
pub enum Decision {
    Forward(Forwarded),
    Redirect {
        status: StatusCode,
        location: String,
        matched: Matched,
    },
    Respond {
        status: StatusCode,
        body: Bytes,
        matched: Matched,
    },
    /// 404 with no body.
    NotFound,
    /// gRPC status 12.
    Unimplemented,
}

/// The rule that holds for a request, and the place of the match that let it in.
#[derive(Clone, Debug)]
pub struct Matched {
    pub rule: Arc<HttpRule>,
    pub place: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Forwarded {
    pub matched: Matched,
    pub forward: Arc<Forward>,
    /// The place of the share in `forward.split`.
    pub chosen: usize,
    /// The new path, without the query; None: it stays.
    pub path: Option<String>,
}

impl Decision {
    /// What holds beside the action: CORS, fault, the route's name.
    pub fn matched(&self) -> Option<&Matched> {
        match self {
            Decision::Forward(forwarded) => Some(&forwarded.matched),
            Decision::Redirect { matched, .. } | Decision::Respond { matched, .. } => Some(matched),
            Decision::NotFound | Decision::Unimplemented => None,
        }
    }
}

impl Matched {
    pub(super) fn one(&self) -> Option<&HttpMatch> {
        self.place.map(|place| &self.rule.matches[place])
    }

    /// What telemetry calls it.
    pub fn route(&self) -> &Arc<str> {
        self.rule.route(self.place)
    }
}

impl Forwarded {
    /// Where it goes, with the changes of its headers and its authority.
    pub fn weighted(&self) -> &Weighted {
        self.forward.split.get(self.chosen)
    }
}
