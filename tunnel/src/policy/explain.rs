//! Why a verdict is what it is, in words: each policy that holds for a workload, and of each of its rules whether it matches.
//! It is found out by the tests by which the verdict is given.

use std::sync::Arc;

use serde_json::{json, Value};

use super::condition::{Attribute, Condition, Facts, Test};
use super::guard::{facts, Guard};
use super::wire::{Clause, Policy, Rule};
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
    /// For each rule: empty where it matches, else what of the first clause that does not hold is not met, one text for
    /// each way in which it could have held.
    pub rules: Vec<Vec<String>>,
}

impl Guard {
    /// The verdict on a connection, as `judge` gives it, with its reasons.
    pub fn explain(&self, attempt: &Attempt) -> Explanation {
        let mut scratch = String::new();
        let facts = facts(attempt, &mut scratch);
        let explained = |policy: &Arc<Policy>| Explained {
            policy: policy.clone(),
            rules: policy.rules.iter().map(|rule| rule.explain(&facts)).collect(),
        };
        Explanation {
            judgement: self.judge(attempt),
            policies: self.policies.iter().map(explained).collect(),
            missing: self.missing.clone(),
        }
    }
}

impl Explanation {
    /// The policy by which it was decided, and the place of its rule; None: no rule matched, or a policy is missing.
    pub fn decided_by(&self) -> Option<(&Arc<str>, usize)> {
        let decides = |explained: &&Explained| match &self.judgement.verdict {
            Verdict::Denied(name) => explained.policy.name == *name,
            Verdict::Allowed => explained.policy.action == Action::Allow && !explained.policy.dry_run,
            Verdict::NotAllowed | Verdict::Undecided(_) => false,
        };
        let matching = |explained: &Explained| explained.rules.iter().position(Vec::is_empty);
        self.policies.iter().filter(decides).find_map(|one| Some((&one.policy.name, matching(one)?)))
    }

    /// A JSON object: `verdict` (`allowed`, or a refusal's name), `text`, the `policy` and `rule` that decide, and what the
    /// judgement tells beside that.
    pub fn outcome(&self) -> Value {
        let Judgement { would_refuse, audited, .. } = &self.judgement;
        let (name, text) = match self.judgement.outcome() {
            Ok(()) => ("allowed", "allowed".to_owned()),
            Err(failure) => (failure.refusal.name(), failure.refusal.explain(&failure.detail)),
        };
        let (policy, rule) = self.decided_by().unzip();
        json!({
            "verdict": name,
            "text": text,
            "policy": policy.map(|name| &**name),
            "rule": rule,
            "would_refuse": would_refuse.as_deref(),
            "audited": audited.as_deref(),
        })
    }

    /// As `outcome`, with every policy and rule.
    pub fn json(&self) -> Value {
        let rule = |(rule, unmet): (&Rule, &Vec<String>)| json!({ "matches": unmet.is_empty(), "unmet": unmet, "unjudged": &*rule.unjudged });
        let policy = |Explained { policy, rules }: &Explained| {
            json!({
                "name": &*policy.name,
                "action": policy.action.name(),
                "dry_run": policy.dry_run,
                "refused": &*policy.refused,
                "rules": policy.rules.iter().zip(rules).map(rule).collect::<Vec<_>>(),
            })
        };
        let mut value = self.outcome();
        value["policies"] = self.policies.iter().map(policy).collect();
        value["missing"] = self.missing.iter().map(|name| &**name).collect();
        value
    }
}

impl Rule {
    /// Why it does not match; empty: it does.
    fn explain(&self, facts: &Facts<'_>) -> Vec<String> {
        match self.unmet(facts) {
            None => vec![],
            Some(Clause(matches)) if matches.is_empty() && !self.unjudged.is_empty() => {
                vec![format!("it never matches: {} cannot be judged at L4", self.unjudged)]
            }
            Some(Clause(matches)) if matches.is_empty() => {
                vec!["it never matches: what it asks for cannot be judged at L4, or is not understood".to_owned()]
            }
            Some(Clause(matches)) => {
                matches.iter().filter_map(|one| one.unmet(facts)).map(|test| test.explain(facts)).collect()
            }
        }
    }
}

impl Test {
    /// Why it does not hold.
    fn explain(&self, facts: &Facts<'_>) -> String {
        let (name, not_name) = self.condition.names();
        let (mut values, is_in): (Vec<String>, _) = match &self.condition {
            Condition::Caller(Attribute::Account, values) => {
                (values.written().map(|text| account(&text)).collect(), "")
            }
            Condition::Caller(_, values) => (values.written().collect(), ""),
            Condition::Source(values) | Condition::Destination(values) => (values.written().collect(), "in "),
            Condition::Port(ports) => (ports.iter().map(u16::to_string).collect(), ""),
        };
        let several = values.len() > 1;
        if values.len() > NAMED {
            let more = format!("and {} more", values.len() - NAMED);
            values.splice(NAMED.., [more]);
        }
        let values = values.join(", ");
        let Some(found) = self.condition.found(facts) else {
            return format!("{name}: plain text has no identity, which would have to be {values}");
        };
        match (self.negated, several) {
            (false, false) => format!("{name}: {found} is not {is_in}{values}"),
            (false, true) => format!("{name}: {found} is {is_in}none of {values}"),
            (true, false) => format!("{not_name}: {found} is {is_in}{values}"),
            (true, true) => format!("{not_name}: {found} is {is_in}one of {values}"),
        }
    }
}

impl Condition {
    /// The field of a policy in which it is written, and that for its opposite.
    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Condition::Caller(Attribute::Principal, _) => ("principals", "notPrincipals"),
            Condition::Caller(Attribute::Account, _) => ("serviceAccounts", "notServiceAccounts"),
            Condition::Caller(Attribute::Namespace, _) => ("namespaces", "notNamespaces"),
            Condition::Source(_) => ("ipBlocks", "notIpBlocks"),
            Condition::Destination(_) => ("destination.ip", "destination.ip (notValues)"),
            Condition::Port(_) => ("ports", "notPorts"),
        }
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
        }
    }
}

/// `ns/<namespace>/sa/<name>`, as it is compared, in the form in which policies have it.
fn account(text: &str) -> String {
    text.strip_prefix("ns/").unwrap_or(text).replacen("/sa/", "/", 1)
}
