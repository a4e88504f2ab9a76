//! What decisions and the mesh cost at size: `cargo test --release measure -- --ignored --nocapture --test-threads 1`.

use crate::base::OriginalDst;
use crate::config::Resource;
use std::net::SocketAddr;
use std::time::Instant;

use super::*;
use crate::base::Rng;
use crate::config::proto;
use crate::mesh::testing::*;
use crate::mesh::Mesh;
use crate::telemetry::{Direction, Options, Parties, Telemetry};

const SERVICES: u32 = 10_000;
const PODS_PER_SERVICE: u32 = 5;

fn vip(index: u32) -> String {
    std::net::Ipv4Addr::from(0x0a60_0000 + index).to_string()
}

fn ip(index: u32) -> String {
    std::net::Ipv4Addr::from(0x0a80_0000 + index).to_string()
}

fn sent_pod(index: u32, of: &proto::Service) -> proto::Workload {
    let app = format!("app-{}", of.name);
    let locality = proto::Locality { region: "eu-1".into(), zone: format!("eu-1-{}", index % 3), ..Default::default() };
    let name = format!("{app}-5b5d6494f4-{index:05}");
    proto::Workload {
        service_account: app.clone(),
        workload_name: app.clone(),
        canonical_name: app,
        node: format!("node-{}", index % 500),
        locality: Some(locality),
        ..pod(&name, &[&ip(index)]).of(of, &[(80, 8080)])
    }
}

fn push() -> Vec<Resource> {
    let mut push = vec![resource(pod("client", &["10.0.0.1"]))];
    for index in 0..SERVICES {
        let sent = service(&format!("service-{index}"), &[&vip(index)]);
        let pods = index * PODS_PER_SERVICE..(index + 1) * PODS_PER_SERVICE;
        push.extend(pods.map(|pod| resource(sent_pod(pod, &sent))));
        push.push(resource(sent));
    }
    push
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
}

fn ns_each(what: &str, times: u32, mut work: impl FnMut(u32)) {
    let start = Instant::now();
    (0..times).for_each(&mut work);
    println!("{what}: {} ns", start.elapsed().as_nanos() / u128::from(times));
}

#[test]
#[ignore = "a measurement"]
fn measure() {
    let push = push();
    let (start, before) = (Instant::now(), resident());
    let (mesh, rejected) = Mesh::new("node-1").apply(proto::ADDRESS, push, &[]);
    assert_eq!(rejected, []);
    let pods = SERVICES * PODS_PER_SERVICE;
    let bytes = (resident() - before) / u64::from(pods);
    println!(
        "one push of everything: {} ms, {bytes} bytes a workload with its share of services",
        start.elapsed().as_millis()
    );

    let (client, mut rng) = (mesh.pod("client"), Rng::seeded(1));
    let mut decide = |dst: SocketAddr| std::hint::black_box(outbound(&mesh, &client, OriginalDst::new(dst), &mut rng));
    let vips: Vec<SocketAddr> = (0..SERVICES).map(|index| format!("{}:80", vip(index)).parse().unwrap()).collect();
    let spread = |n: u32| vips[(n.wrapping_mul(2_654_435_761) % SERVICES) as usize];
    ns_each("decision for one service", 1_000_000, |_| drop(decide(vips[7])));
    ns_each("decision for services at random", 1_000_000, |n| drop(decide(spread(n))));
    let direct = format!("{}:8080", ip(1234)).parse().unwrap();
    ns_each("decision for a pod", 1_000_000, |_| drop(decide(direct)));
    ns_each("decision for an unknown address", 1_000_000, |_| drop(decide(([192, 168, 0, 1], 80).into())));

    let sent = service("service-7", &[&vip(7)]);
    ns_each("push of one changed workload", 1000, |n| {
        let mut changed = sent_pod(35, &sent);
        changed.status = (n % 2) as i32;
        drop(mesh.apply(proto::ADDRESS, [resource(changed)], &[]));
    });
    large_service(&mesh);
    records(&mesh);
}

fn large_service(mesh: &Mesh) {
    let sent = service("large", &["10.1.0.1"]);
    let endpoints: Vec<_> = (0..5000).map(|index| resource(sent_pod(100_000 + index, &sent))).collect();
    let (mesh, _) = mesh.and([resource(sent.clone())]).apply(proto::ADDRESS, endpoints, &[]);
    let (client, mut rng) = (mesh.pod("client"), Rng::seeded(1));
    let dst = OriginalDst::new("10.1.0.1:80".parse().unwrap());
    ns_each("decision for a service of 5,000 endpoints", 1_000_000, |_| {
        drop(std::hint::black_box(outbound(&mesh, &client, dst, &mut rng)));
    });
    ns_each("push of one changed endpoint of 5,000", 1000, |n| {
        let changed = proto::Workload { status: (n % 2) as i32, ..sent_pod(100_000, &sent) };
        drop(mesh.apply(proto::ADDRESS, [resource(changed)], &[]));
    });
    let balancing = proto::LoadBalancing { mode: 2, routing_preference: vec![1, 2, 4], health_policy: 0 };
    let mesh = mesh.and([resource(proto::Service { load_balancing: Some(balancing), ..sent })]);
    ns_each("decision for the nearest of 5,000 endpoints", 1000, |_| {
        drop(std::hint::black_box(outbound(&mesh, &client, dst, &mut rng)));
    });
}

fn records(mesh: &Mesh) {
    for access_log in ["off", "all"] {
        let options = Options { access_log: access_log.parse().unwrap() };
        let telemetry = Telemetry::with_output(options, std::io::sink()).unwrap();
        let worker = telemetry.worker();
        let (client, mut rng) = (mesh.pod("client"), Rng::seeded(1));
        let dst: SocketAddr = format!("{}:80", vip(7)).parse().unwrap();
        let decision = outbound(mesh, &client, OriginalDst::new(dst), &mut rng);
        let open = || {
            let connection = worker.accept(Direction::Outbound, dst, dst);
            connection.describe(Parties::outbound(&client, &decision));
            connection
        };
        // Fewer than the log holds, so that each is written.
        ns_each(&format!("record of a connection, access log {access_log}"), 10_000, |_| open().finish());
        let start = Instant::now();
        telemetry.flush();
        println!("until all is written: {} ns each", start.elapsed().as_nanos() / 10_000);
        let connection = open();
        ns_each("bytes of a connection", 10_000_000, |n| std::hint::black_box(&connection).sent(u64::from(n)));
    }
}
