//! All policies that hold for one workload, compiled: the verdict looks only at rules that could match.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::hash::Hash;
use std::sync::Arc;

use super::condition::{Attribute, Caller, Condition, Facts, Test};
use super::wire::{Clause, Match, Policy, Rule};
use super::{Attempt, Judgement, Verdict};
use crate::config::proto::Action;

thread_local! {
    /// The caller's principal: written once for each verdict, into memory that stays.
    static PRINCIPAL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What is enforced at a workload.
#[derive(Debug, Default)]
pub struct Guard {
    /// Ordered by name. The first one that matches gives the reason.
    pub(super) policies: Box<[Arc<Policy>]>,
    /// Policies that belong here and are not known.
    pub(super) missing: Box<[Arc<str>]>,
    /// Of all policies: the index of the policy, and of the rule in it.
    rules: Box<[(u32, u32)]>,
    index: Index,
    /// Whether there is an ALLOW policy that is enforced, and the first one of which the object was refused.
    restricts: bool,
    restricts_refused: Option<u32>,
    /// The first ALLOW policy in dry run.
    would_restrict: Option<u32>,
}

impl Guard {
    /// `policies` and `missing` are in order.
    pub fn new(policies: Vec<Arc<Policy>>, missing: Vec<Arc<str>>) -> Guard {
        let mut guard = Guard { policies: policies.into(), missing: missing.into(), ..Guard::default() };
        let mut rules = vec![];
        for (policy, at) in guard.policies.iter().zip(0..) {
            for (rule, nth) in policy.rules.iter().zip(0..) {
                guard.index.file(rule, rules.len() as u32);
                rules.push((at, nth));
            }
            match (policy.action, policy.dry_run) {
                (Action::Allow, false) => {
                    guard.restricts = true;
                    let refused = (!policy.refused.is_empty()).then_some(at);
                    guard.restricts_refused = guard.restricts_refused.or(refused);
                }
                (Action::Allow, true) => guard.would_restrict = guard.would_restrict.or(Some(at)),
                _ => {}
            }
        }
        guard.rules = rules.into();
        guard
    }

    /// Whether it was compiled of just these.
    pub fn is_of(&self, policies: &[Arc<Policy>], missing: &[Arc<str>]) -> bool {
        let same = |(one, other): (&Arc<Policy>, &Arc<Policy>)| Arc::ptr_eq(one, other);
        self.policies.len() == policies.len()
            && self.policies.iter().zip(policies).all(same)
            && *self.missing == *missing
    }

    /// The verdict on one connection: DENY before ALLOW, and what is not denied is allowed where no policy allows.
    pub fn judge(&self, attempt: &Attempt) -> Judgement {
        if self.policies.is_empty() && self.missing.is_empty() {
            return Verdict::Allowed.into();
        }
        let tally = PRINCIPAL.with_borrow_mut(|scratch| self.count(&facts(attempt, scratch)));
        let name = |at: u32| self.policies[at as usize].name.clone();
        let verdict = match (tally.denied, self.missing.first()) {
            (Some(at), _) => Verdict::Denied(name(at)),
            (None, Some(missing)) => Verdict::Undecided(missing.clone()),
            (None, None) if self.restricts && !tally.allowed => Verdict::NotAllowed,
            (None, None) => Verdict::Allowed,
        };
        let behind = match verdict {
            Verdict::Denied(_) => tally.denied,
            Verdict::NotAllowed => self.restricts_refused,
            Verdict::Allowed | Verdict::Undecided(_) => None,
        };
        let refused = behind.map(|at| &self.policies[at as usize]).filter(|policy| !policy.refused.is_empty()).cloned();
        let unless_allowed = self.would_restrict.filter(|_| !tally.allowed && !tally.would_allow);
        let would_refuse = tally.would_deny.or(unless_allowed).filter(|_| verdict == Verdict::Allowed);
        Judgement { verdict, refused, would_refuse: would_refuse.map(name), audited: tally.audited.map(name) }
    }

    fn count(&self, facts: &Facts<'_>) -> Tally {
        let mut tally = Tally::default();
        for id in self.index.candidates(facts) {
            let (at, nth) = self.rules[id as usize];
            let policy = &self.policies[at as usize];
            if !policy.rules[nth as usize].matches(facts) {
                continue;
            }
            match (policy.action, policy.dry_run) {
                (Action::Allow, false) => tally.allowed = true,
                (Action::Allow, true) => tally.would_allow = true,
                (Action::Deny, false) => first(&mut tally.denied, at),
                (Action::Deny, true) => first(&mut tally.would_deny, at),
                (Action::Audit, _) => first(&mut tally.audited, at),
            }
        }
        tally
    }
}

/// What matches: for each question the first policy, by its index.
#[derive(Default)]
struct Tally {
    allowed: bool,
    would_allow: bool,
    denied: Option<u32>,
    would_deny: Option<u32>,
    audited: Option<u32>,
}

fn first(known: &mut Option<u32>, at: u32) {
    *known = Some(known.map_or(at, |known| known.min(at)));
}

/// What of an attempt conditions are about. `scratch` takes the caller's principal.
pub(super) fn facts<'a>(attempt: &'a Attempt, scratch: &'a mut String) -> Facts<'a> {
    let caller = attempt.peer.as_ref().map(|peer| {
        scratch.clear();
        let _ = write!(scratch, "{}/ns/{}/sa/{}", peer.trust_domain, peer.namespace, peer.service_account);
        let account = &scratch[peer.trust_domain.len() + 1..];
        Caller([scratch, account, &peer.namespace])
    });
    let destination = attempt.destination;
    Facts { caller, source: attempt.source, destination: destination.ip(), port: destination.port() }
}

impl Rule {
    fn matches(&self, facts: &Facts<'_>) -> bool {
        self.unmet(facts).is_none()
    }

    /// The first clause that does not hold.
    pub(super) fn unmet(&self, facts: &Facts<'_>) -> Option<&Clause> {
        self.clauses.iter().find(|Clause(matches)| matches.iter().all(|one| one.unmet(facts).is_some()))
    }
}

impl Match {
    /// The first test that does not hold.
    pub(super) fn unmet(&self, facts: &Facts<'_>) -> Option<&Test> {
        self.0.iter().find(|test| !test.holds(facts))
    }
}

/// Rules, each filed under values of which a connection must have one for the rule to match, where there are such.
#[derive(Debug, Default)]
struct Index {
    /// By attribute.
    callers: [HashMap<Box<str>, Vec<u32>>; 3],
    ports: HashMap<u16, Vec<u32>>,
    others: Vec<u32>,
}

impl Index {
    fn file(&mut self, rule: &Rule, id: u32) {
        let worst = |demands: &Vec<Demand<'_>>| demands.iter().map(Demand::rank).max();
        let Some(demands) = rule.clauses.iter().filter_map(Clause::demands).min_by_key(worst) else {
            return self.others.push(id);
        };
        for demand in demands {
            match demand {
                Demand::Caller(attribute, texts) => put(&mut self.callers[attribute as usize], texts, id),
                Demand::Port(ports) => put(&mut self.ports, ports, id),
            }
        }
    }

    /// Some of them maybe twice.
    fn candidates<'a>(&'a self, facts: &Facts<'_>) -> impl Iterator<Item = u32> + 'a {
        let by_caller = |attribute| self.callers[attribute as usize].get(facts.caller?.text(attribute));
        let [principal, account, namespace] = Attribute::ALL.map(by_caller);
        let filed = [principal, account, namespace, self.ports.get(&facts.port), Some(&self.others)];
        filed.into_iter().flatten().flatten().copied()
    }
}

/// Exact values of which a connection must have one for a match to hold.
enum Demand<'a> {
    Caller(Attribute, &'a [Box<str>]),
    Port(&'a [u16]),
}

impl Clause {
    /// One of each match; None where a match has none. A clause that never holds has no matches: nothing leads to its rule.
    fn demands(&self) -> Option<Vec<Demand<'_>>> {
        self.0.iter().map(|Match(tests)| tests.iter().filter_map(Test::demand).min_by_key(Demand::rank)).collect()
    }
}

impl Test {
    fn demand(&self) -> Option<Demand<'_>> {
        match &self.condition {
            _ if self.negated => None,
            Condition::Caller(attribute, values) => Some(Demand::Caller(*attribute, values.only_exact()?)),
            Condition::Port(ports) => Some(Demand::Port(ports)),
            Condition::Source(_) | Condition::Destination(_) => None,
        }
    }
}

impl Demand<'_> {
    /// The lower, the more connections it tells apart.
    fn rank(&self) -> u8 {
        match self {
            Demand::Caller(attribute, _) => *attribute as u8,
            Demand::Port(_) => u8::MAX,
        }
    }
}

/// Once under each value.
fn put<T: Clone + Eq + Hash>(filed: &mut HashMap<T, Vec<u32>>, values: &[T], id: u32) {
    for value in values {
        let ids = filed.entry(value.clone()).or_default();
        if ids.last() != Some(&id) {
            ids.push(id);
        }
    }
}
