//! What the verdict on a connection, and on a request, costs, by the policies in the mesh and those that hold for the workload:
//! `cargo bench --manifest-path tunnel/Cargo.toml`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use _core::config::proto::{
    Action, Authorization, Clause, Match, MatchType, PolicyScope, Prefix, RequestAttribute, RequestClause,
    RequestMatch, RequestRule, RequestTest, Rule, StringMatch,
};
use _core::policy::{Attempt, Guard, Guarded, Policies, Policy, Request, Verdict};
use http::HeaderMap;
use prost::Message;

/// Each round; the best of them is told.
const ROUND: Duration = Duration::from_millis(100);
const ROUNDS: usize = 5;

fn any_of<T>(values: impl IntoIterator<Item = T>, kind: impl Fn(T) -> MatchType) -> Vec<StringMatch> {
    values.into_iter().map(|value| StringMatch { match_type: Some(kind(value)) }).collect()
}

/// What operators write, in turn: callers by name, by namespace, by beginning, by address; and refusals by the latter.
fn matching(index: usize) -> Match {
    let callers = (0..10).map(|caller| format!("cluster.local/ns/n{}/sa/caller-{caller}", index % 100));
    let addresses = (0..10u8).map(|block| Prefix { address: vec![172, (index % 16) as u8, block, 0], length: 24 });
    match index % 5 {
        0 | 1 => Match { principals: any_of(callers, MatchType::Exact), ..Match::default() },
        2 => Match { namespaces: any_of([format!("n{index}")], MatchType::Exact), ..Match::default() },
        3 => {
            Match { principals: any_of([format!("cluster.local/ns/n{index}/")], MatchType::Prefix), ..Match::default() }
        }
        _ => Match { source_ips: addresses.collect(), ..Match::default() },
    }
}

fn policy(namespace: usize, index: usize) -> Authorization {
    let of_callers = Clause { matches: vec![matching(index), matching(index + 5)] };
    let of_ports = Clause { matches: vec![Match { destination_ports: vec![80, 8080], ..Match::default() }] };
    let action = if index % 10 == 4 { Action::Deny } else { Action::Allow };
    Authorization {
        name: format!("policy-{index}"),
        namespace: format!("namespace-{namespace}"),
        scope: PolicyScope::Namespace as i32,
        action: action as i32,
        rules: vec![Rule { clauses: vec![of_callers, of_ports], ..Rule::default() }],
        ..Authorization::default()
    }
}

/// What operators ask of requests beside the callers: methods, and paths whole, by their beginning and by a template.
fn of_requests(index: usize) -> RequestRule {
    let test = |attribute: RequestAttribute, values| RequestTest {
        attribute: attribute as i32,
        values,
        ..RequestTest::default()
    };
    let methods = test(RequestAttribute::Method, any_of(["GET".to_owned(), "POST".to_owned()], MatchType::Exact));
    let paths = match index % 4 {
        0 => any_of((0..10).map(|path| format!("/api/v{index}/{path}")), MatchType::Exact),
        1 | 2 => any_of((0..10).map(|path| format!("/api/v{index}/{path}/")), MatchType::Prefix),
        _ => any_of((0..10).map(|path| format!("/api/v{index}/{{*}}/{path}")), MatchType::Template),
    };
    let operation =
        RequestMatch { tests: vec![methods, test(RequestAttribute::Path, paths)], ..RequestMatch::default() };
    let sources =
        [matching(index), matching(index + 5)].map(|one| RequestMatch { connection: Some(one), tests: vec![] });
    let clauses = vec![RequestClause { matches: sources.into() }, RequestClause { matches: vec![operation] }];
    RequestRule { clauses, ..RequestRule::default() }
}

/// The guard of a workload for which `apply` of `all` policies hold, and how long a change of one of them takes.
fn guard(all: usize, apply: usize, requests: bool) -> (Arc<Guard>, Duration) {
    let guarded = || Guarded {
        namespace: "namespace-0".into(),
        selected_by: Arc::default(),
        http_ports: if requests { Box::new([8080]) } else { Box::default() },
    };
    let mut policies = Policies::default();
    policies.mark_synced();
    let insert = |policies: &mut Policies, policy: &Authorization| {
        let name = format!("{}/{}", policy.namespace, policy.name);
        policies.insert(&name, Policy::decode(&name, &policy.encode_to_vec())).expect("it is well formed");
        policies.recompile([guarded()].into_iter());
    };
    for index in 0..all {
        let mut policy = policy(index / apply, index % apply);
        policy.rules[0].request = requests.then(|| of_requests(index % apply));
        insert(&mut policies, &policy);
    }
    let changed = Authorization { action: Action::Deny as i32, ..policy(0, 0) };
    let start = Instant::now();
    insert(&mut policies, &changed);
    insert(&mut policies, &policy(0, 0));
    let change = start.elapsed() / 2;
    (policies.guard(&guarded()).expect("it was recompiled").clone(), change)
}

fn best(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let (start, mut times) = (Instant::now(), 0u32);
        while start.elapsed() < ROUND {
            (0..100).for_each(|_| work());
            times += 100;
        }
        start.elapsed().as_nanos() as f64 / f64::from(times)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn main() {
    let from = |identity: &str, source: &str| Attempt {
        peer: (!identity.is_empty()).then(|| Arc::new(identity.parse().expect("an identity"))),
        source: source.parse().expect("an address"),
        destination: "10.0.0.2:8080".parse().expect("an address and a port"),
        door: None,
    };
    let attempts = [
        ("allowed", from("spiffe://cluster.local/ns/n5/sa/caller-3", "10.0.0.1")),
        ("not allowed", from("spiffe://cluster.local/ns/elsewhere/sa/stranger", "10.0.0.1")),
        ("plain text", from("", "10.0.0.1")),
    ];
    for (all, apply) in [(20, 20), (1_000, 20), (10_000, 20), (100_000, 20), (10_000, 200), (10_000, 2_000)] {
        let (guard, change) = guard(all, apply, false);
        let costs = attempts.each_ref().map(|(name, attempt)| {
            format!("{name} {:.0} ns", best(|| drop(black_box(guard.judge(black_box(attempt))))))
        });
        println!("{apply} of {all} policies hold: {}; a change {change:.0?}", costs.join(", "));
    }
    let headers = HeaderMap::new();
    for (all, apply) in [(20, 20), (10_000, 20), (10_000, 200)] {
        let (guard, _) = guard(all, apply, true);
        let costs = ["/api/v5/3", "/api/v17/none", "/a//b/%2e%2e;x/%2f"].map(|path| {
            let remote = attempts[0].1.source;
            let request = Request { method: "GET", authority: "shop", path, headers: &headers, remote, token: None };
            let costs = attempts.each_ref().map(|(_, attempt)| {
                assert_eq!(guard.judge(attempt).verdict, Verdict::NeedsRequest);
                best(|| drop(black_box(guard.judge_request(black_box(attempt), black_box(request)))))
            });
            format!("{path} {:.0} ns", costs.into_iter().fold(0.0, f64::max))
        });
        println!("a request, {apply} of {all} policies hold: {}", costs.join(", "));
    }
    let none = Guard::default();
    println!("no policy: {:.1} ns", best(|| drop(black_box(none.judge(black_box(&attempts[0].1))))));
}
