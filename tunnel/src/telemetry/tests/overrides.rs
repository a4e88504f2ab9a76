//! Labels and metrics as a Telemetry changes them.
use super::*;

/// Has what is told of traffic said by these resources: an override of a metric for what clients send.
fn overridden(telemetry: &Telemetry, mesh: &Mesh, metrics: Vec<observability::Metric>) -> Mesh {
    let client = Some(observability::Side { metrics, ..Default::default() });
    let told = observability::Telemetry { client, ..Default::default() };
    let mesh = mesh.apply(observability::TELEMETRY, [sent(observability::TELEMETRY, "", &told)], &[]).0;
    telemetry.configure(mesh.telemetry());
    mesh
}

fn expression(operator: observability::Operator, text: &str) -> observability::Expression {
    observability::Expression { operator: operator as i32, text: text.into(), ..Default::default() }
}

fn metric(name: observability::MetricName, tags: &[(&str, observability::Expression)]) -> observability::Metric {
    let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    observability::Metric { name: name as i32, tags, ..Default::default() }
}

#[test]
fn a_telemetry_changes_labels_and_switches_metrics_off() {
    use observability::{MetricName, Operator};
    let (mesh, telemetry) = (a_mesh(), silent());
    let team = observability::Expression {
        operands: vec![expression(Operator::Text, "x-team")],
        ..expression(Operator::Entry, "request.headers")
    };
    let tags = [
        ("team", team),
        ("destination_version", expression(Operator::Text, "none")),
        ("no host", expression(Operator::Attribute, "upstream.port")),
    ];
    let count = observability::Metric {
        removed: vec!["source_principal".into(), "response_flags".into()],
        ..metric(MetricName::RequestCount, &tags)
    };
    let off = |name| observability::Metric { disabled: true, ..metric(name, &[]) };
    let mesh = overridden(&telemetry, &mesh, vec![count, off(MetricName::ResponseSize), off(MetricName::TcpSentBytes)]);
    let worker = telemetry.worker();
    worker.request(request(&mesh, 200, Flags::default()));
    worker.request(Request {
        flags: Flags::RETRY_LIMIT,
        observed: Observed::default(),
        ..request(&mesh, 200, Flags::default())
    });
    to(&worker, &mesh, "10.1.0.1:80").finish();
    let text = telemetry.encode();
    let samples = parse(&text);
    let of = |name: &str| samples.iter().filter(|one| one.0 == name).map(|one| &one.1).collect::<Vec<_>>();
    let counted = of("istio_requests_total");
    let mut teams: Vec<_> = counted.iter().map(|labels| labels["team"].as_str()).collect();
    teams.sort_unstable();
    assert_eq!(teams, ["blue", "unknown"]);
    for labels in counted {
        assert_eq!((labels["destination_version"].as_str(), labels["no_host"].as_str()), ("none", "8080"));
        assert!(!labels.contains_key("source_principal") && !labels.contains_key("response_flags"));
    }
    let durations = of("istio_request_duration_milliseconds_count");
    assert!(durations.iter().all(|labels| labels.contains_key("source_principal") && !labels.contains_key("team")));
    assert_eq!(durations.len(), 2, "its own labels tell them apart");
    assert!(of("istio_response_bytes_count").is_empty() && of("istio_tcp_sent_bytes_total").is_empty());
    assert_eq!(of("istio_tcp_received_bytes_total").len(), 1);
}

#[test]
fn series_that_no_telemetry_asks_for_any_more_expire_and_the_same_labels_are_one_series() {
    use observability::MetricName;
    let (mesh, telemetry) = (a_mesh(), silent());
    let worker = telemetry.worker();
    worker.request(request(&mesh, 200, Flags::default()));
    let off = observability::Metric { disabled: true, ..metric(MetricName::ResponseSize, &[]) };
    let mesh = overridden(&telemetry, &mesh, vec![off]);
    worker.request(request(&mesh, 200, Flags::default()));
    assert_eq!(value(&telemetry, "istio_requests_total", &[]), 2.0, "before and after");
    parse(&telemetry.encode());
    let changed = telemetry.scopes.load().1;
    let expire = |after| {
        lock(&telemetry.requests).expire(&series::Alive::of(&mesh), changed, Instant::now() + after);
        value(&telemetry, "istio_response_bytes_count", &[])
    };
    assert_eq!((expire(Duration::ZERO), expire(series::KEPT + Duration::from_secs(1))), (1.0, 0.0));
}

#[test]
fn clients_cannot_make_series_without_end() {
    use observability::{MetricName, Operator};
    let (mesh, telemetry) = (a_mesh(), silent());
    let path = [("path", expression(Operator::Attribute, "request.path"))];
    let mesh = overridden(&telemetry, &mesh, vec![metric(MetricName::RequestCount, &path)]);
    let worker = telemetry.worker();
    for number in 0..series::TOLD_APART + 10 {
        worker.request(Request { path: format!("/{number}").into(), ..request(&mesh, 200, Flags::default()) });
    }
    let counts: Vec<_> = lock(&telemetry.requests).totals().iter().map(|(_, totals)| totals.count()).collect();
    assert_eq!(counts.len(), series::TOLD_APART + 1);
    assert_eq!(counts.iter().filter(|count| **count == 10).count(), 1, "the others are one");
}
