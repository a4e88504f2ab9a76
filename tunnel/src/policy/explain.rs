//! Why a verdict is what it is, as data: each policy that holds for a workload, and of each of its rules whether it matches.
//! It is found out by the tests by which the verdict is given. What is serialised has the fields of protocols/admin.py; the
//! words are the command line's.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use super::condition::{Attribute, Condition, Facts, Test};
use super::guard::{facts, Guard};
use super::request::{Request, Seen};
use super::wire::{Clause, Policy, Reading};
use super::{Attempt, Judgement, Verdict};
use crate::config::proto::Action;

/// Of the values of a condition, how many are named.
const NAMED: usize = 8;

/// A judgement, and how it came about.
#[derive(Debug)]
pub struct Explanation {
    pub judgement: Judgement,
    /// All that hold for the workload, by name.
    pub policies: Vec<Explained>,
    /// Those that belong here and have not arrived, or were not understood.
    pub missing: Box<[Arc<str>]>,
}

/// What became of a policy.
#[derive(Debug)]
pub struct Explained {
    pub policy: Arc<Policy>,
    pub rules: Vec<ExplainedRule>,
}

/// What became of a rule.
#[derive(Debug)]
pub struct ExplainedRule {
    /// None where it matches, else what of the first clause that does not hold is not met, an entry for each way in which it
    /// could have held; empty where nothing could have made it match.
    pub unmet: Option<Vec<Unmet>>,
    /// Whether it matches as far as the connection goes, and asks for the request, which was not told.
    pub depends: bool,
    unjudged: Box<str>,
}

/// A test that does not hold.
#[derive(Debug, PartialEq, Serialize)]
pub struct Unmet {
    /// As policies name it.
    field: Cow<'static, str>,
    /// What the connection has there; None: nothing, in plain text.
    found: Option<String>,
    /// It must be none of the values, and is.
    negated: bool,
    /// The first ones.
    values: Vec<String>,
    /// How many are left out.
    more: usize,
}

/// A verdict with what decides: `allowed`, or a refusal's name.
#[derive(Serialize)]
pub struct Outcome<'a> {
    verdict: &'static str,
    text: String,
    policy: Option<&'a str>,
    rule: Option<usize>,
    would_refuse: Option<&'a str>,
    audited: Option<&'a str>,
}

/// An outcome with every policy and rule, of a connection to a port.
#[derive(Serialize)]
pub struct Port<'a> {
    #[serde(flatten)]
    outcome: Outcome<'a>,
    port: u16,
    policies: Vec<PolicyOfPort<'a>>,
    missing: Vec<&'a str>,
}

#[derive(Serialize)]
struct PolicyOfPort<'a> {
    name: &'a str,
    action: &'static str,
    dry_run: bool,
    refused: &'a str,
    rules: Vec<RuleOfPort<'a>>,
}

#[derive(Serialize)]
struct RuleOfPort<'a> {
    matches: bool,
    depends_on_request: bool,
    unmet: &'a [Unmet],
    unjudged: &'a str,
}

impl Guard {
    /// The verdict on a connection, or on a request of it, as `judge` gives it, with its reasons. A request counts only where
    /// requests are judged.
    pub fn explain(&self, attempt: &Attempt, request: Option<Request<'_>>) -> Explanation {
        let mut scratch = String::new();
        let asks = self.sees_requests(attempt);
        let seen = request.filter(|_| asks).map(Seen::from);
        let facts = facts(attempt, seen.as_ref(), &mut scratch);
        let explained = |policy: &Arc<Policy>| {
            let rules = policy.rules.iter().map(|rule| {
                let reading = if asks { rule.seen() } else { &rule.connection };
                // What is counted is requests.
                let unseen = policy.action == Action::Limit && !asks;
                let unmet = if unseen { Some(vec![]) } else { reading.explain(&facts) };
                let depends = asks && seen.is_none() && unmet.is_none() && rule.request.is_some();
                ExplainedRule { unmet, depends, unjudged: reading.unjudged.clone() }
            });
            Explained { policy: policy.clone(), rules: rules.collect() }
        };
        Explanation {
            judgement: self.judge_facts(attempt, seen.as_ref()),
            policies: self.policies.iter().map(explained).collect(),
            missing: self.missing.clone(),
        }
    }
}

impl Port<'_> {
    /// With what it says.
    pub fn verdict(&self) -> (&'static str, String) {
        (self.outcome.verdict, self.outcome.text.clone())
    }
}

impl ExplainedRule {
    pub fn matches(&self) -> bool {
        self.unmet.is_none() && !self.depends
    }
}

impl Explanation {
    /// The policy by which it was decided, and the place of its rule; None: no rule matched, or a policy is missing.
    pub fn decided_by(&self) -> Option<(&Arc<str>, usize)> {
        let decides = |explained: &&Explained| match &self.judgement.verdict {
            Verdict::Denied(name) => explained.policy.name == *name,
            Verdict::Allowed => explained.policy.action == Action::Allow && !explained.policy.dry_run,
            Verdict::NotAllowed | Verdict::NeedsRequest | Verdict::Undecided(_) => false,
        };
        let matching = |explained: &Explained| explained.rules.iter().position(ExplainedRule::matches);
        self.policies.iter().filter(decides).find_map(|one| Some((&one.policy.name, matching(one)?)))
    }

    /// What is decided, and by what; what the judgement tells beside that.
    pub fn outcome(&self) -> Outcome<'_> {
        let Judgement { would_refuse, audited, .. } = &self.judgement;
        let (verdict, text) = match self.judgement.outcome() {
            Ok(()) if self.judgement.verdict == Verdict::NeedsRequest => {
                ("needs_request", "each request is judged".to_owned())
            }
            Ok(()) => ("allowed", "allowed".to_owned()),
            Err(failure) => (failure.refusal.name(), failure.refusal.explain(&failure.detail)),
        };
        let (policy, rule) = self.decided_by().unzip();
        let policy = policy.map(|name| &**name);
        Outcome { verdict, text, policy, rule, would_refuse: would_refuse.as_deref(), audited: audited.as_deref() }
    }

    /// As `outcome`, with every policy and rule.
    pub fn of_port(&self, port: u16) -> Port<'_> {
        Port {
            outcome: self.outcome(),
            port,
            policies: self.policies.iter().map(Explained::of_port).collect(),
            missing: self.missing.iter().map(|name| &**name).collect(),
        }
    }
}

impl Explained {
    fn of_port(&self) -> PolicyOfPort<'_> {
        let Explained { policy, rules } = self;
        PolicyOfPort {
            name: &policy.name,
            action: policy.action_name(),
            dry_run: policy.dry_run,
            refused: &policy.refused,
            rules: rules.iter().map(RuleOfPort::new).collect(),
        }
    }
}

impl<'a> RuleOfPort<'a> {
    fn new(rule: &'a ExplainedRule) -> RuleOfPort<'a> {
        RuleOfPort {
            matches: rule.matches(),
            depends_on_request: rule.depends,
            unmet: rule.unmet.as_deref().unwrap_or_default(),
            unjudged: &rule.unjudged,
        }
    }
}

impl Reading {
    /// Why it does not match; None: it does.
    fn explain(&self, facts: &Facts<'_>) -> Option<Vec<Unmet>> {
        let Clause(matches) = self.unmet(facts)?;
        Some(matches.iter().filter_map(|one| one.unmet(facts)).map(|test| test.explain(facts)).collect())
    }
}

impl Test {
    /// Why it does not hold.
    fn explain(&self, facts: &Facts<'_>) -> Unmet {
        let [name, not_name] = self.condition.names();
        let mut values: Vec<String> = match &self.condition {
            Condition::Caller(Attribute::Account, values) => values.written().map(|text| account(&text)).collect(),
            Condition::Caller(_, values) => values.written().collect(),
            Condition::Source(values) | Condition::Destination(values) => values.written().collect(),
            Condition::Port(ports) => ports.iter().map(u16::to_string).collect(),
            Condition::Request(condition) => condition.written(),
        };
        let more = values.len().saturating_sub(NAMED);
        values.truncate(NAMED);
        let field = if self.negated { not_name } else { name };
        Unmet { field, found: self.condition.found(facts), negated: self.negated, values, more }
    }
}

impl Condition {
    /// The field of a policy in which it is written, and that for its opposite.
    fn names(&self) -> [Cow<'static, str>; 2] {
        let (name, not_name) = match self {
            Condition::Request(condition) => return condition.names(),
            Condition::Caller(Attribute::Principal, _) => ("principals", "notPrincipals"),
            Condition::Caller(Attribute::Account, _) => ("serviceAccounts", "notServiceAccounts"),
            Condition::Caller(Attribute::Namespace, _) => ("namespaces", "notNamespaces"),
            Condition::Source(_) => ("ipBlocks", "notIpBlocks"),
            Condition::Destination(_) => ("destination.ip", "destination.ip (notValues)"),
            Condition::Port(_) => ("ports", "notPorts"),
        };
        [name.into(), not_name.into()]
    }

    /// What the connection has there; None: nothing, in plain text.
    fn found(&self, facts: &Facts<'_>) -> Option<String> {
        match self {
            Condition::Caller(Attribute::Account, _) => {
                facts.caller.map(|caller| account(caller.text(Attribute::Account)))
            }
            Condition::Caller(attribute, _) => facts.caller.map(|caller| caller.text(*attribute).to_owned()),
            Condition::Source(_) => Some(facts.source.to_string()),
            Condition::Destination(_) => Some(facts.destination.to_string()),
            Condition::Port(_) => Some(facts.port.to_string()),
            Condition::Request(condition) => condition.found(facts.request?),
        }
    }
}

/// `ns/<namespace>/sa/<name>`, as it is compared, in the form in which policies have it.
fn account(text: &str) -> String {
    text.strip_prefix("ns/").unwrap_or(text).replacen("/sa/", "/", 1)
}
