use super::*;

fn explain(policies: &[proto::Authorization], attempt: &Attempt) -> Explanation {
    let (mesh, rejected) = push(&with_pod(&[]), policies);
    assert_eq!(rejected, []);
    guard(&mesh).explain(attempt)
}

/// The rule in which the named policy decides.
fn decided(explanation: &Explanation) -> Option<(&str, usize)> {
    explanation.decided_by().map(|(policy, rule)| (&**policy, rule))
}

#[test]
fn each_test_says_why_it_does_not_hold() {
    let known = attempt("default/client", "10.0.0.1", "10.0.0.2:8080");
    let nobody = attempt("", "fd00::1", "[fd00::2]:8080");
    for (text, attempt, expected) in [
        (
            "principals=cluster.local/ns/a/sa/b",
            &known,
            "principals: cluster.local/ns/default/sa/client is not cluster.local/ns/a/sa/b",
        ),
        (
            "principals=*/sa/x,td/*,b,a",
            &known,
            "principals: cluster.local/ns/default/sa/client is none of a, b, td/*, */sa/x",
        ),
        ("!principals=*", &known, "notPrincipals: cluster.local/ns/default/sa/client is *"),
        ("principals=*", &nobody, "principals: plain text has no identity, which would have to be *"),
        ("accounts=ns/sa", &known, "serviceAccounts: default/client is not ns/sa"),
        ("!accounts=a/b,default/client", &known, "notServiceAccounts: default/client is one of a/b, default/client"),
        ("accounts=a/b", &nobody, "serviceAccounts: plain text has no identity, which would have to be a/b"),
        ("namespaces=a,b", &known, "namespaces: default is none of a, b"),
        ("!namespaces=def*", &known, "notNamespaces: default is def*"),
        ("from=10.0.0.2/32", &known, "ipBlocks: 10.0.0.1 is not in 10.0.0.2"),
        (
            "from=11.0.0.0/8,10.0.0.128/25,::/0",
            &known,
            "ipBlocks: 10.0.0.1 is in none of 10.0.0.128/25, 11.0.0.0/8, ::/0",
        ),
        ("!from=fd00::/8", &nobody, "notIpBlocks: fd00::1 is in fd00::/8"),
        ("!from=0.0.0.0/0", &known, "notIpBlocks: 10.0.0.1 is in 0.0.0.0/0"),
        ("to=fd00::3/128", &nobody, "destination.ip: fd00::2 is not in fd00::3"),
        ("!to=10.0.0.0/24", &known, "destination.ip (notValues): 10.0.0.2 is in 10.0.0.0/24"),
        ("ports=80", &known, "ports: 8080 is not 80"),
        ("ports=443,80", &known, "ports: 8080 is none of 80, 443"),
        ("!ports=8080,80", &known, "notPorts: 8080 is one of 80, 8080"),
        ("ports=1,2,3,4,5,6,7,8,9,10", &known, "ports: 8080 is none of 1, 2, 3, 4, 5, 6, 7, 8, and 2 more"),
        ("ports=8080 namespaces=a from=10.0.0.9/32", &known, "namespaces: default is not a"),
        ("", &known, "it never matches: what it asks for cannot be judged at L4, or is not understood"),
    ] {
        let explanation = explain(&[policy("p", Action::Deny, vec![rule(&[&[text]])])], attempt);
        assert_eq!(explanation.policies[0].rules, [[expected]], "{text}");
        assert_eq!(explanation.judgement.verdict, Verdict::Allowed);
    }
}

#[test]
fn a_field_that_cannot_be_judged_is_named_where_the_control_plane_names_it() {
    let never = proto::Rule { unjudged: "methods".into(), ..rule(&[&[""]]) };
    let known = attempt("default/client", "10.0.0.1", "10.0.0.2:8080");
    let explanation = explain(&[policy("p", Action::Allow, vec![never])], &known);
    assert_eq!(explanation.policies[0].rules, [["it never matches: methods cannot be judged at L4"]]);
}

#[test]
fn of_a_rule_the_first_clause_that_fails_is_told_with_all_its_ways() {
    let clauses: &[&[&str]] = &[&["ports=8080"], &["namespaces=a", "ports=80", ""], &["ports=1"]];
    let explanation = explain(
        &[policy("p", Action::Allow, vec![rule(clauses)])],
        &attempt("default/client", "10.0.0.1", "10.0.0.2:8080"),
    );
    assert_eq!(explanation.policies[0].rules, [["namespaces: default is not a", "ports: 8080 is not 80"]]);
    assert_eq!(explanation.judgement.verdict, Verdict::NotAllowed);
    assert_eq!(decided(&explanation), None);
}

#[test]
fn the_rule_that_decides_goes_by_its_place() {
    let to = attempt("a/b", "10.0.0.1", "10.0.0.2:8080");
    let never = || rule(&[&[""]]);
    let deny = policy("deny", Action::Deny, vec![never(), rule(&[&["ports=80"]]), rule(&[&["namespaces=a"]])]);
    let allow = policy("allow", Action::Allow, vec![never(), rule(&[&["ports=8080"]])]);
    let dry = proto::Authorization { dry_run: true, ..policy("a-dry", Action::Allow, vec![rule(&[])]) };
    let explanation = explain(&[deny, allow.clone(), dry.clone()], &to);
    assert_eq!(explanation.judgement.verdict, Verdict::Denied("default/deny".into()));
    assert_eq!(decided(&explanation), Some(("default/deny", 2)));
    let names: Vec<_> = explanation.policies.iter().map(|explained| &*explained.policy.name).collect();
    assert_eq!(names, ["default/a-dry", "default/allow", "default/deny"]);
    let explanation = explain(&[allow, dry.clone()], &to);
    assert_eq!(decided(&explanation), Some(("default/allow", 1)), "what is in dry run does not decide");
    assert_eq!(decided(&explain(&[dry], &to)), None, "it is allowed for there is no ALLOW policy");
}

#[test]
fn what_has_not_arrived_is_named() {
    let mesh = push(&with_pod(&["default/late"]), &[]).0;
    let explanation = guard(&mesh).explain(&attempt("a/b", "10.0.0.1", "10.0.0.2:80"));
    assert_eq!(*explanation.missing, ["default/late".into()]);
    let json = explanation.json();
    assert_eq!((&json["verdict"], &json["missing"][0]), (&"policy_unknown".into(), &"default/late".into()));
}

#[test]
fn as_json_it_has_all_there_is() {
    let audit = policy("audit", Action::Audit, vec![rule(&[&["namespaces=a"]])]);
    let deny = policy("deny", Action::Deny, vec![rule(&[&["ports=1"]]), rule(&[])]);
    let deny = proto::Authorization { refused: "refused (spec): x".into(), ..deny };
    let json = explain(&[audit, deny], &attempt("a/b", "10.0.0.1", "10.0.0.2:80")).json();
    let expected = serde_json::json!({
        "verdict": "policy_denied",
        "text": "explicitly denied by policy: default/deny, refused (spec): x",
        "policy": "default/deny",
        "rule": 1,
        "would_refuse": null,
        "audited": "default/audit",
        "policies": [
            {
                "name": "default/audit",
                "action": "AUDIT",
                "dry_run": false,
                "refused": "",
                "rules": [{ "matches": true, "unmet": [], "unjudged": "" }],
            },
            {
                "name": "default/deny",
                "action": "DENY",
                "dry_run": false,
                "refused": "refused (spec): x",
                "rules": [{ "matches": false, "unmet": ["ports: 80 is not 1"], "unjudged": "" }, { "matches": true, "unmet": [], "unjudged": "" }],
            },
        ],
        "missing": [],
    });
    assert_eq!(json, expected);
}
