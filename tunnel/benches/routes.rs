//! What finding a request's rule costs among 10 and 1,000, by what the rules match on:
//! `cargo bench --manifest-path tunnel/Cargo.toml --bench routes`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use _core::routes::proto::{self, PathKind, StringKind};
use _core::routes::{Client, Labels, Request, Scope, ServiceRoutes};

/// Each round; the best of them is told.
const ROUND: Duration = Duration::from_millis(100);
const ROUNDS: usize = 7;
const SIZES: [usize; 2] = [10, 1000];

/// The match of the rule at a place.
type Kind = fn(usize) -> proto::HttpMatch;

fn path(kind: PathKind) -> proto::HttpMatch {
    proto::HttpMatch { path: Some(proto::PathMatch { kind: Some(kind), ignore_case: false }), ..Default::default() }
}

fn header(value: String) -> proto::HttpMatch {
    let value = Some(proto::StringMatch { kind: Some(StringKind::Exact(value)), ignore_case: false });
    proto::HttpMatch { headers: vec![proto::NamedMatch { name: "end-user".into(), value }], ..Default::default() }
}

fn exact(place: usize) -> proto::HttpMatch {
    path(PathKind::Exact(format!("/api/v1/resource-{place}/item")))
}

fn prefix(place: usize) -> proto::HttpMatch {
    path(PathKind::Prefix(format!("/api/v1/resource-{place}/")))
}

fn segments(place: usize) -> proto::HttpMatch {
    path(PathKind::SegmentPrefix(format!("/api/v1/resource-{place}")))
}

fn regex(place: usize) -> proto::HttpMatch {
    path(PathKind::Regex(format!("/api/v\\d/resource-{place}/.*")))
}

fn user(place: usize) -> proto::HttpMatch {
    header(format!("user-{place}"))
}

/// So many rules that split 90/10; a request matches the last.
fn scope(size: usize, kind: Kind) -> std::sync::Arc<Scope> {
    let weighted =
        |(place, weight)| proto::Weighted { to: Some(proto::Target::Destination(place)), weight, ..Default::default() };
    let forward = proto::Forward { destinations: [(0, 90), (1, 10)].map(weighted).into(), ..Default::default() };
    let rule = |place| proto::HttpRule {
        matches: vec![kind(place)],
        action: Some(proto::Action::Forward(forward.clone())),
        ..Default::default()
    };
    let destination = |subset: &str| proto::Destination {
        namespace: "shop".into(),
        hostname: "reviews.shop.svc.cluster.local".into(),
        port: 80,
        subset: subset.into(),
        ..Default::default()
    };
    let destinations = ["v1", "v2"].map(destination).into();
    // Places have as many digits in either table: requests' paths have one length.
    let scope = proto::Scope { http: (1000..1000 + size).map(rule).collect(), destinations, ..Default::default() };
    let port =
        proto::PortRoutes { port: 80, protocol: proto::Protocol::Http.into(), scopes: vec![scope], hosts: vec![] };
    let sent = proto::ServiceRoutes { namespace: "shop".into(), hostname: "reviews".into(), ports: vec![port] };
    let routes = ServiceRoutes::compile(&sent).expect("it is well formed");
    routes.port(80).expect("it has the port").scopes[0].clone()
}

fn best(mut run: impl FnMut()) -> Duration {
    let rounds = (0..ROUNDS).map(|_| {
        let (begin, mut count) = (Instant::now(), 0);
        while begin.elapsed() < ROUND {
            (0..100).for_each(|_| run());
            count += 100;
        }
        begin.elapsed() / count
    });
    rounds.min().unwrap_or_default()
}

fn main() {
    let kinds: [(&str, Kind); 5] =
        [("exact", exact), ("prefix", prefix), ("segments", segments), ("regex", regex), ("header", user)];
    let labels = Labels::default();
    let client = Client { namespace: "shop", labels: &labels };
    for (name, kind) in kinds {
        let [few, many] = SIZES.map(|size| {
            let scope = scope(size, kind);
            let (path, mut headers) = (format!("/api/v1/resource-{}/item", 999 + size), http::HeaderMap::new());
            headers.insert("end-user", format!("user-{}", 999 + size).parse().expect("it is a value"));
            headers.insert("user-agent", "curl/8".parse().expect("it is a value"));
            let method = http::Method::GET;
            let (scheme, authority) = ("http", "reviews");
            let request =
                Request { method: &method, scheme, authority, path: &path, query: None, headers: &headers, port: 80 };
            best(|| drop(black_box(scope.decide(&client, black_box(&request), |_| 7))))
        });
        let share = 100.0 * (many.as_secs_f64() / few.as_secs_f64() - 1.0);
        println!("{name:>9}: {:>5} ns among 10, {:>5} ns among 1,000 ({share:+.0} %)", few.as_nanos(), many.as_nanos());
    }
}
