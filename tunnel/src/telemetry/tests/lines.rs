//! The access log: its lines, and what it must not hold up.
use super::*;

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
