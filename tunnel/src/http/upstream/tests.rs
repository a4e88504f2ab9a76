//! Balancing, as tables and as shares.
use super::balance::{Choosing, Wish};
use super::breaker::Breaker;
use super::hash;
use super::host::{Host, Load, Outcome};
use super::levels::Levels;
use super::maglev::Maglev;
use super::outlier::{may_eject, Health};
use super::ring::Ring;
use crate::base::Rng;
use crate::http::node::Endpoint;
use crate::routes::{Balancing, ConnectionPool, Destination, Labels, OutlierDetection, Policy, RetryBudget, Warmup};
use http::StatusCode;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn loads(weights: &[u32]) -> Vec<Rc<Load>> {
    let load = |(at, weight): (usize, &u32)| {
        Rc::new(Load { id: at.to_string().into(), weight: *weight, active: Cell::new(0), since: None })
    };
    weights.iter().enumerate().map(load).collect()
}

/// How often each of some hosts is chosen in 10,000 requests.
fn shares(hosts: &[Rc<Load>], balancing: &Balancing, warmup: Option<&Warmup>, now: Duration) -> Vec<usize> {
    let rng = RefCell::new(Rng::seeded(3));
    let draw = |limit| rng.borrow_mut().below(limit).unwrap();
    let choosing = Choosing::new(hosts.to_vec(), balancing);
    let mut counts = vec![0; hosts.len()];
    for _ in 0..10_000 {
        counts[choosing.choose(&Wish { balancing, warmup, hash: None, now, draw: &draw }).unwrap()] += 1;
    }
    counts
}

fn near(counts: &[usize], expected: &[usize], by: usize) {
    let fits = counts.iter().zip(expected).all(|(count, expected)| count.abs_diff(*expected) <= by);
    assert!(fits, "{counts:?}, not {expected:?}");
}

#[test]
fn weights_are_shares() {
    for balancing in [Balancing::Random, Balancing::RoundRobin, Balancing::LeastRequest] {
        near(&shares(&loads(&[1, 1]), &balancing, None, SECOND), &[5000, 5000], 200);
    }
    near(&shares(&loads(&[3, 1]), &Balancing::Random, None, SECOND), &[7500, 2500], 200);
    near(&shares(&loads(&[3, 1]), &Balancing::RoundRobin, None, SECOND), &[7500, 2500], 1);
    near(&shares(&loads(&[1, 1, 1]), &Balancing::RoundRobin, None, SECOND), &[3333, 3333, 3333], 1);
}

#[test]
fn the_freer_of_two_is_taken() {
    let hosts = loads(&[1, 1]);
    hosts[0].active.set(5);
    // The busy one only where both draws are it.
    near(&shares(&hosts, &Balancing::LeastRequest, None, SECOND), &[2500, 7500], 200);
}

#[test]
fn a_new_host_warms_up() {
    let warmup = Warmup { duration: 100 * SECOND, minimum_parts: 100_000, aggression: 1.0 };
    let mut hosts = loads(&[1]);
    let since = Some(Duration::ZERO);
    hosts.push(Rc::new(Load { id: "new".into(), weight: 1, active: Cell::new(0), since }));
    for balancing in [Balancing::LeastRequest, Balancing::RoundRobin] {
        let share = |second| shares(&hosts, &balancing, Some(&warmup), second * SECOND)[1];
        assert!((200..1100).contains(&share(1)), "{}", share(1));
        assert!((2000..4200).contains(&share(50)), "{}", share(50));
        near(&[share(100)], &[5000], 200);
    }
    near(&[shares(&hosts, &Balancing::Random, Some(&warmup), SECOND)[1]], &[5000], 200);
    assert_eq!(hosts[1].warmth(&warmup, 5 * SECOND), 100_000, "the minimum");
    assert_eq!(hosts[1].warmth(&warmup, 30 * SECOND), 300_000);
}

#[test]
fn rings_and_tables_share_by_weight_and_keep_most_where_a_host_goes() {
    let names = ["a", "b", "c", "d"].map(|name| format!("10.0.0.1:{name}"));
    let hosts = |weights: [u32; 4]| names.iter().map(|name| name.as_str()).zip(weights).collect::<Vec<_>>();
    let keys = (0..20_000).map(|key: u32| hash(&key.to_be_bytes())).collect::<Vec<_>>();
    type Find = Box<dyn Fn(u64) -> usize>;
    let ring = |hosts: &[(&str, u32)]| {
        let ring = Ring::new(hosts, 1024);
        Box::new(move |key| ring.find(key).unwrap()) as Find
    };
    let maglev = |hosts: &[(&str, u32)]| {
        let maglev = Maglev::new(hosts, 65537);
        Box::new(move |key| maglev.find(key).unwrap()) as Find
    };
    // A ring of the same size has more points for each host when there are fewer, so that more keys move.
    let rows = [(&ring as &dyn Fn(&[(&str, u32)]) -> Find, 1200, 2500), (&maglev, 500, 1500)];
    for (find, by, most) in rows {
        let all = find(&hosts([1, 1, 1, 1]));
        let mut counts = [0; 4];
        keys.iter().for_each(|key| counts[all(*key)] += 1);
        near(&counts, &[5000; 4], by);
        let weighted = find(&hosts([5, 1, 1, 1]));
        let first = keys.iter().filter(|key| weighted(**key) == 0).count();
        near(&[first], &[12_500], by);
        let fewer = find(&hosts([1, 1, 1, 1])[..3]);
        let moved = keys.iter().filter(|key| all(**key) != 3 && all(**key) != fewer(**key)).count();
        assert!(moved < most, "{moved}");
    }
    assert_eq!(Ring::new(&[], 1024).find(1), None);
    assert_eq!(Maglev::new(&[], 65537).find(1), None);
}

fn destination(outliers: Option<OutlierDetection>) -> Destination {
    let policy = Policy { outliers, balancing: Balancing::Random, ..Policy::default() };
    let labels = Labels::new([]);
    Destination { labels, policy, ..Destination::of("a/b".into(), 80) }
}

fn outliers() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(3),
        consecutive_gateway_errors: None,
        consecutive_local_origin_failures: None,
        interval: 10 * SECOND,
        base_ejection: 30 * SECOND,
        max_ejection_percent: 10,
        min_health_percent: 0,
        error_statuses: Arc::new([]),
    }
}

fn hosts(priorities: &[u32]) -> Vec<Rc<Host<tokio::net::TcpStream>>> {
    let host = |(at, priority): (usize, &u32)| {
        let address = ([127, 0, 0, 1], at as u16).into();
        let id = at.to_string().into();
        Host::new(Endpoint { id, address, weight: 1, priority: *priority, locality: "".into() }, None)
    };
    priorities.iter().enumerate().map(host).collect()
}

/// The share of each priority, in percent.
fn levels(hosts: &[Rc<Host<tokio::net::TcpStream>>], destination: &Destination) -> Vec<usize> {
    let rng = RefCell::new(Rng::seeded(3));
    let draw = |limit| rng.borrow_mut().below(limit).unwrap();
    let levels = Levels::new(hosts, destination);
    let most = hosts.iter().map(|host| host.endpoint.priority).max().unwrap();
    let mut counts = vec![0; most as usize + 1];
    for _ in 0..10_000 {
        let balancing = &destination.policy.balancing;
        let wish = Wish { balancing, warmup: None, hash: None, now: SECOND, draw: &draw };
        if let Some(host) = levels.choose(&wish, &|_| false, false) {
            counts[host.endpoint.priority as usize] += 1;
        }
    }
    counts.into_iter().map(|count| (count + 50) / 100).collect()
}

#[test]
fn the_next_priority_takes_what_the_first_cannot() {
    let all = hosts(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    let destination = destination(Some(outliers()));
    let rows = [(0, [100, 0]), (2, [100, 0]), (5, [70, 30]), (10, [0, 100])];
    for (ejected, expected) in rows {
        all[..ejected].iter().filter(|host| !host.health.is_ejected()).for_each(|host| host.health.eject(SECOND));
        near(&levels(&all, &destination), &expected, 2);
    }
    all[10..].iter().for_each(|host| host.health.eject(SECOND));
    assert_eq!(levels(&all, &destination), [0, 0], "nobody is healthy");
}

#[test]
fn below_the_minimum_of_health_ejections_do_not_count() {
    let all = hosts(&[0, 0, 0, 0]);
    let destination = destination(Some(OutlierDetection { min_health_percent: 50, ..outliers() }));
    all[0].health.eject(SECOND);
    all[1].health.eject(SECOND);
    assert_eq!(Levels::new(&all, &destination).usable(), 2);
    all[2].health.eject(SECOND);
    assert_eq!(Levels::new(&all, &destination).usable(), 4);
}

#[test]
fn retries_avoid_hosts_and_priorities_that_were_tried() {
    let all = hosts(&[0, 0, 1]);
    let destination = destination(None);
    let levels = Levels::new(&all, &destination);
    let balancing = &destination.policy.balancing;
    let draw = |limit: u64| limit / 2;
    let wish = Wish { balancing, warmup: None, hash: None, now: SECOND, draw: &draw };
    let tried = |ids: &'static [&str]| move |host: &Host<tokio::net::TcpStream>| ids.contains(&&*host.endpoint.id);
    assert_eq!(&*levels.choose(&wish, &tried(&["0"]), false).unwrap().endpoint.id, "1");
    assert_eq!(&*levels.choose(&wish, &tried(&["1"]), false).unwrap().endpoint.id, "0");
    assert_eq!(&*levels.choose(&wish, &tried(&["0", "1"]), true).unwrap().endpoint.id, "2");
    assert_eq!(levels.choose(&wish, &tried(&["0", "1"]), false).unwrap().endpoint.priority, 0);
}

#[test]
fn failures_in_a_row_are_counted_by_their_kind() {
    let status = |code| Outcome::Status(StatusCode::from_u16(code).unwrap());
    let local = Outcome::LocalOrigin;
    let gateway = OutlierDetection { consecutive_5xx: None, consecutive_gateway_errors: Some(2), ..outliers() };
    let split = OutlierDetection { consecutive_local_origin_failures: Some(2), ..outliers() };
    let listed = OutlierDetection { error_statuses: Arc::new([429]), ..outliers() };
    let rows = [
        (outliers(), vec![status(500); 3], true),
        (outliers(), vec![status(500), status(500), status(200), status(500)], false),
        (outliers(), vec![status(500), local, status(503)], true),
        (gateway.clone(), vec![status(500); 5], false),
        (gateway.clone(), vec![status(502), status(504)], true),
        (gateway, vec![local, local], true),
        (split.clone(), vec![local, local], true),
        (split.clone(), vec![status(500), local, status(500), status(200)], false),
        (split, vec![status(500), status(500), status(500)], true),
        (listed.clone(), vec![status(429); 3], true),
        (listed, vec![status(500); 3], false),
    ];
    for (config, outcomes, ejected) in rows {
        let health = Health::default();
        let over = outcomes.iter().fold(false, |_, outcome| health.note(*outcome, &config));
        assert_eq!(over, ejected, "{outcomes:?} {config:?}");
    }
}

#[test]
fn each_ejection_lasts_longer_and_good_conduct_is_remembered() {
    let (health, config) = (Health::default(), outliers());
    health.eject(Duration::ZERO);
    assert!(!health.review(29 * SECOND, &config) && health.review(30 * SECOND, &config));
    health.eject(40 * SECOND);
    assert!(!health.review(99 * SECOND, &config) && health.review(100 * SECOND, &config), "twice as long");
    health.review(110 * SECOND, &config);
    health.review(120 * SECOND, &config);
    health.eject(130 * SECOND);
    assert!(health.review(160 * SECOND, &config), "two intervals without have paid for two");
}

#[test]
fn ejections_are_limited() {
    let config = |percent| OutlierDetection { max_ejection_percent: percent, ..outliers() };
    let rows = [
        (0, 10, 10, true),
        (1, 10, 10, false),
        (1, 11, 10, true),
        (0, 1, 10, true),
        (0, 1, 0, false),
        (2, 3, 100, true),
    ];
    for (ejected, all, percent, may) in rows {
        assert_eq!(may_eject(ejected, all, &config(percent)), may, "{ejected} of {all}, {percent} %");
    }
}

#[test]
fn retries_have_a_budget() {
    let breaker = Breaker::default();
    let limits = ConnectionPool { max_retries: Some(1), ..ConnectionPool::default() };
    let first = breaker.retry(&limits, None);
    assert!(first.is_some() && breaker.retry(&limits, None).is_none());
    drop(first);
    let budget = RetryBudget { parts: 200_000, min_retry_concurrency: 3, interval: Duration::ZERO };
    let requests = (0..100).map(|_| breaker.request(&limits).unwrap()).collect::<Vec<_>>();
    let retries = (0..30).filter_map(|_| breaker.retry(&limits, Some(&budget))).collect::<Vec<_>>();
    assert_eq!(retries.len(), 20);
    drop((requests, retries));
    let retries = (0..30).filter_map(|_| breaker.retry(&limits, Some(&budget))).collect::<Vec<_>>();
    assert_eq!(retries.len(), 3);
}
