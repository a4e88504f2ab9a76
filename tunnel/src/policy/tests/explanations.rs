use super::*;

fn explain(policies: &[proto::Authorization], attempt: &Attempt) -> Explanation {
    let (mesh, rejected) = push(&with_pod(&[]), policies);
    assert_eq!(rejected, []);
    guard(&mesh).explain(attempt, None)
}

/// The rule in which the named policy decides.
fn decided(explanation: &Explanation) -> Option<(&str, usize)> {
    explanation.decided_by().map(|(policy, rule)| (&**policy, rule))
}

/// Unmet conditions, each as `field: found: [not] values[ +more]`.
fn unmet(explanation: &Explanation) -> Vec<String> {
    let value = serde_json::to_value(explanation.of_port(8080)).unwrap();
    let text = |one: &serde_json::Value| {
        let values: Vec<&str> = one["values"].as_array().unwrap().iter().filter_map(|value| value.as_str()).collect();
        let not = if one["negated"] == true { "not " } else { "" };
        let more = one["more"].as_u64().filter(|more| *more > 0).map(|more| format!(" +{more}")).unwrap_or_default();
        format!(
            "{}: {}: {not}{}{more}",
            one["field"].as_str().unwrap(),
            one["found"].as_str().unwrap_or("-"),
            values.join(" ")
        )
    };
    value["policies"][0]["rules"][0]["unmet"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn each_test_says_why_it_does_not_hold() {
    let known = attempt("default/client", "10.0.0.1", "10.0.0.2:8080");
    let nobody = attempt("", "fd00::1", "[fd00::2]:8080");
    let client = "cluster.local/ns/default/sa/client";
    for (text, attempt, expected) in [
        ("principals=cluster.local/ns/a/sa/b", &known, format!("principals: {client}: cluster.local/ns/a/sa/b")),
        ("principals=*/sa/x,td/*,b,a", &known, format!("principals: {client}: a b td/* */sa/x")),
        ("!principals=*", &known, format!("notPrincipals: {client}: not *")),
        ("principals=*", &nobody, "principals: -: *".to_owned()),
        ("accounts=ns/sa", &known, "serviceAccounts: default/client: ns/sa".to_owned()),
        (
            "!accounts=a/b,default/client",
            &known,
            "notServiceAccounts: default/client: not a/b default/client".to_owned(),
        ),
        ("namespaces=a,b", &known, "namespaces: default: a b".to_owned()),
        ("!namespaces=def*", &known, "notNamespaces: default: not def*".to_owned()),
        ("from=10.0.0.2/32", &known, "ipBlocks: 10.0.0.1: 10.0.0.2".to_owned()),
        ("from=11.0.0.0/8,10.0.0.128/25,::/0", &known, "ipBlocks: 10.0.0.1: 10.0.0.128/25 11.0.0.0/8 ::/0".to_owned()),
        ("!from=fd00::/8", &nobody, "notIpBlocks: fd00::1: not fd00::/8".to_owned()),
        ("to=fd00::3/128", &nobody, "destination.ip: fd00::2: fd00::3".to_owned()),
        ("!to=10.0.0.0/24", &known, "destination.ip (notValues): 10.0.0.2: not 10.0.0.0/24".to_owned()),
        ("ports=443,80", &known, "ports: 8080: 80 443".to_owned()),
        ("!ports=8080,80", &known, "notPorts: 8080: not 80 8080".to_owned()),
        ("ports=1,2,3,4,5,6,7,8,9,10", &known, "ports: 8080: 1 2 3 4 5 6 7 8 +2".to_owned()),
        ("ports=8080 namespaces=a from=10.0.0.9/32", &known, "namespaces: default: a".to_owned()),
    ] {
        let explanation = explain(&[policy("p", Action::Deny, vec![rule(&[&[text]])])], attempt);
        assert_eq!(unmet(&explanation), [expected], "{text}");
        assert_eq!(explanation.judgement.verdict, Verdict::Allowed);
    }
}

#[test]
fn a_rule_that_nothing_could_match_has_no_conditions() {
    let never = proto::Rule { unjudged: "methods".into(), ..rule(&[&[""]]) };
    let known = attempt("default/client", "10.0.0.1", "10.0.0.2:8080");
    let explanation = explain(&[policy("p", Action::Allow, vec![never])], &known);
    let told = serde_json::to_value(explanation.of_port(8080)).unwrap();
    let expected =
        serde_json::json!([{ "matches": false, "depends_on_request": false, "unmet": [], "unjudged": "methods" }]);
    assert_eq!(told["policies"][0]["rules"], expected);
}

#[test]
fn of_a_rule_the_first_clause_that_fails_is_told_with_all_its_ways() {
    let clauses: &[&[&str]] = &[&["ports=8080"], &["namespaces=a", "ports=80", ""], &["ports=1"]];
    let explanation = explain(
        &[policy("p", Action::Allow, vec![rule(clauses)])],
        &attempt("default/client", "10.0.0.1", "10.0.0.2:8080"),
    );
    assert_eq!(unmet(&explanation), ["namespaces: default: a", "ports: 8080: 80"]);
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
    let explanation = guard(&mesh).explain(&attempt("a/b", "10.0.0.1", "10.0.0.2:80"), None);
    assert_eq!(*explanation.missing, ["default/late".into()]);
    let json = serde_json::to_value(explanation.of_port(80)).unwrap();
    assert_eq!((&json["verdict"], &json["missing"][0]), (&"policy_unknown".into(), &"default/late".into()));
}

#[test]
fn as_json_it_has_all_there_is() {
    let audit = policy("audit", Action::Audit, vec![rule(&[&["namespaces=a"]])]);
    let deny = policy("deny", Action::Deny, vec![rule(&[&["ports=1"]]), rule(&[])]);
    let deny = proto::Authorization { refused: "refused (spec): x".into(), ..deny };
    let explanation = explain(&[audit, deny], &attempt("a/b", "10.0.0.1", "10.0.0.2:80"));
    let json = serde_json::to_value(explanation.of_port(80)).unwrap();
    let unmet = serde_json::json!({ "field": "ports", "found": "80", "negated": false, "values": ["1"], "more": 0 });
    let expected = serde_json::json!({
        "verdict": "policy_denied",
        "text": "explicitly denied by policy: default/deny, refused (spec): x",
        "policy": "default/deny",
        "rule": 1,
        "would_refuse": null,
        "audited": "default/audit",
        "port": 80,
        "policies": [
            {
                "name": "default/audit",
                "action": "AUDIT",
                "dry_run": false,
                "refused": "",
                "rules": [{ "matches": true, "depends_on_request": false, "unmet": [], "unjudged": "" }],
            },
            {
                "name": "default/deny",
                "action": "DENY",
                "dry_run": false,
                "refused": "refused (spec): x",
                "rules": [{ "matches": false, "depends_on_request": false, "unmet": [unmet], "unjudged": "" }, { "matches": true, "depends_on_request": false, "unmet": [], "unjudged": "" }],
            },
        ],
        "missing": [],
    });
    assert_eq!(json, expected);
}
