//! What all tests of telemetry have: a mesh, connections and requests of it, and the text format read back.
mod connections;
mod labels;
mod lines;
mod overrides;
mod requests;

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

impl WorkerTelemetry {
    /// All metrics of its process.
    pub fn encode(&self) -> String {
        self.0.shared.encode()
    }
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

fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split('\t').find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
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
