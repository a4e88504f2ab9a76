//! Who may talk to whom, for those who ask: why, and what would be different under other policies.
use super::command::Command;
use super::question::Question;
use super::{lock, Core};
use crate::base::PodKey;
use crate::config::push::Push;
use crate::direct;
use crate::mesh::Mesh;
use crate::policy::{Admitted, Outcome};
use prost::bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde_json::{json, Value};
use std::collections::HashMap;

impl Core {
    /// What the policies in force say of connections, and why, as JSON. Errors say what to ask instead.
    pub fn explain(&self, question: &Question<'_>) -> Result<String, String> {
        let pods: Vec<PodKey> = lock(&self.pods).values().map(|pod| pod.key.clone()).collect();
        question.answer(&self.mesh(), &pods).map(|answer| answer.to_string())
    }

    /// What would become of the connections that are open now if these pushes came, none of which comes into force: a JSON
    /// array with each one's `connection` and outcome, and whether it would be `closed`.
    pub fn check(&self, pushes: Vec<Bytes>) -> Result<String, String> {
        let mut mesh = Mesh::clone(&self.mesh());
        for push in pushes {
            let push = Push::decode(push).map_err(|error| error.to_string())?;
            let (next, rejected) = mesh.apply(&push.type_url, push.sent(), &push.removed_resources);
            if let Some(first) = rejected.first() {
                return Err(format!("{}: {}", first.name, first.reason));
            }
            mesh = next;
        }
        let mut open = self.collect(Command::Admitted).concat();
        open.extend(self.ask_direct(direct::Command::Admitted));
        let judged: Vec<Value> = open.iter().filter_map(|admitted| outcome(&mesh, admitted)).collect();
        Ok(Value::from(judged).to_string())
    }

    /// The policies in force, as a JSON array: each with how often it has said what.
    pub fn policies(&self) -> String {
        let mut said: HashMap<String, HashMap<String, u64>> = HashMap::new();
        self.shared.telemetry.verdicts(|policy, verdict, times| {
            said.entry(policy.to_owned()).or_default().insert(verdict.to_owned(), times);
        });
        let mesh = self.mesh();
        let mut policies: Vec<_> = mesh.policies().collect();
        policies.sort_unstable_by_key(|policy| &policy.name);
        let told = policies.into_iter().map(|policy| PolicyCount {
            name: &policy.name,
            action: policy.action_name(),
            dry_run: policy.dry_run,
            verdicts: said.remove(&*policy.name).unwrap_or_default(),
        });
        json!(told.collect::<Vec<_>>()).to_string()
    }
}

/// What would become of a connection, with the fields of protocols/admin.py.
#[derive(Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    outcome: Outcome<'a>,
    closed: bool,
    connection: Value,
}

/// A policy, and how often it has given each verdict.
#[derive(Serialize)]
struct PolicyCount<'a> {
    name: &'a str,
    action: &'static str,
    dry_run: bool,
    verdicts: HashMap<String, u64>,
}

/// None for a connection of a pod that is gone. What cannot be decided stays as it was decided before.
fn outcome(mesh: &Mesh, Admitted { pod, attempt, requests, record }: &Admitted) -> Option<Value> {
    let explanation = mesh.guard(pod)?.explain(attempt, None);
    let closed = !explanation.judgement.verdict.keeps(*requests);
    let connection = serde_json::from_str(record).unwrap_or_default();
    serde_json::to_value(Judged { outcome: explanation.outcome(), closed, connection }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::proto;
    use crate::mesh::testing::{pod, resource, sent};
    use crate::policy::Attempt;

    #[test]
    fn what_cannot_be_decided_would_stay_open() {
        let web = proto::Workload { authorization_policies: vec!["default/late".into()], ..pod("web", &["10.0.0.2"]) };
        let mut mesh = Mesh::new("node-1").and([resource(web)]);
        mesh.know_all_policies();
        let attempt = Attempt {
            peer: None,
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2:80".parse().unwrap(),
            door: None,
        };
        let admitted =
            Admitted { pod: mesh.pod("web").key(), attempt, requests: false, record: r#"{"x":1}"#.to_owned() };
        let told = outcome(&mesh, &admitted).unwrap();
        assert_eq!((&told["closed"], &told["verdict"]), (&false.into(), &"policy_unknown".into()));
        assert_eq!(told["connection"], json!({ "x": 1 }));
        let late =
            proto::Authorization { name: "late".into(), namespace: "default".into(), scope: 2, ..Default::default() };
        let mesh = mesh.apply(proto::AUTHORIZATION, [sent(proto::AUTHORIZATION, "default/late", &late)], &[]).0;
        assert_eq!(outcome(&mesh, &admitted).unwrap()["closed"], true, "it allows nobody");
        let gone = mesh.without(&["Kubernetes//Pod/default/web"]);
        assert_eq!(outcome(&gone, &admitted), None);
    }
}
