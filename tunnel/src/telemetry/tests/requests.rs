//! Requests: how they are counted and logged.
use super::*;

#[test]
fn requests_are_counted_under_istios_names() {
    let (mesh, telemetry) = (a_mesh(), silent());
    let worker = telemetry.worker();
    let other = telemetry.worker();
    worker.request(request(&mesh, 200, Flags::default()));
    other.request(request(&mesh, 200, Flags::default()));
    let mut flags = Flags::UPSTREAM_CONNECTION_FAILURE;
    flags |= Flags::RETRY_LIMIT;
    worker.request(request(&mesh, 503, flags));
    worker.request(Request { grpc: true, ..request(&mesh, 200, Flags::default()) });
    let requests = |labels: &[(&str, &str)]| value(&telemetry, "istio_requests_total", labels);
    assert_eq!(requests(&[]), 4.0);
    let http = ("request_protocol", "http");
    assert_eq!(requests(&[http, ("response_code", "200"), ("reporter", "source")]), 2.0);
    assert_eq!(requests(&[("response_code", "503"), ("response_flags", "UF,URX")]), 1.0);
    let known = [("source_workload", "client"), ("destination_service_name", "s"), ("destination_workload", "server")];
    assert_eq!(requests(&[&known[..], &[("connection_security_policy", "mutual_tls")]].concat()), 4.0);
    let bucket = |bound| value(&telemetry, "istio_request_duration_milliseconds_bucket", &[http, ("le", bound)]);
    assert_eq!(["5.0", "10.0", "+Inf"].map(bucket), [0.0, 3.0, 3.0]);
    let sum = value(&telemetry, "istio_request_duration_milliseconds_sum", &[http]);
    assert!((sum - 22.2).abs() < 1e-6, "{sum}");
}

#[test]
fn series_of_requests_outlive_their_workload_for_a_while() {
    let (mesh, telemetry) = (a_mesh(), silent());
    telemetry.worker().request(request(&mesh, 200, Flags::default()));
    let gone = Mesh::new("");
    let seen = || value(&telemetry, "istio_requests_total", &[]);
    let expire = |after| lock(&telemetry.requests).expire(&series::Alive::of(&gone), None, Instant::now() + after);
    expire(Duration::ZERO);
    expire(series::KEPT - Duration::from_secs(1));
    assert_eq!(seen(), 1.0);
    expire(series::KEPT + Duration::from_secs(1));
    assert_eq!(seen(), 0.0);
}

#[test]
fn a_request_has_a_line() {
    let mesh = a_mesh();
    let lines = logged("all", |worker| worker.request(request(&mesh, 200, Flags::default())));
    let fields: Vec<_> = lines[0].split('\t').collect();
    assert_eq!((lines.len(), &fields[1..4]), (1, &["info", "access", "request complete"][..]));
    for (key, expected) in [
        ("src.workload", "client"),
        ("dst.service", "s.default.svc.cluster.local"),
        ("method", "GET"),
        ("authority", "s:80"),
        ("protocol", "HTTP/1.1"),
        ("route_name", "canary"),
        ("upstream_host", "10.0.0.2:8080"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("attempts", "2"),
        ("upstream_service_time", "6ms"),
        ("duration", "7ms"),
    ] {
        assert_eq!(field(&lines[0], key), Some(expected), "{key}");
    }
    let errors = logged("errors", |worker| {
        for status in [200, 404, 503, 0] {
            worker.request(request(&mesh, status, Flags::default()));
        }
    });
    assert_eq!(errors.iter().map(|line| field(line, "response_code").unwrap()).collect::<Vec<_>>(), ["503", "0"]);
}

#[test]
fn sizes_and_messages_are_counted_under_istios_names() {
    let (mesh, telemetry) = (a_mesh(), silent());
    let worker = telemetry.worker();
    worker.request(request(&mesh, 200, Flags::default()));
    worker.request(Request { grpc: true, grpc_status: Some(7), ..request(&mesh, 200, Flags::default()) });
    for (name, sum, first) in [("request", 120.0, "250.0"), ("response", 7000.0, "10000.0")] {
        let of = |suffix: &str, labels: &[_]| value(&telemetry, &format!("istio_{name}_bytes_{suffix}"), labels);
        assert_eq!(of("sum", &[("request_protocol", "http")]), sum);
        assert_eq!(of("bucket", &[("request_protocol", "http"), ("le", first)]), 1.0);
        assert_eq!(of("bucket", &[("request_protocol", "http"), ("le", "100.0")]), 0.0);
    }
    let grpc = &[("request_protocol", "grpc"), ("grpc_response_status", "7")];
    assert_eq!(value(&telemetry, "istio_request_messages_total", grpc), 1.0);
    assert_eq!(value(&telemetry, "istio_response_messages_total", grpc), 3.0);
}
