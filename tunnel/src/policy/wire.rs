//! A policy from its message (`istio.security.Authorization`). What is not understood is an error, never left out: a
//! rule with a condition less would match more.

mod request;

use std::sync::Arc;

use prost::Message;

use super::condition::{Addresses, Attribute, Condition, Strings, Test};
use super::jwt::TokenRule;
use super::limit::Limit;
use super::remote::Authorizer;
use super::template::Template;
use crate::base::Prefix;
use crate::config::proto::{self, Action, MatchType, PolicyScope};

/// Where a policy holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    Mesh,
    Namespace(Arc<str>),
    /// At the workloads that name it.
    Named,
}

impl Reach {
    /// As users know it.
    pub fn name(&self) -> &'static str {
        match self {
            Reach::Mesh => "mesh",
            Reach::Namespace(_) => "namespace",
            Reach::Named => "selector",
        }
    }
}

/// One policy, checked.
#[derive(Debug, PartialEq)]
pub struct Policy {
    /// `namespace/name`.
    pub name: Arc<str>,
    pub reach: Reach,
    pub action: Action,
    /// Judged and told, never enforced.
    pub dry_run: bool,
    /// Why the control plane refused the object that it is of, and what this is of it; empty: it did not.
    pub refused: Box<str>,
    /// Any of them, as many as its author wrote: a rule goes by its place.
    pub rules: Box<[Rule]>,
    /// Which tokens of requests are valid.
    pub tokens: Box<[TokenRule]>,
    /// Who is asked about requests in the place of denying them.
    pub authorizer: Option<Authorizer>,
}

/// A rule in its two readings.
#[derive(Debug, PartialEq)]
pub struct Rule {
    /// Where only the connection is seen.
    pub connection: Reading,
    /// Where requests are; None: the same.
    pub request: Option<Reading>,
    /// Of a policy that limits.
    pub limit: Option<Limit>,
}

/// All clauses have to hold; none: it always matches.
#[derive(Debug, PartialEq)]
pub struct Reading {
    pub clauses: Box<[Clause]>,
    /// The fields that its author wrote and that cannot be judged there; empty: all can.
    pub unjudged: Box<str>,
}

/// Any of the matches has to hold; none: it never does.
#[derive(Debug, PartialEq)]
pub struct Clause(pub Box<[Match]>);

/// All tests have to hold; there is one at least.
#[derive(Debug, PartialEq)]
pub struct Match(pub Box<[Test]>);

/// Why a policy was not taken in, and whom it may have been meant for.
#[derive(Debug, PartialEq)]
pub struct Unreadable {
    pub reason: String,
    /// None where it would not have been enforced.
    pub reach: Option<Reach>,
}

impl Unreadable {
    /// Nothing of it is known: it may have been meant for anybody.
    pub fn lost(reason: String) -> Unreadable {
        Unreadable { reason, reach: Some(Reach::Mesh) }
    }
}

impl Policy {
    /// `name` is the resource's.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Policy, Unreadable> {
        let lost = Unreadable::lost;
        let message = proto::Authorization::decode(bytes).map_err(|error| lost(error.to_string()))?;
        let own = format!("{}/{}", message.namespace, message.name);
        if own != name {
            return Err(lost(format!("its own name is {own:?}")));
        }
        let scope = PolicyScope::try_from(message.scope);
        let reach = match scope {
            Ok(PolicyScope::Global) => Reach::Mesh,
            Ok(PolicyScope::Namespace) => Reach::Namespace(message.namespace.as_str().into()),
            Ok(PolicyScope::WorkloadSelector) => Reach::Named,
            Err(_) => return Err(lost(format!("scope {} is unknown", message.scope))),
        };
        let policy = checked(name, reach.clone(), &message, bytes);
        policy.map_err(|reason| Unreadable { reason, reach: (!message.dry_run).then_some(reach) })
    }

    /// Whether it has requests counted, or somebody asked about them: it judges none of them itself.
    pub fn consults(&self) -> bool {
        let counts = |rule: &Rule| rule.limit.as_ref().is_some_and(|limit| !limit.is_of_connections());
        self.authorizer.is_some() || self.rules.iter().any(counts)
    }

    /// Whether it limits connections.
    pub fn limits_connections(&self) -> bool {
        self.rules.iter().any(|rule| rule.limit.as_ref().is_some_and(Limit::is_of_connections))
    }

    /// Its action, as users write it.
    pub fn action_name(&self) -> &'static str {
        if self.authorizer.is_some() {
            "CUSTOM"
        } else {
            self.action.name()
        }
    }

    /// As a reason for what became of a connection: its name, and that it was refused.
    pub fn blamed(&self) -> String {
        match &*self.refused {
            "" => self.name.to_string(),
            refused => format!("{}, {refused}", self.name),
        }
    }
}

fn checked(name: &str, reach: Reach, message: &proto::Authorization, bytes: &[u8]) -> Result<Policy, String> {
    // A field that we do not know is not there any more; then the message is shorter than what it was read from.
    if message.encoded_len() != bytes.len() {
        return Err("it has a field that this version does not know".to_owned());
    }
    let action = Action::try_from(message.action).map_err(|_| format!("action {} is unknown", message.action))?;
    let rules = message.rules.iter().map(|rule| decode_rule(rule, action)).collect::<Result<_, _>>()?;
    let tokens = message.jwt_rules.iter().map(TokenRule::decode).collect::<Result<_, _>>()?;
    let authorizer = message.authorizer.as_ref().map(Authorizer::decode).transpose()?;
    if authorizer.is_some() && action != Action::Deny {
        return Err(format!("action {} asks nobody", action.name()));
    }
    let (name, refused) = (name.into(), message.refused.as_str().into());
    Ok(Policy { name, reach, action, dry_run: message.dry_run, refused, rules, tokens, authorizer })
}

impl Rule {
    /// As it is judged where requests are seen.
    pub fn seen(&self) -> &Reading {
        self.request.as_ref().unwrap_or(&self.connection)
    }
}

fn decode_rule(message: &proto::Rule, action: Action) -> Result<Rule, String> {
    let matches = |clause: &proto::Clause| clause.matches.iter().map(decode_match).collect();
    let clauses = message.clauses.iter().map(matches).collect::<Result<_, _>>()?;
    let request = message.request.as_ref().map(|request| request::decode(request, action)).transpose()?;
    let limit = message.limit.as_ref().map(Limit::decode).transpose()?;
    if limit.is_some() != (action == Action::Limit) {
        return Err(format!(
            "a rule with the action {} has {} limit",
            action.name(),
            if limit.is_some() { "a" } else { "no" }
        ));
    }
    Ok(Rule { connection: Reading::new(clauses, &message.unjudged), request, limit })
}

impl Reading {
    /// A clause in which no match asks for anything never holds; one without any match is none.
    fn new(clauses: Vec<Vec<Match>>, unjudged: &str) -> Reading {
        let clauses = clauses.into_iter().filter(|matches| !matches.is_empty());
        let asking = |matches: Vec<Match>| matches.into_iter().filter(|Match(tests)| !tests.is_empty()).collect();
        Reading { clauses: clauses.map(|matches| Clause(asking(matches))).collect(), unjudged: unjudged.into() }
    }
}

fn decode_match(message: &proto::Match) -> Result<Match, String> {
    let mut tests = vec![];
    // A field without values asks for nothing.
    let mut put = |positive: Option<Condition>, negative: Option<Condition>| {
        let test = |negated| move |condition| Test { condition, negated, any_form: false };
        tests.extend(positive.map(test(false)));
        tests.extend(negative.map(test(true)));
    };
    let m = message;
    put(strings(Attribute::Namespace, &m.namespaces)?, strings(Attribute::Namespace, &m.not_namespaces)?);
    put(strings(Attribute::Principal, &m.principals)?, strings(Attribute::Principal, &m.not_principals)?);
    put(accounts(&m.service_accounts), accounts(&m.not_service_accounts));
    put(addresses(Condition::Source, &m.source_ips)?, addresses(Condition::Source, &m.not_source_ips)?);
    put(
        addresses(Condition::Destination, &m.destination_ips)?,
        addresses(Condition::Destination, &m.not_destination_ips)?,
    );
    put(ports(&m.destination_ports)?, ports(&m.not_destination_ports)?);
    Ok(Match(tests.into()))
}

fn strings(of: Attribute, sent: &[proto::StringMatch]) -> Result<Option<Condition>, String> {
    let (values, templates) = texts(sent)?;
    if !templates.is_empty() {
        return Err("a template is of a request's path".to_owned());
    }
    Ok((!sent.is_empty()).then_some(Condition::Caller(of, values)))
}

pub(super) fn texts(sent: &[proto::StringMatch]) -> Result<(Strings, Vec<Template>), String> {
    let (mut any, mut exact, mut prefixes, mut suffixes, mut templates) = (false, vec![], vec![], vec![], vec![]);
    for value in sent {
        match value.match_type.as_ref().ok_or("a value is of no kind that this version knows")? {
            MatchType::Exact(text) => exact.push(text.as_str().into()),
            MatchType::Prefix(text) => prefixes.push(text.as_str().into()),
            MatchType::Suffix(text) => suffixes.push(text.as_str().into()),
            MatchType::Presence(()) => any = true,
            MatchType::Template(text) => templates.push(Template::parse(text)?),
        }
    }
    Ok((Strings::new(any, exact, prefixes, suffixes), templates))
}

/// Compared without the trust domain.
fn accounts(sent: &[proto::ServiceAccountMatch]) -> Option<Condition> {
    let account = |sent: &proto::ServiceAccountMatch| format!("ns/{}/sa/{}", sent.namespace, sent.service_account);
    let values = sent.iter().map(|sent| account(sent).into()).collect();
    (!sent.is_empty()).then(|| Condition::Caller(Attribute::Account, Strings::new(false, values, vec![], vec![])))
}

fn addresses(of: fn(Addresses) -> Condition, sent: &[proto::Prefix]) -> Result<Option<Condition>, String> {
    let ranges = ranges(sent)?;
    Ok((!sent.is_empty()).then(|| of(ranges)))
}

fn ranges(sent: &[proto::Prefix]) -> Result<Addresses, String> {
    let prefix = |sent: &proto::Prefix| Prefix::new(&sent.address, sent.length);
    Ok(Addresses::new(&sent.iter().map(prefix).collect::<Result<Vec<_>, _>>()?))
}

fn ports(sent: &[u32]) -> Result<Option<Condition>, String> {
    let port = |port: &u32| u16::try_from(*port).map_err(|_| format!("port {port} is out of range"));
    let mut ports = sent.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    ports.sort_unstable();
    ports.dedup();
    Ok((!sent.is_empty()).then(|| Condition::Port(ports.into())))
}
