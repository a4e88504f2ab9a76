use super::requests::{guarded, Asked};
use super::*;
use crate::config::proto::{Authorizer, ConnectionLimit, Descriptor, RateLimit, Remote, SharedLimit, Subject, Unit};
use std::time::Instant;

const HTTP: &str = "10.0.0.2:8080";
const TCP: &str = "10.0.0.2:9090";

fn remote() -> Option<Remote> {
    Some(Remote { namespace: "a".into(), hostname: "b".into(), port: 1, timeout_ms: 1, problem: String::new() })
}

fn authorizer() -> Option<Authorizer> {
    Some(Authorizer { name: "x".into(), remote: remote(), status_on_error: 403, ..Authorizer::default() })
}

fn custom(rule: proto::Rule) -> proto::Authorization {
    proto::Authorization { authorizer: authorizer(), ..policy("custom", Action::Deny, vec![rule]) }
}

fn limiting(rules: Vec<(proto::Rule, RateLimit)>) -> proto::Authorization {
    let limited = |(rule, limit)| proto::Rule { limit: Some(limit), ..rule };
    policy("limits", Action::Limit, rules.into_iter().map(limited).collect())
}

fn limit(requests: u64, by: &[Subject]) -> RateLimit {
    let by = by.iter().map(|subject| Descriptor { subject: *subject as i32, path: vec!["x".into()], name: "n".into() });
    RateLimit { requests, unit: Unit::Hour as i32, by: by.collect(), ..RateLimit::default() }
}

#[test]
fn an_authorizer_is_asked_where_requests_are_seen_and_elsewhere_it_is_denied() {
    let guard = guarded(&[custom(rule(&[&["from=10.0.0.1/32"]]))]);
    let verdict = |from, to| guard.judge(&attempt("", from, to)).verdict;
    assert_eq!(verdict("10.0.0.1", HTTP), Verdict::NeedsRequest);
    assert_eq!(verdict("10.0.0.1", TCP), Verdict::Denied("default/custom".into()));
    assert_eq!(verdict("10.0.0.9", TCP), Verdict::Allowed);
    let asked = Asked::get("/");
    for (from, count) in [("10.0.0.1", 1), ("10.0.0.9", 0)] {
        let one = attempt("", from, HTTP);
        assert_eq!(guard.asking(&one, asked.request()).len(), count);
        assert_eq!(guard.judge_request(&one, asked.request()).verdict, Verdict::Allowed, "it says nothing itself");
    }
}

#[test]
fn limits_count_what_their_rules_match_and_keep_nobody_out_themselves() {
    let two = |by: &[Subject]| limit(2, by);
    let rules = vec![
        (rule(&[&["namespaces=a"]]), two(&[])),
        (rule(&[]), two(&[Subject::SourcePrincipal, Subject::RequestHeader])),
    ];
    let guard = guarded(&[limiting(rules)]);
    let (a, b) = (attempt("a/x", "10.0.0.1", HTTP), attempt("b/x", "10.0.0.1", HTTP));
    assert_eq!(guard.judge(&a).verdict, Verdict::NeedsRequest);
    assert_eq!(guard.judge(&attempt("a/x", "10.0.0.1", TCP)).verdict, Verdict::Allowed);
    let take = |attempt: &Attempt, asked: &Asked| -> Vec<bool> {
        let limiting = guard.limiting(attempt, asked.request());
        limiting
            .iter()
            .map(|one| one.limit().take(attempt, &asked.request(), Instant::now()).unwrap().allowed)
            .collect()
    };
    let (asked, other) = (Asked::get("/"), Asked::get("/").with("x", "other"));
    assert_eq!(take(&a, &asked), [true, true]);
    assert_eq!(take(&a, &other), [true, true]);
    assert_eq!(take(&a, &asked), [false, true], "both have one bucket by the first rule");
    assert_eq!(take(&a, &asked), [false, false]);
    assert_eq!(take(&b, &asked), [true], "another identity");
    assert_eq!(guard.judge_request(&a, asked.request()).verdict, Verdict::Allowed);
}

#[test]
fn a_limit_of_connections_counts_them_and_looks_at_no_request() {
    let by = [Subject::SourcePrincipal];
    let connections = |concurrent, new| RateLimit {
        connections: Some(ConnectionLimit { concurrent }),
        unit: if new > 0 { Unit::Hour as i32 } else { 0 },
        ..limit(new, &by)
    };
    let (a, b) = (attempt("a/x", "10.0.0.1", HTTP), attempt("b/x", "10.0.0.1", HTTP));
    let guard = guarded(&[limiting(vec![(rule(&[&["namespaces=a"]]), connections(2, 0))])]);
    assert_eq!(guard.judge(&a).verdict, Verdict::Allowed, "requests are none of its business");
    assert!(
        guard.limits_connections() && !guard.consults() && guard.limiting(&a, Asked::get("/").request()).is_empty()
    );
    let admit = |attempt| guard.admit(attempt, Instant::now()).map_err(|beyond| beyond.to_string());
    let open = [admit(&a), admit(&a)];
    assert!(open.iter().all(Result::is_ok));
    assert_eq!(admit(&a).unwrap_err(), "RateLimitPolicy default/limits, rules[0]");
    let others = [admit(&b), admit(&b), admit(&b)];
    assert!(others.iter().all(Result::is_ok), "no rule matches");
    drop(open);
    assert!(admit(&a).is_ok());

    let guard = guarded(&[limiting(vec![(rule(&[]), connections(1, 0)), (rule(&[]), limit(1, &by))])]);
    assert_eq!(guard.limiting(&a, Asked::get("/").request()).len(), 1, "of the rule that is of requests");

    let guard = guarded(&[limiting(vec![(rule(&[]), connections(1, 2))])]);
    let begun = |attempt| guard.admit(attempt, Instant::now()).is_ok();
    assert_eq!([&a, &a, &a, &b].map(begun), [true, true, false, true], "each identity has a bucket");
}

#[test]
fn as_long_as_a_limit_stays_the_same_so_do_its_buckets() {
    let mut all = Policies::default();
    all.mark_synced();
    let guarded = Guarded { namespace: "default".into(), selected_by: Arc::default(), http_ports: Box::new([8080]) };
    let one = attempt("a/x", "10.0.0.1", HTTP);
    let mut take = |requests| {
        let Resource { name, body, .. } = pushed(&limiting(vec![(rule(&[]), limit(requests, &[]))]));
        all.insert(&name, Policy::decode(&name, &body)).unwrap();
        all.recompile([guarded.clone()].into_iter());
        let asked = Asked::get("/");
        let limiting = all.guard(&guarded).unwrap().limiting(&one, asked.request());
        limiting[0].limit().take(&one, &asked.request(), Instant::now()).unwrap().allowed
    };
    assert_eq!([1, 1, 2, 2, 2].map(&mut take), [true, false, true, true, false]);
}

#[test]
fn what_is_not_understood_is_refused() {
    let decode = |policy: &proto::Authorization| {
        let Resource { name, body, .. } = pushed(policy);
        Policy::decode(&name, &body).map(drop).map_err(|error| error.reason)
    };
    let one = |limit| decode(&limiting(vec![(rule(&[]), limit)]));
    assert_eq!(one(limit(1, &[])), Ok(()));
    let unit = |unit| RateLimit { unit, ..limit(1, &[]) };
    let shared = |shared| RateLimit { shared: Some(shared), ..limit(0, &[]) };
    assert_eq!(one(shared(SharedLimit { domain: "d".into(), remote: remote(), ..Default::default() })), Ok(()));
    for (limit, reason) in [
        (limit(0, &[]), "a limit of no requests"),
        (unit(9), "unit 9 is unknown"),
        (unit(0), "a limit has no unit"),
        (shared(SharedLimit { remote: remote(), ..Default::default() }), "no domain"),
        (shared(SharedLimit { domain: "d".into(), ..Default::default() }), "not who is asked"),
        (RateLimit { connections: Some(ConnectionLimit { concurrent: 0 }), ..limit(0, &[]) }, "a limit of no requests"),
        (
            RateLimit {
                connections: Some(ConnectionLimit { concurrent: 1 }),
                ..shared(SharedLimit { domain: "d".into(), remote: remote(), ..Default::default() })
            },
            "nobody else counts connections",
        ),
    ] {
        assert!(one(limit).unwrap_err().contains(reason), "{reason}");
    }
    assert!(decode(&policy("p", Action::Limit, vec![rule(&[])])).unwrap_err().contains("has no limit"));
    let allowing = proto::Authorization { authorizer: authorizer(), ..policy("p", Action::Allow, vec![]) };
    assert!(decode(&allowing).unwrap_err().contains("asks nobody"));
}
