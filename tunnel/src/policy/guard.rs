//! All policies that hold for one workload, compiled: a verdict looks only at rules that could match.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::hash::Hash;
use std::sync::Arc;

use super::condition::{Attribute, Caller, Condition, Facts, Test};
use super::jwt::{self, Authenticated, Carrier};
use super::request::{Request, Seen};
use super::wire::{Clause, Match, Policy, Reading};
use super::{Attempt, Judgement, Verdict};
use crate::config::proto::Action;

thread_local! {
    /// The caller's principal: written once for each verdict, into memory that stays.
    pub(super) static PRINCIPAL: RefCell<String> = const { RefCell::new(String::new()) };
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
    /// For connections of which the requests are not seen.
    index: Index,
    requests: Option<Requests>,
    /// Whether there is an ALLOW policy that is enforced, and the first one of which the object was refused.
    restricts: bool,
    restricts_refused: Option<u32>,
    /// The first ALLOW policy in dry run.
    would_restrict: Option<u32>,
    pub(super) limits_connections: bool,
}

/// Where requests are judged.
#[derive(Debug)]
struct Requests {
    /// In order.
    ports: Box<[u16]>,
    index: Index,
    /// Whether tokens are verified.
    tokens: bool,
    /// Whether there are policies that have requests counted, or somebody asked about them.
    consults: bool,
    /// An ALLOW policy that is enforced asks for requests: then who is not allowed is told so in HTTP.
    restrict: bool,
}

impl Guard {
    /// `policies` and `missing` are in order. `http_ports`: those of the workload, in order.
    pub fn new(policies: Vec<Arc<Policy>>, missing: Vec<Arc<str>>, http_ports: &[u16]) -> Guard {
        let mut guard = Guard { policies: policies.into(), missing: missing.into(), ..Guard::default() };
        let mut rules = vec![];
        for (policy, at) in guard.policies.iter().zip(0..) {
            for (rule, nth) in policy.rules.iter().zip(0..) {
                if policy.action != Action::Limit {
                    guard.index.file(&rule.connection, rules.len() as u32);
                }
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
        guard.limits_connections = guard.policies.iter().any(|policy| policy.limits_connections());
        guard.requests = Requests::new(&guard.policies, http_ports);
        guard
    }

    /// Whether it was compiled of just these, for a workload that has the same ports.
    pub fn is_of(&self, policies: &[Arc<Policy>], missing: &[Arc<str>]) -> bool {
        let same = |(one, other): (&Arc<Policy>, &Arc<Policy>)| Arc::ptr_eq(one, other);
        self.policies.len() == policies.len()
            && self.policies.iter().zip(policies).all(same)
            && *self.missing == *missing
    }

    /// The verdict on one connection: DENY before ALLOW, and what is not denied is allowed where no policy allows. It is
    /// left to the requests where these are seen and a rule that could match asks for them.
    pub fn judge(&self, attempt: &Attempt) -> Judgement {
        self.judge_facts(attempt, None)
    }

    /// The verdict on a request of a connection to a port where requests are judged.
    pub fn judge_request(&self, attempt: &Attempt, request: Request<'_>) -> Judgement {
        self.judge_facts(attempt, Some(&Seen::from(request)))
    }

    /// Verifies the tokens of a request, and has it go on as their rules want it. `now`: seconds since 1970. Errors: why one
    /// is not valid, in Envoy's words.
    pub fn authenticate(&self, carrier: Carrier<'_>, now: u64) -> Result<Authenticated, &'static str> {
        let rules: Vec<_> = self.verifying().flat_map(|policy| &policy.tokens).collect();
        jwt::authenticate(&rules, carrier, now)
    }

    /// The policies by which tokens are verified.
    pub fn verifying(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().filter(|policy| !policy.tokens.is_empty())
    }

    /// Whether tokens of requests are verified.
    pub fn asks_for_tokens(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.tokens)
    }

    /// The policies that have somebody asked about a request.
    pub fn asking(&self, attempt: &Attempt, request: Request<'_>) -> Vec<Arc<Policy>> {
        let asks = |policy: &Policy| policy.authorizer.is_some();
        self.consulted(asks, attempt, request, |policy, rules| rules.next().map(|_| policy.clone()))
    }

    /// Whether there are policies that have requests counted, or somebody asked about them.
    pub fn consults(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.consults)
    }

    /// `found` gets a policy, and the places of its rules that match.
    pub(super) fn consulted<T>(
        &self,
        wanted: impl Fn(&Policy) -> bool,
        attempt: &Attempt,
        request: Request<'_>,
        found: impl Fn(&Arc<Policy>, &mut dyn Iterator<Item = usize>) -> Option<T>,
    ) -> Vec<T> {
        if !self.consults() {
            return vec![];
        }
        let seen = Seen::from(request);
        PRINCIPAL.with_borrow_mut(|scratch| {
            let facts = facts(attempt, Some(&seen), scratch);
            let matching = |policy: &Arc<Policy>| {
                let rules = policy.rules.iter().enumerate().filter(|(_, rule)| rule.seen().unmet(&facts).is_none());
                found(policy, &mut rules.map(|(nth, _)| nth))
            };
            self.policies.iter().filter(|policy| wanted(policy)).filter_map(matching).collect()
        })
    }

    /// Whether policies may look at what is asked for over connections to a port.
    pub fn asks_for_requests(&self, port: u16) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.ports.binary_search(&port).is_ok())
    }

    pub(super) fn judge_facts(&self, attempt: &Attempt, request: Option<&Seen<'_>>) -> Judgement {
        if self.policies.is_empty() && self.missing.is_empty() {
            return Verdict::Allowed.into();
        }
        let seen = self.seen_at(attempt);
        let tally = PRINCIPAL.with_borrow_mut(|scratch| self.count(&facts(attempt, request, scratch), seen));
        let name = |at: u32| self.policies[at as usize].name.clone();
        let not_allowed = self.restricts && !tally.allowed;
        let depends = tally.depends || tally.may_allow && !tally.allowed;
        let could_restrict = || seen.is_some_and(|requests| requests.restrict) && request.is_none();
        let verdict = match (tally.denied, self.missing.first()) {
            (Some(at), _) => Verdict::Denied(name(at)),
            (None, Some(missing)) => Verdict::Undecided(missing.clone()),
            (None, None) if depends || not_allowed && could_restrict() => Verdict::NeedsRequest,
            (None, None) if not_allowed => Verdict::NotAllowed,
            (None, None) => Verdict::Allowed,
        };
        let behind = match verdict {
            Verdict::Denied(_) => tally.denied,
            Verdict::NotAllowed => self.restricts_refused,
            Verdict::Allowed | Verdict::NeedsRequest | Verdict::Undecided(_) => None,
        };
        let refused = behind.map(|at| &self.policies[at as usize]).filter(|policy| !policy.refused.is_empty()).cloned();
        let unless_allowed = self.would_restrict.filter(|_| !tally.allowed && !tally.would_allow);
        let would_refuse = tally.would_deny.or(unless_allowed).filter(|_| verdict == Verdict::Allowed);
        Judgement { verdict, refused, would_refuse: would_refuse.map(name), audited: tally.audited.map(name) }
    }

    fn seen_at(&self, attempt: &Attempt) -> Option<&Requests> {
        self.requests.as_ref().filter(|_| self.sees_requests(attempt))
    }

    /// Whether policies look at the requests of a connection.
    pub(super) fn sees_requests(&self, attempt: &Attempt) -> bool {
        let opaque = attempt.door.as_ref().is_some_and(|door| door.opaque);
        !opaque && self.asks_for_requests(attempt.destination.port())
    }

    fn count(&self, facts: &Facts<'_>, seen: Option<&Requests>) -> Tally {
        let depends = facts.request.is_none() && seen.is_some_and(|seen| seen.tokens || seen.consults);
        let mut tally = Tally { depends, ..Tally::default() };
        for id in seen.map_or(&self.index, |requests| &requests.index).candidates(facts) {
            let (at, nth) = self.rules[id as usize];
            let policy = &self.policies[at as usize];
            let rule = &policy.rules[nth as usize];
            let reading = if seen.is_some() { rule.seen() } else { &rule.connection };
            if reading.unmet(facts).is_some() {
                continue;
            }
            if facts.request.is_none() && seen.is_some() && rule.request.is_some() {
                let only_allows = policy.action == Action::Allow && !policy.dry_run;
                *(if only_allows { &mut tally.may_allow } else { &mut tally.depends }) = true;
                continue;
            }
            match (policy.action, policy.dry_run) {
                (Action::Allow, false) => tally.allowed = true,
                (Action::Allow, true) => tally.would_allow = true,
                (Action::Deny, false) => first(&mut tally.denied, at),
                (Action::Deny, true) => first(&mut tally.would_deny, at),
                (Action::Audit, _) => first(&mut tally.audited, at),
                (Action::Limit, _) => {} // it is in no index
            }
        }
        tally
    }
}

impl Requests {
    /// None where nothing asks for them.
    fn new(policies: &[Arc<Policy>], http_ports: &[u16]) -> Option<Requests> {
        let asks = |policy: &Arc<Policy>| policy.rules.iter().any(|rule| rule.request.is_some());
        let tokens = policies.iter().any(|policy| !policy.tokens.is_empty());
        let consults = policies.iter().any(|policy| policy.consults());
        if http_ports.is_empty() || !(tokens || consults || policies.iter().any(asks)) {
            return None;
        }
        let mut index = Index::default();
        let rules = policies.iter().flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)));
        let judging = rules.zip(0..).filter(|((policy, _), _)| !policy.consults() && policy.action != Action::Limit);
        judging.for_each(|((_, rule), id)| index.file(rule.seen(), id));
        let allows = |policy: &Arc<Policy>| policy.action == Action::Allow && !policy.dry_run;
        let restrict = policies.iter().any(|policy| allows(policy) && asks(policy));
        Some(Requests { ports: http_ports.into(), index, tokens, consults, restrict })
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
    /// Depending on the request: an ALLOW rule could match, or another one.
    may_allow: bool,
    depends: bool,
}

fn first(known: &mut Option<u32>, at: u32) {
    *known = Some(known.map_or(at, |known| known.min(at)));
}

/// What of an attempt conditions are about. `scratch` takes the caller's principal.
pub(super) fn facts<'a>(attempt: &'a Attempt, request: Option<&'a Seen<'a>>, scratch: &'a mut String) -> Facts<'a> {
    let caller = attempt.peer.as_ref().map(|peer| {
        scratch.clear();
        let _ = write!(scratch, "{}/ns/{}/sa/{}", peer.trust_domain, peer.namespace, peer.service_account);
        let account = &scratch[peer.trust_domain.len() + 1..];
        Caller([scratch, account, &peer.namespace])
    });
    let destination = attempt.destination;
    Facts { caller, source: attempt.source, destination: destination.ip(), port: destination.port(), request }
}

impl Reading {
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
    fn file(&mut self, rule: &Reading, id: u32) {
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
            Condition::Source(_) | Condition::Destination(_) | Condition::Request(_) => None,
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
