//! Verdicts for whoever asks on standard input: how `tests/policy` compares what is compiled here with what it expects. It is
//! one of the unit tests, because a program beside them would have the whole core compiled once more.
//!
//! Each line is a question, in JSON: `{"namespace": "...", "selected_by": [...], "policies": [["ns/name", "<hex>"], ...],
//! "http_ports": [...], "attempts": [["spiffe://..." or null, "10.0.0.1", "10.0.0.2:80", request or null], ...]}`; each answer
//! a line with as many verdicts.

use std::io::{stdin, stdout, BufRead, Write};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{json, Map, Value};

use crate::http::Normalization;
use crate::policy::{Attempt, Explained, ExplainedRule, Guarded, Policies, Policy, Request, Token, Verdict};

#[derive(Deserialize)]
struct Question {
    namespace: String,
    selected_by: Vec<String>,
    /// Name and message.
    policies: Vec<(String, String)>,
    http_ports: Vec<u16>,
    /// Identity, source, destination, and a request.
    attempts: Vec<(Option<String>, String, String, Option<Asked>)>,
}

/// A request as a client sends it; with the claims of a valid token.
#[derive(Deserialize)]
struct Asked {
    method: String,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    remote: String,
    claims: Option<Map<String, Value>>,
}

/// The same as it goes on to the application.
struct Forwarded {
    path: String,
    headers: HeaderMap,
    token: Option<Token>,
}

impl Asked {
    fn forwarded(&self) -> Any<Forwarded> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        let text = |claims: &Map<String, Value>, name| claims[name].as_str().unwrap_or_default().to_owned();
        let token = self.claims.as_ref().map(|claims| Token {
            principal: Some(format!("{}/{}", text(claims, "iss"), text(claims, "sub")).into()),
            claims: claims.clone(),
            words: Box::default(),
        });
        let path = Normalization::default().of(&self.path.parse()?).ok_or("no path")?.path().to_owned();
        Ok(Forwarded { path, headers, token })
    }
}

type Any<T> = Result<T, Box<dyn std::error::Error>>;

fn bytes(hex: &str) -> Any<Vec<u8>> {
    let byte = |at| Ok(u8::from_str_radix(hex.get(at..at + 2).ok_or("half a byte")?, 16)?);
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// For each attempt `[verdict, the policy of a denial, the one that would refuse, the one that audits, what is explained]`;
/// the last has for each policy its action, whether it is in dry run, and whether a rule of it matches.
fn answer(question: Question) -> Any<Vec<serde_json::Value>> {
    let guarded = Guarded {
        namespace: question.namespace.into(),
        selected_by: question.selected_by.into_iter().map(Arc::from).collect(),
        http_ports: question.http_ports.into(),
    };
    let mut policies = Policies::default();
    policies.mark_synced();
    for (name, message) in question.policies {
        policies.insert(&name, Policy::decode(&name, &bytes(&message)?))?;
    }
    policies.recompile([guarded.clone()].into_iter());
    let guard = policies.guard(&guarded).ok_or("not recompiled")?;
    let verdict = |(identity, source, destination, asked): (Option<String>, String, String, Option<Asked>)| -> Any<_> {
        let peer = identity.map(|identity| identity.parse().map(Arc::new)).transpose()?;
        let attempt = Attempt { peer, source: source.parse()?, destination: destination.parse()?, door: None };
        let forwarded = asked.as_ref().map(Asked::forwarded).transpose()?;
        let request = asked.as_ref().zip(forwarded.as_ref()).map(|(asked, Forwarded { path, headers, token })| {
            let (method, authority, token) = (&*asked.method, &*asked.host, token.as_ref());
            asked.remote.parse().map(|remote| Request { method, authority, path, headers, remote, token })
        });
        let request = request.transpose()?;
        let connection = guard.judge(&attempt);
        let judgement = match request.filter(|_| guard.asks_for_requests(attempt.destination.port())) {
            Some(request) => guard.judge_request(&attempt, request),
            None => connection.clone(),
        };
        let explained = |Explained { policy, rules }: &Explained| {
            json!([policy.action.name(), policy.dry_run, rules.iter().any(ExplainedRule::matches)])
        };
        let explained: Vec<_> = guard.explain(&attempt, request).policies.iter().map(explained).collect();
        let (name, policy) = named(&judgement.verdict);
        let [policy, would_refuse, audited] =
            [policy, judgement.would_refuse.as_ref(), judgement.audited.as_ref()].map(|name| name.map(|name| &**name));
        Ok(json!([name, policy, would_refuse, audited, explained, named(&connection.verdict).0]))
    };
    question.attempts.into_iter().map(verdict).collect()
}

fn named(verdict: &Verdict) -> (&'static str, Option<&Arc<str>>) {
    match verdict {
        Verdict::Allowed => ("allowed", None),
        Verdict::Denied(policy) => ("denied", Some(policy)),
        Verdict::NotAllowed => ("not allowed", None),
        Verdict::NeedsRequest => ("needs request", None),
        Verdict::Undecided(policy) => ("undecided", Some(policy)),
    }
}

#[test]
#[ignore = "asked by tests/policy"]
fn of_questions() -> Any<()> {
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let answers = answer(serde_json::from_str(&line?)?)?;
        writeln!(out, "{}", serde_json::Value::from(answers))?;
        out.flush()?;
    }
    Ok(())
}
