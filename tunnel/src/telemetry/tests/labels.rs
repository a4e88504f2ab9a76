//! Labels of series, and how long they are told.
use super::*;

#[test]
fn labels_are_istios() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let _open = to(&telemetry.worker(), &mesh, "10.1.0.1:80");
    let samples = parse(&telemetry.encode());
    let opened = samples.iter().find(|(name, _, _)| name == "istio_tcp_connections_opened_total").unwrap();
    let expected = [
        ("connection_security_policy", "mutual_tls"),
        ("destination_app", "server"),
        ("destination_canonical_revision", "v1"),
        ("destination_canonical_service", "server"),
        ("destination_cluster", "Kubernetes"),
        ("destination_principal", "spiffe://cluster.local/ns/default/sa/server"),
        ("destination_region", "r"),
        ("destination_service", "s.default.svc.cluster.local"),
        ("destination_service_name", "s"),
        ("destination_service_namespace", "default"),
        ("destination_version", "v1"),
        ("destination_workload", "server"),
        ("destination_workload_namespace", "default"),
        ("destination_zone", "z"),
        ("reporter", "source"),
        ("request_protocol", "tcp"),
        ("response_flags", "-"),
        ("source_app", "client"),
        ("source_canonical_revision", "v1"),
        ("source_canonical_service", "client"),
        ("source_cluster", "Kubernetes"),
        ("source_principal", "spiffe://cluster.local/ns/default/sa/client"),
        ("source_version", "v1"),
        ("source_workload", "client"),
        ("source_workload_namespace", "default"),
    ];
    let found: Vec<_> = opened.1.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_is_not_known_is_called_unknown() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let _open = to(&telemetry.worker(), &mesh, "192.168.0.1:80");
    let unknown = [
        "connection_security_policy",
        "destination_workload",
        "destination_service",
        "destination_principal",
        "source_principal",
    ];
    let labels = unknown.map(|key| (key, "unknown"));
    assert_eq!(value(&telemetry, "istio_tcp_connections_opened_total", &labels), 1.0);
}

#[test]
fn odd_values_survive_the_text_format() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let baggage = "k8s.deployment.name=a\"b\\c\nd,service.name=\u{e9}";
    let _open = from(&telemetry.worker(), &mesh, "10.9.9.9:1", "spiffe://cluster.local/ns/x/sa/y", baggage);
    let labels = [("source_workload", "a\"b\\c\nd"), ("source_app", "\u{e9}"), ("source_cluster", "unknown")];
    assert_eq!(value(&telemetry, "istio_tcp_connections_opened_total", &labels), 1.0);
}

#[test]
fn an_address_names_its_workload_only_with_its_identity() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let worker = telemetry.worker();
    let baggage = "k8s.namespace.name=elsewhere,k8s.job.name=batch";
    let own = "spiffe://cluster.local/ns/default/sa/client";
    let other = "spiffe://cluster.local/ns/default/sa/waypoint";
    let _open = [own, other].map(|peer| from(&worker, &mesh, "10.0.0.1:1", peer, baggage));
    let third = "spiffe://cluster.local/ns/default/sa/gateway";
    let _another = from(&worker, &mesh, "10.0.0.1:1", third, baggage);
    for (workload, principal) in [("client", own), ("batch", other), ("batch", third)] {
        let labels = [("source_workload", workload), ("source_principal", principal)];
        assert_eq!(value(&telemetry, "istio_tcp_connections_opened_total", &labels), 1.0);
    }
}

#[test]
fn replicas_and_workers_share_one_line() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let workers = [telemetry.worker(), telemetry.worker()];
    let _open: Vec<_> =
        workers.iter().flat_map(|worker| ["10.0.0.2:80", "10.0.0.3:80"].map(|dst| to(worker, &mesh, dst))).collect();
    let opened: Vec<_> = parse(&telemetry.encode());
    let opened: Vec<_> = opened.iter().filter(|(name, _, _)| name == "istio_tcp_connections_opened_total").collect();
    assert_eq!((opened.len(), opened[0].2), (1, 4.0));
}

#[test]
fn a_series_outlives_its_workload_for_a_while() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let worker = telemetry.worker();
    let gone = mesh.without(&["Kubernetes//Pod/default/client"]);
    let start = Instant::now();
    let expire = |mesh: &Mesh, minutes: u64| {
        lock(&telemetry.registry).expire(&series::Alive::of(mesh), None, start + Duration::from_secs(60 * minutes));
        value(&telemetry, "istio_tcp_connections_opened_total", &[])
    };
    let open = to(&worker, &mesh, "10.1.0.1:80");
    to(&telemetry.worker(), &mesh, "10.1.0.1:80").finish();
    assert_eq!(expire(&mesh, 1), 2.0);
    for minutes in [100, 110, 120] {
        assert_eq!(expire(&gone, minutes), 2.0, "a connection of one of the workers is open");
    }
    open.finish();
    drop(open);
    assert_eq!(expire(&gone, 300), 2.0, "it has just changed");
    assert_eq!(expire(&gone, 304), 2.0);
    assert_eq!(expire(&gone, 306), 0.0, "gone and idle");
    to(&worker, &mesh, "10.1.0.1:80").finish();
    for minutes in [307, 317, 327] {
        assert_eq!(expire(&mesh, minutes), 1.0, "it is there again, and its count begins anew");
    }
}

#[test]
fn a_series_without_its_service_is_forgotten_too() {
    let (telemetry, mesh) = (silent(), a_mesh());
    to(&telemetry.worker(), &mesh, "10.1.0.1:80").finish();
    let gone = mesh.without(&["default/s.default.svc.cluster.local"]);
    for minutes in [0, 6] {
        let now = Instant::now() + Duration::from_secs(60 * minutes);
        lock(&telemetry.registry).expire(&series::Alive::of(&gone), None, now);
    }
    assert_eq!(value(&telemetry, "istio_tcp_connections_opened_total", &[]), 0.0);
}
