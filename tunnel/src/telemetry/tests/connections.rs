//! Records of connections: once each, however they end.
use super::*;

#[test]
fn a_connection_is_recorded_once_however_it_ends() {
    let mesh = a_mesh();
    type Ending = fn(&ConnectionRecord);
    let endings: [(Ending, &str, Option<&str>, f64); 5] = [
        (|connection| connection.finish(), "-", None, 0.0),
        (|_| (), "CONNECT", Some("abandoned"), 1.0),
        (|connection| connection.fail(Refusal::TlsFailure, ""), "TLS_FAILURE", Some("tls_failure"), 1.0),
        (|connection| connection.fail(Refusal::PeerReset, ""), "-", Some("peer_reset"), 0.0),
        (
            |connection| {
                connection.finish();
                connection.fail(Refusal::TunnelLost, "");
                connection.finish();
            },
            "-",
            None,
            0.0,
        ),
    ];
    for (end, flag, reason, failed) in endings {
        let mut counted = None;
        let lines = logged("all", |worker| {
            let connection = to(worker, &mesh, "10.1.0.1:80");
            end(&connection);
            drop(connection);
            let telemetry = &worker.0.shared;
            let flagged = value(telemetry, "istio_tcp_connections_closed_total", &[("response_flags", flag)]);
            let refused =
                reason.map(|reason| value(telemetry, "warren_connections_refused_total", &[("reason", reason)]));
            counted = Some((connections(telemetry), flagged, refused));
        });
        assert_eq!(counted, Some(([1.0, 1.0, failed], 1.0, reason.map(|_| 1.0))));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(field(&lines[0], "reason"), reason);
    }
}

#[test]
fn a_connection_counts_as_opened_once() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let connection = to(&telemetry.worker(), &mesh, "10.1.0.1:80");
    connection.describe(Parties::default());
    assert_eq!(connections(&telemetry), [1.0, 0.0, 0.0]);
}

#[test]
fn a_connection_that_nobody_described_is_refused_and_not_opened() {
    let (telemetry, lines) = (
        silent(),
        logged("all", |worker| {
            let connection = worker.accept(Direction::Inbound, address("10.0.0.1:1"), address("10.0.0.2:15008"));
            connection.proven(&Arc::new("spiffe://cluster.local/ns/a/sa/b".parse().unwrap()));
            connection.fail(Refusal::BadAuthority, "\"x\"");
        }),
    );
    let connection = telemetry.worker().accept(Direction::Inbound, address("10.0.0.1:1"), address("10.0.0.2:15008"));
    connection.fail(Refusal::BadAuthority, "");
    assert_eq!(connections(&telemetry), [0.0, 0.0, 0.0]);
    let labels = [("reason", "bad_authority"), ("reporter", "destination")];
    assert_eq!(value(&telemetry, "warren_connections_refused_total", &labels), 1.0);
    assert!(lines[0].contains("\twarn\taccess\tconnection failed\tsrc.addr=10.0.0.1:1\t"), "{lines:?}");
    assert_eq!(field(&lines[0], "src.identity"), Some("spiffe://cluster.local/ns/a/sa/b"));
    let error = field(&lines[0], "error").unwrap();
    assert_eq!(error, "the request's authority is not a host and a port: \"x\"");
}

#[test]
fn bytes_are_seen_while_they_flow() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let worker = telemetry.worker();
    let bytes = |reporter| {
        let labels = [("reporter", reporter)];
        ["received", "sent"].map(|what| value(&telemetry, &format!("istio_tcp_{what}_bytes_total"), &labels))
    };
    let outgoing = to(&worker, &mesh, "10.1.0.1:80");
    outgoing.sent(10);
    outgoing.received(200);
    outgoing.client_sent(1);
    outgoing.server_sent(2);
    assert_eq!(bytes("source"), [11.0, 202.0], "received: from the client");
    let identity = "spiffe://cluster.local/ns/default/sa/client";
    let incoming = from(&worker, &mesh, "10.0.0.1:1", identity, "");
    incoming.received(30);
    incoming.sent(400);
    assert_eq!(bytes("destination"), [30.0, 400.0]);
    assert!(incoming.to_json().contains("\"bytes_recv\":30"), "{}", incoming.to_json());
    assert!(outgoing.to_json().contains("\"bytes_sent\":11"), "{}", outgoing.to_json());
}

#[test]
fn gauges_are_balanced() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let worker = telemetry.worker();
    let open = |name: &str| value(&telemetry, name, &[("reporter", "source")]);
    let connection = to(&worker, &mesh, "10.1.0.1:80");
    let tunnel = worker.tunnel_up(Direction::Outbound, Duration::from_millis(7));
    assert_eq!((open("istio_tcp_sockets_open"), open("warren_tunnels_open")), (1.0, 1.0));
    drop((connection, tunnel));
    assert_eq!((open("istio_tcp_sockets_open"), open("warren_tunnels_open")), (0.0, 0.0));
    worker.handshake_failed(Direction::Outbound, Refusal::PeerIdentity);
    for reason in ["ok", "peer_identity"] {
        assert_eq!(value(&telemetry, "warren_handshakes_total", &[("reason", reason)]), 1.0);
    }
}

#[test]
fn phases_are_timed_by_all_workers() {
    let telemetry = silent();
    for milliseconds in [1, 7] {
        let (worker, took) = (telemetry.worker(), Duration::from_millis(milliseconds));
        drop(worker.tunnel_up(Direction::Outbound, took));
        worker.connected(Direction::Inbound, took);
        worker.queued(took);
    }
    let phases = [("handshake", Some("source")), ("connect", Some("destination")), ("queue", None)];
    for (phase, reporter) in phases {
        let told = |what: &str, bound: Option<&str>| {
            let labels: Vec<_> =
                reporter.map(|of| ("reporter", of)).into_iter().chain(bound.map(|le| ("le", le))).collect();
            value(&telemetry, &format!("warren_{phase}_seconds_{what}"), &labels)
        };
        let within = ["0.0005", "0.005", "0.01", "+Inf"].map(|bound| told("bucket", Some(bound)));
        assert_eq!((within, told("sum", None), told("count", None)), ([0.0, 1.0, 2.0, 2.0], 0.008, 2.0), "{phase}");
    }
    assert_eq!(value(&telemetry, "warren_connect_seconds_count", &[("reporter", "source")]), 0.0);
}

#[test]
fn pools_are_counted_by_the_node_that_they_lead_to() {
    let telemetry = silent();
    let (worker, other) = (telemetry.worker(), telemetry.worker());
    let pooled = |node: &str| value(&telemetry, "warren_pool_tunnels", &[("node", node)]);
    let tunnels = [worker.pooled(&"a".into()), other.pooled(&"a".into()), other.pooled(&"".into())];
    assert_eq!((pooled("a"), pooled("unknown")), (2.0, 1.0));
    let [first, second, nowhere] = tunnels;
    drop((first, nowhere));
    assert_eq!((pooled("a"), pooled("unknown")), (1.0, 0.0));
    drop(second);
    assert!(!telemetry.encode().contains("warren_pool_tunnels{"), "what is gone is not told of");
}

#[test]
fn streams_are_counted_by_all_workers() {
    let telemetry = silent();
    let (worker, other) = (telemetry.worker(), telemetry.worker());
    for _ in 0..3 {
        worker.stream_opened(Direction::Inbound);
    }
    other.stream_opened(Direction::Inbound);
    worker.streams_closed(Direction::Inbound, 2);
    assert_eq!(value(&telemetry, "warren_streams_open", &[("reporter", "destination")]), 2.0);
    worker.streams_closed(Direction::Inbound, 1);
    assert_eq!(value(&telemetry, "warren_streams_open", &[]), 1.0);
}

#[test]
fn refusals_of_a_decision_are_recorded_with_the_source() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let client = mesh.pod("client");
    let decision = outbound(&mesh, &client, OriginalDst::new(address("10.1.0.1:99")), &mut Rng::seeded(1));
    let Outbound::Refuse(reason) = decision else { panic!("{decision:?}") };
    let connection = telemetry.worker().accept(Direction::Outbound, address("10.0.0.1:1"), address("10.1.0.1:99"));
    connection.describe(Parties::outbound(&client, &decision));
    connection.fail(reason, "");
    let labels = [("source_workload", "client"), ("destination_workload", "unknown")];
    assert_eq!(value(&telemetry, "istio_tcp_connections_opened_total", &labels), 1.0);
}

#[test]
fn what_must_not_leave_the_mesh_ends_where_istio_says() {
    let only = traffic("", proto::OutboundTrafficPolicy::RegistryOnly);
    let (telemetry, mesh) = (silent(), a_mesh().apply(proto::TRAFFIC, [only], &[]).0);
    to(&telemetry.worker(), &mesh, "192.168.0.1:80").fail(Refusal::NotInRegistry, "");
    let labels = [
        ("source_workload", "client"),
        ("destination_service", "BlackHoleCluster"),
        ("destination_service_name", "BlackHoleCluster"),
        ("destination_service_namespace", "unknown"),
        ("response_flags", "UH"),
    ];
    assert_eq!(value(&telemetry, "istio_tcp_connections_failed_total", &labels), 1.0);
    let labels = [("reporter", "source"), ("reason", "not_in_registry")];
    assert_eq!(value(&telemetry, "warren_connections_refused_total", &labels), 1.0);
}

#[test]
fn a_direct_connection_is_told_of_with_what_the_kernel_measured() {
    let mesh = a_mesh();
    let mut counted = None;
    let lines = logged("all", |worker| {
        let dst = OriginalDst::new(address("10.0.0.2:80"));
        let way = crate::decision::direct(&mesh, &mesh.pod("client"), dst).unwrap();
        let now = Instant::now();
        let began = now.checked_sub(Duration::from_millis(1500)).unwrap();
        let connection = worker.accepted(Direction::Outbound, address("10.0.0.1:1234"), address("10.0.0.2:80"), began);
        connection.describe(Parties::direct(&mesh.pod("client"), &way));
        connection.measured(Tcp { rtt: Duration::from_micros(250), retransmits: 3 });
        connection.ended(now.checked_sub(Duration::from_millis(500)).unwrap(), None, "");
        let telemetry = &worker.0.shared;
        let direct = [("connection_security_policy", "direct"), ("reporter", "source")];
        let names = ["istio_tcp_connections_closed_total", "warren_direct_rtt_seconds_sum"];
        let names = names.into_iter().chain(["warren_direct_rtt_seconds_count", "warren_direct_retransmits_total"]);
        counted = Some(names.map(|name| value(telemetry, name, &direct)).collect::<Vec<_>>());
    });
    assert_eq!(counted, Some(vec![1.0, 0.00025, 1.0, 3.0]));
    let fields = ["path", "duration", "rtt_us", "retransmits", "dst.hbone_addr"].map(|key| field(&lines[0], key));
    assert_eq!(fields, [Some("direct"), Some("1000ms"), Some("250"), Some("3"), None]);
}

#[test]
fn direct_connections_and_tunnelled_ones_are_counted_apart() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let worker = telemetry.worker();
    let _tunnelled = to(&worker, &mesh, "10.0.0.2:80");
    let way = crate::decision::direct(&mesh, &mesh.pod("client"), OriginalDst::new(address("10.0.0.2:80"))).unwrap();
    let direct = worker.accept(Direction::Outbound, address("10.0.0.1:1"), address("10.0.0.2:80"));
    direct.describe(Parties::direct(&mesh.pod("client"), &way));
    for security in ["direct", "mutual_tls"] {
        let labels = [("connection_security_policy", security)];
        assert_eq!(value(&telemetry, "istio_tcp_connections_opened_total", &labels), 1.0, "{security}");
    }
    assert_eq!(value(&telemetry, "warren_direct_rtt_seconds_count", &[]), 0.0, "it is still open");
}
