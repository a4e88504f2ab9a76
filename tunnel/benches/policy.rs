//! What the verdict on a connection costs, by the policies in the mesh and those that hold for the workload:
//! `cargo bench --manifest-path tunnel/Cargo.toml`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use _core::config::proto::{Action, Authorization, Clause, Match, MatchType, PolicyScope, Prefix, Rule, StringMatch};
use _core::policy::{Attempt, Guard, Guarded, Policies, Policy};
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

/// The guard of a workload for which `apply` of `all` policies hold, and how long a change of one of them takes.
fn guard(all: usize, apply: usize) -> (Arc<Guard>, Duration) {
    let guarded = || Guarded { namespace: "namespace-0".into(), selected_by: Arc::default() };
    let mut policies = Policies::default();
    policies.mark_synced();
    let insert = |policies: &mut Policies, policy: &Authorization| {
        let name = format!("{}/{}", policy.namespace, policy.name);
        policies.insert(&name, Policy::decode(&name, &policy.encode_to_vec())).expect("it is well formed");
        policies.recompile([guarded()].into_iter());
    };
    for index in 0..all {
        insert(&mut policies, &policy(index / apply, index % apply));
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
    };
    let attempts = [
        ("allowed", from("spiffe://cluster.local/ns/n5/sa/caller-3", "10.0.0.1")),
        ("not allowed", from("spiffe://cluster.local/ns/elsewhere/sa/stranger", "10.0.0.1")),
        ("plain text", from("", "10.0.0.1")),
    ];
    for (all, apply) in [(20, 20), (1_000, 20), (10_000, 20), (100_000, 20), (10_000, 200), (10_000, 2_000)] {
        let (guard, change) = guard(all, apply);
        let costs = attempts.each_ref().map(|(name, attempt)| {
            format!("{name} {:.0} ns", best(|| drop(black_box(guard.judge(black_box(attempt))))))
        });
        println!("{apply} of {all} policies hold: {}; a change {change:.0?}", costs.join(", "));
    }
    let none = Guard::default();
    println!("no policy: {:.1} ns", best(|| drop(black_box(none.judge(black_box(&attempts[0].1))))));
}
