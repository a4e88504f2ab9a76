//! Verdicts for whoever asks on standard input: how tests compare what is compiled here with what they expect.
//!
//! Each line is a question, in JSON: `{"namespace": "...", "selected_by": [...], "policies": [["ns/name", "<hex>"], ...],
//! "attempts": [["spiffe://..." or null, "10.0.0.1", "10.0.0.2:80"], ...]}`; each answer a line with as many verdicts.

use std::io::{stdin, stdout, BufRead, Write};
use std::sync::Arc;

use _core::policy::{Attempt, Explained, Guarded, Policies, Policy, Verdict};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Question {
    namespace: String,
    selected_by: Vec<String>,
    /// Name and message.
    policies: Vec<(String, String)>,
    /// Identity, source and destination.
    attempts: Vec<(Option<String>, String, String)>,
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
    };
    let mut policies = Policies::default();
    policies.mark_synced();
    for (name, message) in question.policies {
        policies.insert(&name, Policy::decode(&name, &bytes(&message)?))?;
    }
    policies.recompile([guarded.clone()].into_iter());
    let guard = policies.guard(&guarded).ok_or("not recompiled")?;
    let verdict = |(identity, source, destination): (Option<String>, String, String)| -> Any<_> {
        let peer = identity.map(|identity| identity.parse().map(Arc::new)).transpose()?;
        let attempt = Attempt { peer, source: source.parse()?, destination: destination.parse()? };
        let judgement = guard.judge(&attempt);
        let explained = |Explained { policy, rules }: &Explained| {
            json!([policy.action.name(), policy.dry_run, rules.iter().any(Option::is_none)])
        };
        let explained: Vec<_> = guard.explain(&attempt).policies.iter().map(explained).collect();
        let (name, policy) = match &judgement.verdict {
            Verdict::Allowed => ("allowed", None),
            Verdict::Denied(policy) => ("denied", Some(policy)),
            Verdict::NotAllowed => ("not allowed", None),
            Verdict::Undecided(policy) => ("undecided", Some(policy)),
        };
        let [policy, would_refuse, audited] =
            [policy, judgement.would_refuse.as_ref(), judgement.audited.as_ref()].map(|name| name.map(|name| &**name));
        Ok(json!([name, policy, would_refuse, audited, explained]))
    };
    question.attempts.into_iter().map(verdict).collect()
}

fn main() -> Any<()> {
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let answers = answer(serde_json::from_str(&line?)?)?;
        writeln!(out, "{}", serde_json::Value::from(answers))?;
        out.flush()?;
    }
    Ok(())
}
