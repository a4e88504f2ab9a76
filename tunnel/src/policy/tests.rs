mod consulting;
mod explanations;
mod jwt;
mod requests;
mod verdicts;

use super::condition::Caller;
use super::*;
use crate::config::proto::{self, Action, MatchType, PolicyScope};
use crate::config::Resource;
use crate::mesh::testing::{bytes, pod, resource, sent};
use crate::mesh::{Mesh, Rejected};
use std::slice::from_ref;

/// A match as text: `principals=td/ns/a/sa/b,td/* !ports=80`; strings may be `exact`, `pre*`, `*fix` or `*`.
fn matching(text: &str) -> proto::Match {
    let mut m = proto::Match::default();
    for field in text.split_whitespace() {
        let (negated, field) = field.strip_prefix('!').map_or((false, field), |field| (true, field));
        let (name, values) = field.split_once('=').unwrap();
        let values: Vec<&str> = values.split(',').collect();
        let strings = || values.iter().map(|value| string(value)).collect();
        let prefixes = || values.iter().map(|value| prefix(value)).collect();
        let ports = || values.iter().map(|value| value.parse().unwrap()).collect();
        let accounts = || values.iter().map(|value| account(value)).collect();
        match (name, negated) {
            ("namespaces", false) => m.namespaces = strings(),
            ("namespaces", true) => m.not_namespaces = strings(),
            ("principals", false) => m.principals = strings(),
            ("principals", true) => m.not_principals = strings(),
            ("accounts", false) => m.service_accounts = accounts(),
            ("accounts", true) => m.not_service_accounts = accounts(),
            ("from", false) => m.source_ips = prefixes(),
            ("from", true) => m.not_source_ips = prefixes(),
            ("to", false) => m.destination_ips = prefixes(),
            ("to", true) => m.not_destination_ips = prefixes(),
            ("ports", false) => m.destination_ports = ports(),
            ("ports", true) => m.not_destination_ports = ports(),
            (name, _) => panic!("{name}"),
        }
    }
    m
}

fn string(value: &str) -> proto::StringMatch {
    let kind = match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => MatchType::Presence(()),
        (Some(end), _) => MatchType::Suffix(end.into()),
        (_, Some(begin)) => MatchType::Prefix(begin.into()),
        _ => MatchType::Exact(value.into()),
    };
    proto::StringMatch { match_type: Some(kind) }
}

fn prefix(value: &str) -> proto::Prefix {
    let (ip, length) = value.split_once('/').unwrap();
    proto::Prefix { address: bytes(ip), length: length.parse().unwrap() }
}

fn account(value: &str) -> proto::ServiceAccountMatch {
    let (namespace, name) = value.split_once('/').unwrap();
    proto::ServiceAccountMatch { namespace: namespace.into(), service_account: name.into() }
}

/// Clauses of matches.
fn rule(clauses: &[&[&str]]) -> proto::Rule {
    let clause = |matches: &&[&str]| proto::Clause { matches: matches.iter().map(|text| matching(text)).collect() };
    proto::Rule { clauses: clauses.iter().map(clause).collect(), ..proto::Rule::default() }
}

/// A policy of namespace `default` that holds for all of it.
fn policy(name: &str, action: Action, rules: Vec<proto::Rule>) -> proto::Authorization {
    let (scope, action) = (PolicyScope::Namespace as i32, action as i32);
    let (name, namespace) = (name.into(), "default".into());
    proto::Authorization { name, namespace, scope, action, rules, ..proto::Authorization::default() }
}

fn pushed(policy: &proto::Authorization) -> Resource {
    sent(proto::AUTHORIZATION, &format!("{}/{}", policy.namespace, policy.name), policy)
}

/// A mesh of one pod, `web` of namespace `default`, which names these policies.
fn with_pod(selected_by: &[&str]) -> Mesh {
    let authorization_policies = selected_by.iter().map(ToString::to_string).collect();
    let web = proto::Workload { authorization_policies, ..pod("web", &["10.0.0.2"]) };
    Mesh::new("node-1").and([resource(web)])
}

fn push(mesh: &Mesh, policies: &[proto::Authorization]) -> (Mesh, Vec<Rejected>) {
    let (mut mesh, rejected) = mesh.apply(proto::AUTHORIZATION, policies.iter().map(pushed), &[]);
    mesh.know_all_policies();
    (mesh, rejected)
}

fn guard(mesh: &Mesh) -> Arc<Guard> {
    mesh.guard(&mesh.pod("web").key()).unwrap().clone()
}

/// `peer` is `namespace/service account`, or empty for plain text.
fn attempt(peer: &str, source: &str, destination: &str) -> Attempt {
    let identity = |(namespace, account)| format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
    let peer = peer.split_once('/').map(|parts| Arc::new(identity(parts).parse().unwrap()));
    Attempt { peer, source: source.parse().unwrap(), destination: destination.parse().unwrap(), door: None }
}

fn judge(policies: &[proto::Authorization], peer: &str) -> Judgement {
    let (mesh, rejected) = push(&with_pod(&[]), policies);
    assert_eq!(rejected, []);
    guard(&mesh).judge(&attempt(peer, "10.0.0.1", "10.0.0.2:8080"))
}

/// Whether a DENY policy of this one rule matches.
fn denies(rule: proto::Rule, attempt: &Attempt) -> bool {
    let (mesh, rejected) = push(&with_pod(&[]), &[policy("p", Action::Deny, vec![rule])]);
    assert_eq!(rejected, []);
    guard(&mesh).judge(attempt).verdict != Verdict::Allowed
}

#[test]
fn every_attribute_is_compared() {
    let known = attempt("default/client", "10.0.0.1", "10.0.0.2:8080");
    let nobody = attempt("", "10.0.0.1", "10.0.0.2:8080");
    let six = attempt("default/client", "fd00::1", "[fd00::2]:8080");
    for (text, [with_peer, plain]) in [
        ("principals=cluster.local/ns/default/sa/client", [true, false]),
        ("principals=spiffe://cluster.local/ns/default/sa/client", [false, false]),
        ("principals=cluster.local/ns/default/sa/Client", [false, false]),
        ("principals=cluster.local/ns/def*", [true, false]),
        ("principals=*/sa/client", [true, false]),
        ("principals=*/sa/other", [false, false]),
        ("principals=*", [true, false]),
        ("!principals=*", [false, true]),
        ("!principals=cluster.local/ns/default/sa/client", [false, true]),
        ("!principals=cluster.local/ns/other*", [true, true]),
        ("namespaces=default", [true, false]),
        ("namespaces=other,def*", [true, false]),
        ("namespaces=*ault", [true, false]),
        ("namespaces=*", [true, false]),
        ("!namespaces=default", [false, true]),
        ("!namespaces=other", [true, true]),
        ("accounts=default/client", [true, false]),
        ("accounts=other/client,default/other", [false, false]),
        ("!accounts=default/client", [false, true]),
        ("from=10.0.0.0/24", [true, true]),
        ("from=10.0.0.1/32", [true, true]),
        ("from=10.0.0.2/32,fd00::/8", [false, false]),
        ("from=::/0", [false, false]),
        ("from=::ffff:10.0.0.0/120", [true, true]),
        ("!from=10.0.0.0/8", [false, false]),
        ("to=10.0.0.2/32", [true, true]),
        ("!to=10.0.0.2/32", [false, false]),
        ("ports=80,8080", [true, true]),
        ("ports=80", [false, false]),
        ("!ports=80", [true, true]),
        ("!ports=8080", [false, false]),
        ("ports=8080 from=10.0.0.0/8 namespaces=default", [true, false]),
        ("ports=8080 from=11.0.0.0/8", [false, false]),
        ("ports=8080 !ports=8080", [false, false]),
    ] {
        let found = [&known, &nobody].map(|attempt| denies(rule(&[&[text]]), attempt));
        assert_eq!(found, [with_peer, plain], "{text}");
    }
    for (text, expected) in
        [("from=fd00::/64", true), ("from=10.0.0.0/8", false), ("from=0.0.0.0/0", false), ("to=fd00::2/128", true)]
    {
        assert_eq!(denies(rule(&[&[text]]), &six), expected, "{text}");
    }
}

#[test]
fn every_empty_case_is_what_istio_has() {
    let (yes, no) = ("ports=8080", "ports=80");
    for (clauses, expected) in [
        (&[][..], true),
        (&[&[][..]], true),
        (&[&[], &[no]], false),
        (&[&[], &[yes]], true),
        (&[&[""]], false),
        (&[&["", yes]], true),
        (&[&["", no]], false),
        (&[&[""], &[yes]], false),
        (&[&[yes], &[no]], false),
        (&[&[yes], &[yes]], true),
        (&[&[no, yes], &[yes]], true),
    ] {
        let rule = rule(clauses);
        assert_eq!(denies(rule, &attempt("", "10.0.0.1", "10.0.0.2:8080")), expected, "{clauses:?}");
    }
    let verdict = |policies: &[_]| judge(policies, "a/b").verdict;
    assert_eq!(verdict(&[policy("p", Action::Deny, vec![])]), Verdict::Allowed);
    assert_eq!(verdict(&[policy("p", Action::Allow, vec![])]), Verdict::NotAllowed);
    assert_eq!(verdict(&[policy("p", Action::Allow, vec![rule(&[])])]), Verdict::Allowed);
}

#[test]
fn deny_comes_before_allow_and_the_first_name_is_told() {
    let deny = |name| policy(name, Action::Deny, vec![rule(&[&["namespaces=a"]])]);
    let allow = |name| policy(name, Action::Allow, vec![rule(&[&["namespaces=a,b"]])]);
    let verdict = |policies: &[_], peer| judge(policies, peer).verdict;
    assert_eq!(verdict(&[allow("a"), deny("z"), deny("y")], "a/x"), Verdict::Denied("default/y".into()));
    assert_eq!(verdict(&[allow("a"), deny("z")], "b/x"), Verdict::Allowed);
    assert_eq!(verdict(&[allow("a"), deny("z")], "c/x"), Verdict::NotAllowed);
    assert_eq!(verdict(&[deny("z")], "c/x"), Verdict::Allowed);
    assert_eq!(verdict(&[allow("a"), policy("b", Action::Allow, vec![rule(&[])])], "c/x"), Verdict::Allowed);
}

#[test]
fn dry_run_and_audit_only_tell() {
    let dry = |policy| proto::Authorization { dry_run: true, ..policy };
    let deny = dry(policy("deny", Action::Deny, vec![rule(&[&["namespaces=a"]])]));
    let allow = dry(policy("allow", Action::Allow, vec![rule(&[&["namespaces=b"]])]));
    let enforced = policy("enforced", Action::Allow, vec![rule(&[&["namespaces=a,c"]])]);
    let audit = policy("audit", Action::Audit, vec![rule(&[&["namespaces=a"]])]);
    let tell = |policies: &[_], peer| {
        let Judgement { verdict, would_refuse, audited, .. } = judge(policies, peer);
        (verdict == Verdict::Allowed, would_refuse.as_deref().map(str::to_owned), audited.is_some())
    };
    let (by_deny, by_allow) = (Some("default/deny".to_owned()), Some("default/allow".to_owned()));
    assert_eq!(tell(from_ref(&deny), "a/x"), (true, by_deny.clone(), false));
    assert_eq!(tell(from_ref(&deny), "b/x"), (true, None, false));
    assert_eq!(tell(from_ref(&allow), "a/x"), (true, by_allow.clone(), false));
    assert_eq!(tell(from_ref(&allow), "b/x"), (true, None, false));
    assert_eq!(tell(&[allow.clone(), enforced.clone()], "c/x"), (true, None, false), "another one allows it");
    assert_eq!(tell(&[allow.clone(), enforced.clone()], "b/x"), (false, None, false), "not for it to allow");
    assert_eq!(tell(&[allow, deny], "a/x"), (true, by_deny, false));
    assert_eq!(tell(from_ref(&audit), "a/x"), (true, None, true));
    assert_eq!(tell(&[audit, enforced], "b/x"), (false, None, false));
}

#[test]
fn policies_hold_where_they_reach() {
    let scoped = |name: &str, namespace: &str, scope| proto::Authorization {
        namespace: namespace.into(),
        scope: scope as i32,
        ..policy(name, Action::Deny, vec![rule(&[])])
    };
    let held = |policy: &proto::Authorization| {
        guard(&push(&with_pod(&["default/named", "other/named"]), from_ref(policy)).0)
            .judge(&attempt("", "10.0.0.1", "10.0.0.2:8080"))
            .verdict
    };
    let denied = |name: &str| Verdict::Denied(name.into());
    assert_eq!(held(&scoped("all", "root", PolicyScope::Global)), denied("root/all"));
    assert_eq!(held(&scoped("own", "default", PolicyScope::Namespace)), denied("default/own"));
    assert_eq!(held(&scoped("named", "other", PolicyScope::WorkloadSelector)), denied("other/named"));
    let missing = Verdict::Undecided("default/named".into());
    assert_eq!(held(&scoped("theirs", "other", PolicyScope::Namespace)), missing);
    assert_eq!(held(&scoped("unnamed", "default", PolicyScope::WorkloadSelector)), missing);
}

#[test]
fn nothing_is_decided_before_policies_have_arrived() {
    let anybody = attempt("a/b", "10.0.0.1", "10.0.0.2:80");
    let mesh = with_pod(&["default/p"]);
    assert_eq!(guard(&mesh).judge(&anybody).verdict, Verdict::Undecided("none has arrived yet".into()));
    let mesh = push(&mesh, &[]).0;
    assert_eq!(guard(&mesh).judge(&anybody).verdict, Verdict::Undecided("default/p".into()));
    let allow = proto::Authorization { scope: 2, ..policy("p", Action::Allow, vec![rule(&[&["namespaces=a"]])]) };
    let mesh = push(&mesh, &[allow]).0;
    assert_eq!(guard(&mesh).judge(&anybody).verdict, Verdict::Allowed);
    let mesh = mesh.apply(proto::AUTHORIZATION, [], &["default/p".to_owned()]).0;
    assert_eq!(guard(&mesh).judge(&anybody).verdict, Verdict::Undecided("default/p".into()));
}

#[test]
fn a_denial_needs_not_wait_for_what_is_missing() {
    let deny = policy("d", Action::Deny, vec![rule(&[&["namespaces=a"]])]);
    let mesh = push(&with_pod(&["default/missing"]), &[deny]).0;
    let verdict = |peer| guard(&mesh).judge(&attempt(peer, "10.0.0.1", "10.0.0.2:80")).verdict;
    assert_eq!(verdict("a/b"), Verdict::Denied("default/d".into()));
    assert_eq!(verdict("b/b"), Verdict::Undecided("default/missing".into()));
}

#[test]
fn what_is_not_understood_is_rejected_and_lets_nobody_through() {
    let good = policy("p", Action::Deny, vec![rule(&[&["namespaces=a"]])]);
    let changed = |change: fn(&mut proto::Authorization)| {
        let mut bad = good.clone();
        change(&mut bad);
        pushed(&bad)
    };
    let first = |policy: &mut proto::Authorization| policy.rules[0].clauses[0].matches[0].clone();
    let with = |m: proto::Match| {
        pushed(&policy(
            "p",
            Action::Deny,
            vec![proto::Rule { clauses: vec![proto::Clause { matches: vec![m] }], ..proto::Rule::default() }],
        ))
    };
    let m = first(&mut good.clone());
    let mut extended = pushed(&good);
    extended.body = [&extended.body[..], &[0x3a, 0x00]].concat().into(); // an extension, field 7
    let garbled = Resource { body: vec![0xff].into(), ..pushed(&good) };
    let of_another_type = Resource { type_url: proto::ADDRESS.into(), ..pushed(&good) };
    let unset = proto::StringMatch { match_type: None };
    for (bad, reason) in [
        (changed(|policy| policy.scope = 3), "scope 3 is unknown"),
        (changed(|policy| policy.action = 4), "action 4 is unknown"),
        (changed(|policy| policy.action = 3), "a rule with the action LIMIT has no limit"),
        (changed(|policy| policy.name = "q".into()), "its own name is \"default/q\""),
        (extended, "it has a field that this version does not know"),
        (with(proto::Match { principals: vec![unset], ..m.clone() }), "a value is of no kind that this version knows"),
        (with(proto::Match { destination_ports: vec![65536], ..m.clone() }), "port 65536 is out of range"),
        (
            with(proto::Match { source_ips: vec![prefix("10.0.0.0/33")], ..m.clone() }),
            "a prefix of 10.0.0.0 is out of range",
        ),
        (garbled, "failed to decode"),
        (of_another_type, "is a 'type.googleapis.com/istio.workload.Address'"),
    ] {
        let bad = Resource { name: "default/p".into(), ..bad };
        let verdict = |mesh: &Mesh, peer| guard(mesh).judge(&attempt(peer, "10.0.0.1", "10.0.0.2:80")).verdict;
        let push_bad = |mesh: &Mesh| {
            let (mesh, rejected) = mesh.apply(proto::AUTHORIZATION, [bad.clone()], &[]);
            assert!(rejected[0].name == "default/p" && rejected[0].reason.contains(reason), "{rejected:?}");
            mesh
        };
        let before = push(&with_pod(&[]), from_ref(&good)).0;
        let after = push_bad(&before);
        assert!(Arc::ptr_eq(&guard(&before), &guard(&after)), "the good one stays: {reason}");
        assert_eq!(verdict(&after, "b/b"), Verdict::Allowed);
        let never_good = push_bad(&push(&with_pod(&[]), &[]).0);
        assert_eq!(verdict(&never_good, "b/b"), Verdict::Undecided("default/p".into()), "{reason}");
        assert!(!never_good.has_policy("default/p"));
        let mut held = vec![];
        never_good.held(proto::AUTHORIZATION, |name, version| held.push((name.to_owned(), version.to_string())));
        assert_eq!(held, [("default/p".to_owned(), String::new())], "else its removal would not be told: {reason}");
        let gone = never_good.apply(proto::AUTHORIZATION, [], &["default/p".to_owned()]).0;
        assert_eq!(verdict(&gone, "b/b"), Verdict::Allowed);
        let mended = push(&never_good, from_ref(&good)).0;
        assert_eq!(verdict(&mended, "b/b"), Verdict::Allowed);
    }
}

#[test]
fn what_has_no_name_is_rejected_and_holds_nobody() {
    let (mesh, rejected) = push(&with_pod(&[]), &[]).0.apply(proto::AUTHORIZATION, [Resource::default()], &[]);
    assert_eq!(rejected[0].reason, "is no resource with a name");
    assert_eq!(guard(&mesh).judge(&attempt("", "10.0.0.1", "10.0.0.2:80")).verdict, Verdict::Allowed);
}

#[test]
fn who_is_kept_out_by_a_refused_object_is_told_so() {
    let refused = |policy| proto::Authorization { refused: "refused (spec): nobody is let in".into(), ..policy };
    let deny = policy("deny", Action::Deny, vec![rule(&[&["namespaces=a"]])]);
    let allow = policy("allow", Action::Allow, vec![rule(&[&["namespaces=b"]])]);
    let other = policy("other", Action::Allow, vec![rule(&[&["namespaces=b"]])]);
    let why = |policies: &[_], peer| judge(policies, peer).outcome().err().map(|failure| failure.to_string());
    let told = |text: &str| Some(text.to_owned());
    assert_eq!(why(&[refused(deny.clone())], "a/x"), told("default/deny, refused (spec): nobody is let in"));
    assert_eq!(why(&[refused(deny.clone())], "b/x"), None);
    assert_eq!(why(&[refused(allow.clone()), other.clone()], "b/x"), None);
    let by_allow = "default/allow, refused (spec): nobody is let in";
    assert_eq!(why(&[other.clone(), refused(allow.clone())], "c/x"), told(by_allow));
    assert_eq!(
        why(&[deny.clone(), refused(allow.clone())], "a/x"),
        told("default/deny"),
        "it has nothing to do with it"
    );
    assert_eq!(why(&[other], "c/x"), told(""));
    let dry = proto::Authorization { dry_run: true, ..refused(allow) };
    assert_eq!(why(&[dry], "c/x"), None);
}

#[test]
fn a_dry_run_that_is_not_understood_holds_nobody() {
    let bad = proto::Authorization { dry_run: true, action: 7, ..policy("p", Action::Deny, vec![]) };
    let (mesh, rejected) = push(&with_pod(&[]), &[bad]);
    assert_eq!(rejected.len(), 1);
    assert_eq!(guard(&mesh).judge(&attempt("", "10.0.0.1", "10.0.0.2:80")).verdict, Verdict::Allowed);
}

#[test]
fn a_guard_that_a_change_does_not_touch_stays_the_same() {
    let own = policy("p", Action::Deny, vec![rule(&[&["namespaces=a"]])]);
    let mesh = push(&with_pod(&[]), from_ref(&own)).0;
    let elsewhere = proto::Authorization { namespace: "other".into(), ..own.clone() };
    let after = push(&push(&mesh, &[elsewhere]).0, &[own]).0.and([resource(pod("other", &["10.0.0.3"]))]);
    assert!(Arc::ptr_eq(&guard(&mesh), &guard(&after)), "another namespace's, the same again, and another pod");
    let replica = after.guard(&after.pod("other").key()).unwrap();
    assert!(Arc::ptr_eq(&guard(&mesh), replica), "pods under the same policies have one guard");
    let more = push(&after, &[policy("q", Action::Deny, vec![])]).0;
    assert!(!Arc::ptr_eq(&guard(&after), &guard(&more)));
}

#[test]
fn a_caller_is_asked_for_by_the_piece_that_is_meant() {
    let caller = Caller(["td/ns/a/sa/b", "ns/a/sa/b", "a"]);
    let texts = condition::Attribute::ALL.map(|attribute| caller.text(attribute));
    assert_eq!(texts, caller.0);
}
