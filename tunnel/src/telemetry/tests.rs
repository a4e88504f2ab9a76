use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::base::{OriginalDst, Rng};
use crate::config::proto;
use crate::decision::{inbound, outbound, ConnectRequest, Outbound, Target};
use crate::mesh::testing::*;
use crate::mesh::Mesh;
use crate::observability::proto as observability;
use http::{Method, StatusCode};

/// What the writer of the log has written.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(access_log: &str) -> Options {
    Options { access_log: access_log.parse().unwrap() }
}

/// What is logged while `work` runs, line by line.
pub fn logged(access_log: &str, work: impl FnOnce(&WorkerTelemetry)) -> Vec<String> {
    let output = Output::default();
    let telemetry = Telemetry::with_output(options(access_log), output.clone()).unwrap();
    work(&telemetry.worker());
    telemetry.flush();
    let written = String::from_utf8(lock(&output.0).clone()).unwrap();
    written.lines().map(str::to_owned).collect()
}

pub fn silent() -> Arc<Telemetry> {
    Telemetry::with_output(options("off"), io::sink()).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn a_mesh() -> Mesh {
    let sent = service("s", &["10.1.0.1"]);
    let locality = Some(proto::Locality { region: "r".into(), zone: "z".into(), subzone: String::new() });
    let replica = |name: &str, ip| proto::Workload {
        workload_name: "server".into(),
        locality: locality.clone(),
        ..pod(name, &[ip]).of(&sent, &[])
    };
    mesh([
        resource(pod("client", &["10.0.0.1"])),
        resource(replica("server-1", "10.0.0.2")),
        resource(replica("server-2", "10.0.0.3")),
        resource(sent.clone()),
    ])
}

/// A connection of `client`, described.
fn to(worker: &WorkerTelemetry, mesh: &Mesh, dst: &str) -> ConnectionRecord {
    let client = mesh.pod("client");
    let connection = worker.accept(Direction::Outbound, address("10.0.0.1:1234"), address(dst));
    let decision = outbound(mesh, &client, OriginalDst::new(address(dst)), &mut Rng::seeded(1));
    connection.describe(Parties::outbound(&client, &decision));
    connection
}

/// A connection that came to `server-1` through a tunnel.
fn from(worker: &WorkerTelemetry, mesh: &Mesh, ip: &str, peer: &str, baggage: &str) -> ConnectionRecord {
    let local = mesh.pod("server-1");
    let request = ConnectRequest {
        method: b"CONNECT",
        authority: b"10.0.0.2:8080",
        forwarded: Some(b"host=s.default.svc.cluster.local"),
    };
    let decision = inbound(mesh, &local, local.addresses[0], &request).unwrap();
    let connection = worker.accept(Direction::Inbound, address(ip), address("10.0.0.2:15008"));
    let (peer, baggage) = (Arc::new(peer.parse().unwrap()), worker.baggage(baggage.as_bytes()));
    connection.describe(Parties::inbound(mesh, &local, &peer, address(ip).ip(), baggage, &decision));
    connection
}

#[test]
fn what_is_told_to_nobody_does_not_wait_for_the_writer() {
    let telemetry = silent();
    telemetry.worker().accept(Direction::Outbound, address("10.0.0.1:1"), address("10.0.0.2:80")).finish();
    assert_eq!(telemetry.recent(0)["flows"].as_array().map(Vec::len), Some(1));
}

type Labels = BTreeMap<String, String>;

/// Reads OpenMetrics text back, and checks its form.
fn parse(text: &str) -> Vec<(String, Labels, f64)> {
    let (mut families, mut samples) = (BTreeMap::new(), vec![]);
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
        } else if !line.starts_with("# HELP ") {
            samples.push(sample(line));
        }
    }
    for (name, _, _) in &samples {
        let forms = [
            ("_total", &["counter"][..]),
            ("_sum", &["summary", "histogram"]),
            ("_count", &["summary", "histogram"]),
            ("_bucket", &["histogram"]),
        ];
        let of_family = |(suffix, kinds)| Some((name.strip_suffix(suffix)?, kinds));
        let (family, kinds) = forms.into_iter().find_map(of_family).unwrap_or((name.as_str(), &["gauge"]));
        assert!(families.get(family).is_some_and(|kind| kinds.contains(&kind.as_str())), "{name}");
    }
    let mut keys: Vec<_> = samples.iter().map(|(name, labels, _)| (name, labels)).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), samples.len(), "samples are unique");
    samples
}

fn sample(line: &str) -> (String, Labels, f64) {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
    let mut rest = labels.strip_suffix('}').unwrap();
    let mut parsed = Labels::new();
    while let Some((key, after)) = rest.split_once("=\"") {
        let (mut value, mut chars) = (String::new(), after.char_indices());
        rest = loop {
            match chars.next().unwrap() {
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    escaped => escaped,
                }),
                (end, '"') => break &after[end + 1..],
                (_, c) => value.push(c),
            }
        };
        assert!(parsed.insert(key.trim_start_matches(',').to_owned(), value).is_none(), "{key} comes twice");
    }
    assert_eq!(rest, "");
    (name.to_owned(), parsed, value.parse().unwrap())
}

/// The sum of a metric over the samples with these labels.
fn value(telemetry: &Telemetry, name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |sample: &Labels| labels.iter().all(|(key, value)| sample.get(*key).is_some_and(|v| v == value));
    parse(&telemetry.encode()).iter().filter(|(n, l, _)| n == name && matches(l)).map(|(_, _, value)| value).sum()
}

fn connections(telemetry: &Telemetry) -> [f64; 3] {
    ["opened", "closed", "failed"].map(|what| value(telemetry, &format!("istio_tcp_connections_{what}_total"), &[]))
}

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

fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split('\t').find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
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

#[test]
fn gauges_are_balanced() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let worker = telemetry.worker();
    let open = |name: &str| value(&telemetry, name, &[("reporter", "source")]);
    let (connection, tunnel) = (to(&worker, &mesh, "10.1.0.1:80"), worker.tunnel_up(Direction::Outbound));
    assert_eq!((open("istio_tcp_sockets_open"), open("warren_tunnels_open")), (1.0, 1.0));
    drop((connection, tunnel));
    assert_eq!((open("istio_tcp_sockets_open"), open("warren_tunnels_open")), (0.0, 0.0));
    worker.handshake_failed(Direction::Outbound, Refusal::PeerIdentity);
    for reason in ["ok", "peer_identity"] {
        assert_eq!(value(&telemetry, "warren_handshakes_total", &[("reason", reason)]), 1.0);
    }
}

#[test]
fn a_line_says_all_there_is_to_say() {
    let mesh = a_mesh();
    let lines = logged("all", |worker| {
        let connection = to(worker, &mesh, "10.1.0.1:80");
        connection.sent(5);
        connection.received(7);
        connection.finish();
    });
    let fields: Vec<_> = lines[0].split('\t').collect();
    assert_eq!(fields[1..4], ["info", "access", "connection complete"]);
    let server = if lines[0].contains("server-1") { ("server-1", "10.0.0.2") } else { ("server-2", "10.0.0.3") };
    for (key, expected) in [
        ("src.addr", "10.0.0.1:1234"),
        ("src.workload", "client"),
        ("src.namespace", "default"),
        ("src.identity", "spiffe://cluster.local/ns/default/sa/client"),
        ("src.cluster", "Kubernetes"),
        ("dst.addr", "10.1.0.1:80"),
        ("dst.hbone_addr", &format!("{}:8080", server.1)),
        ("dst.service", "s.default.svc.cluster.local"),
        ("dst.workload", server.0),
        ("dst.namespace", "default"),
        ("dst.identity", "spiffe://cluster.local/ns/default/sa/server"),
        ("dst.cluster", "Kubernetes"),
        ("direction", "outbound"),
        ("bytes_sent", "5"),
        ("bytes_recv", "7"),
    ] {
        assert_eq!(field(&lines[0], key), Some(expected), "{key}");
    }
    assert!(field(&lines[0], "duration").unwrap().ends_with("ms"));
    assert_eq!(field(&lines[0], "error"), None);
}

#[test]
fn lines_are_json_when_asked() {
    let mesh = a_mesh();
    let lines = logged("all,json", |worker| to(worker, &mesh, "10.1.0.1:80").fail(Refusal::PeerDenied, "x\ny"));
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((line["level"].as_str(), line["scope"].as_str()), (Some("error"), Some("access")));
    assert_eq!(line["dst.service"], "s.default.svc.cluster.local");
    assert_eq!(line["error"], "the peer answered 401: denied by its policy: x\ny");
    assert_eq!((line["bytes_sent"].as_u64(), line["response_flags"].as_str()), (Some(0), Some("CONNECT")));
}

#[test]
fn only_what_is_wanted_is_logged() {
    let mesh = a_mesh();
    for (access_log, expected) in [("off", 0), ("errors", 2), ("all", 3)] {
        let lines = logged(access_log, |worker| {
            to(worker, &mesh, "10.1.0.1:80").finish();
            to(worker, &mesh, "10.1.0.1:80").fail(Refusal::ConnectFailed, "");
            let peer = Some(Arc::new("spiffe://other/ns/a/sa/b".parse().unwrap()));
            let (source, destination) = (address("10.0.0.9:1"), address("10.0.0.2:15008"));
            worker.refused(source, destination, peer, Refusal::PeerTrustDomain, "");
        });
        assert_eq!(lines.len(), expected, "{access_log}");
        if let Some(last) = lines.last() {
            assert_eq!(field(last, "src.identity"), Some("spiffe://other/ns/a/sa/b"));
            assert_eq!(field(last, "reason"), Some("peer_trust_domain"));
        }
    }
    assert!("everything".parse::<AccessLog>().is_err());
}

#[test]
fn nobody_can_break_a_line() {
    let mesh = a_mesh();
    let lines = logged("all", |worker| to(worker, &mesh, "10.1.0.1:80").fail(Refusal::TlsFailure, "a\tb\nc\u{1b}[0m"));
    assert_eq!(lines.len(), 1);
    let error = field(&lines[0], "error").unwrap();
    assert_eq!(error, "the TLS handshake failed: a\\tb\\nc\\u{1b}[0m");
}

/// Takes nothing before its sender is gone.
struct Stalled(mpsc::Receiver<()>);

impl io::Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_is_not_read_holds_nobody_up() {
    let (release, stalled) = mpsc::channel();
    let telemetry = Telemetry::with_output(options("all"), Stalled(stalled)).unwrap();
    let (worker, mesh) = (telemetry.worker(), a_mesh());
    (0..30_000).for_each(|_| to(&worker, &mesh, "10.1.0.1:80").finish());
    assert_eq!(connections(&telemetry), [30_000.0, 30_000.0, 0.0]);
    let dropped = value(&telemetry, "warren_log_lines_dropped_total", &[]);
    assert!((10_000.0..14_000.0).contains(&dropped), "{dropped}");
    drop(release);
}

#[test]
fn what_waits_for_the_log_is_bounded_in_bytes() {
    let (release, stalled) = mpsc::channel();
    let telemetry = Telemetry::with_output(options("all"), Stalled(stalled)).unwrap();
    let (worker, mesh, detail) = (telemetry.worker(), a_mesh(), "x".repeat(100_000));
    let told = 20_000;
    for _ in 0..told {
        let connection = to(&worker, &mesh, "10.1.0.1:80");
        connection.sent(1);
        connection.fail(Refusal::TunnelLost, &detail);
    }
    let dropped = value(&telemetry, "warren_log_lines_dropped_total", &[]);
    let waiting = (f64::from(told) - dropped) * 1024.0; // of each detail a kilobyte is kept
    assert!((4e6..8.4e6).contains(&waiting), "{waiting}");
    drop(release);
}

#[test]
fn a_peer_cannot_fill_the_log_with_refusals() {
    let mesh = a_mesh();
    let mut counted = vec![];
    let lines = logged("all", |worker| {
        for _ in 0..1000 {
            to(worker, &mesh, "10.1.0.1:80").fail(Refusal::ConnectFailed, "");
            worker.refused(address("10.0.0.9:1"), address("10.0.0.2:15008"), None, Refusal::TlsFailure, "");
        }
        for _ in 0..200 {
            let busy = to(worker, &mesh, "10.1.0.1:80");
            busy.sent(1);
            busy.fail(Refusal::AppReset, "");
            to(worker, &mesh, "10.1.0.1:80").fail(Refusal::PolicyChanged, "");
            to(worker, &mesh, "10.1.0.1:80").finish();
        }
        let names = ["warren_connections_refused_total", "warren_log_lines_withheld_total"];
        counted = names.map(|name| value(&worker.0.shared, name, &[])).to_vec();
    });
    let of = |reason| lines.iter().filter(|line| field(line, "reason") == Some(reason)).count();
    let (connect, handshake) = (of("connect_failed"), of("tls_failure"));
    assert!((100..150).contains(&connect) && (100..150).contains(&handshake), "{connect} {handshake}");
    assert_eq!((of("app_reset"), of("policy_changed")), (200, 200), "what has carried something, and what we cut");
    let told: Vec<_> =
        lines.iter().filter(|line| line.contains("more refusals of this peer were not logged")).collect();
    let mut sources: Vec<_> = told.iter().map(|line| field(line, "src.addr").unwrap()).collect();
    sources.sort_unstable();
    assert_eq!(sources, ["10.0.0.1", "10.0.0.9"]);
    let withheld = 2000 - connect - handshake;
    assert_eq!(
        told.iter().map(|line| field(line, "count").unwrap().parse::<usize>().unwrap()).sum::<usize>(),
        withheld
    );
    assert_eq!(counted, [2400.0, withheld as f64]);
}

#[test]
fn a_log_that_is_off_says_nothing_of_refusals_that_were_many() {
    let mesh = a_mesh();
    let refuse = |worker: &WorkerTelemetry| {
        (0..1000).for_each(|_| to(worker, &mesh, "10.1.0.1:80").fail(Refusal::ConnectFailed, ""));
    };
    assert_eq!(logged("off", refuse), Vec::<String>::new());
}

#[test]
fn peers_that_are_told_apart_by_baggage_are_bounded() {
    let (telemetry, mesh) = (silent(), a_mesh());
    let worker = telemetry.worker();
    for number in 0..1000 {
        let baggage = format!("k8s.deployment.name=d{number}");
        from(&worker, &mesh, "10.9.9.9:1", "spiffe://cluster.local/ns/x/sa/y", &baggage).finish();
    }
    let series = parse(&telemetry.encode());
    let series = series.iter().filter(|(name, _, _)| name == "istio_tcp_connections_opened_total").count();
    assert_eq!(series, 257, "256, and all others as one");
    assert_eq!(value(&telemetry, "istio_tcp_connections_opened_total", &[]), 1000.0);
}

#[test]
fn baggage_is_printed_as_it_was_read() {
    let full = "k8s.cluster.name=c,k8s.namespace.name=n,k8s.cronjob.name=w,service.name=s,service.version=v,\
                cloud.region=r,cloud.availability_zone=z";
    assert_eq!(Baggage::parse(full.as_bytes()).unwrap().to_string(), full);
    let spaced = Baggage::parse(b"other=1, k8s.pod.name=w ,broken").unwrap();
    assert_eq!(spaced.to_string(), "k8s.pod.name=w");
    let (long, longer) = ("n".repeat(254), format!("k8s.pod.name=w,other={}", "n".repeat(4096)));
    let believed = Baggage::parse(format!("k8s.pod.name={long},service.name={}", &long[1..]).as_bytes()).unwrap();
    assert_eq!(believed.to_string(), format!("service.name={}", &long[1..]));
    for nothing in [&b""[..], b"other=1", b"k8s.pod.name", b"\xff", longer.as_bytes()] {
        assert!(Baggage::parse(nothing).is_none());
    }
    let own = Baggage::of(&a_mesh().pod("server-1")).to_string();
    let expected = "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=server,\
                    service.name=server,service.version=v1,cloud.region=r,cloud.availability_zone=z";
    assert_eq!(own, expected);
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

/// A request of `client` for the service, which one of its pods has answered.
pub fn request(mesh: &Mesh, status: u16, flags: Flags) -> Request<'static> {
    let source = mesh.pod("client");
    let Outbound::Hbone(route) = outbound(mesh, &source, to_service(), &mut Rng::seeded(1)) else { panic!() };
    let (ip, service) = (route.dial.ip(), route.service.clone());
    let target = Target { workload: route.destination, ip, port: 8080, behind: None, service: service.clone() };
    Request {
        parties: Parties::to_target(&source, Some(&target), service.as_ref()),
        direction: Direction::Outbound,
        method: Method::GET,
        authority: "s:80".into(),
        path: "/a?b=\t".into(),
        http2: false,
        grpc: false,
        route: "canary".into(),
        status: StatusCode::from_u16(status).ok(),
        flags,
        reason: String::new(),
        attempts: 2,
        failure: String::new(),
        duration: Duration::from_micros(7400),
        upstream: Some(Duration::from_millis(6)),
        endpoint: Some(address("10.0.0.2:8080")),
        client: address("10.0.0.1:4711"),
        observed: Observed { headers: vec![("x-team".into(), "blue".into())], ..Observed::default() },
        sent: Amount { bytes: 120, messages: 1 },
        received: Amount { bytes: 7000, messages: 3 },
        grpc_status: None,
    }
}

fn to_service() -> OriginalDst {
    OriginalDst::new(address("10.1.0.1:80"))
}

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
