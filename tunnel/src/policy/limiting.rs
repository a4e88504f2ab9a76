//! Which limits count a request, or a connection.

use std::sync::Arc;
use std::time::Instant;

use super::guard::{facts, Guard, PRINCIPAL};
use super::limit::Limit;
use super::request::Request;
use super::wire::Policy;
use super::{Attempt, Permits};
use crate::config::proto::Action;

/// Before the name of a RateLimitPolicy, as of what the agent makes policies of (protocols/policies.py).
const MADE_OF: &str = "converted_rate_limit_policy_";

/// A limit that counts a request or connection.
pub struct Limited {
    policy: Arc<Policy>,
    rule: usize,
}

impl Limited {
    pub fn policy(&self) -> &Arc<str> {
        &self.policy.name
    }

    pub fn limit(&self) -> &Limit {
        self.policy.rules[self.rule].limit.as_ref().expect("each rule of a policy that limits has one")
    }
}

impl std::fmt::Display for Limited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (namespace, name) = self.policy.name.split_once('/').unwrap_or_default();
        write!(f, "RateLimitPolicy {namespace}/{}, rules[{}]", name.trim_start_matches(MADE_OF), self.rule)
    }
}

impl Guard {
    /// The limits that count a request.
    pub fn limiting(&self, attempt: &Attempt, request: Request<'_>) -> Vec<Limited> {
        let limits = |policy: &Policy| policy.action == Action::Limit;
        let all = self.consulted(limits, attempt, request, |policy, rules| {
            let limited = rules.map(|rule| Limited { policy: policy.clone(), rule });
            Some(limited.filter(|one| !one.limit().is_of_connections()).collect::<Vec<_>>())
        });
        all.into_iter().flatten().collect()
    }

    /// Whether connections are limited: then each has to be counted.
    pub fn limits_connections(&self) -> bool {
        self.limits_connections
    }

    /// Counts a connection that policies let in, as open for as long as the result lives. Errors: which limit it is beyond.
    pub fn admit(&self, attempt: &Attempt, now: Instant) -> Result<Permits, Limited> {
        if !self.limits_connections {
            return Ok(Permits::default());
        }
        PRINCIPAL.with_borrow_mut(|scratch| {
            let facts = facts(attempt, None, scratch);
            let mut permits = vec![];
            for policy in self.policies.iter().filter(|policy| policy.limits_connections()) {
                for (nth, rule) in policy.rules.iter().enumerate() {
                    let limit = rule.limit.as_ref().filter(|limit| limit.is_of_connections());
                    let Some(limit) = limit.filter(|_| rule.connection.unmet(&facts).is_none()) else { continue };
                    let beyond = || Limited { policy: policy.clone(), rule: nth };
                    permits.push(limit.admit(attempt, now).ok_or_else(beyond)?);
                }
            }
            Ok(permits.into())
        })
    }
}
