//! What it costs to read a request's header block, of peers as they are and of one that wants to cost most:
//! `cargo bench --manifest-path tunnel/Cargo.toml --bench headers`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use _core::h2::headers::{read, Block, Decoder, Kind};

/// Each round; the best of them is told.
const ROUND: Duration = Duration::from_millis(100);
const ROUNDS: usize = 5;

/// A CONNECT with ztunnel's fields as its encoder writes it, with Huffman: the first one of a tunnel, and a later one,
/// which refers to what the first one has left in the table.
const FIRST: &str = "\
    4287bdab4e9c17b7ff418c0817134d2e15c2edc780f03f40858c734c398bff0eeaf2172516a125b17a874960cd6c65b2a2a4a8faeaf217a8\
    7495158c855ea1d2582339fa9aa94ff5d5e42f216ba0fea92d495ea1d2582bb0f25a44d6398ab770fd20b677310abd43a4b05761e4b489ac\
    7317e905b3b98855fb96c418f541dc3f44a0f6c8bd8598c7aa02dab10b526c1d0b07e8941ed9171f719a81c66a0c9f517b3d4580b6ac42d4\
    9b0742c11f408794f6781d92164fad94f641fc840b89a69702efdc682265afe7ee73a130585ee62f842f19cfd4d54a75d1dc8b928b5092d8\
    bd0720e840884d83216b1d85a93fa7001600e575c6c2f85c248d33248f34d3c58c41091e03217c8b46e8e4723742e3e2032cb215800f";
const LATER: &str = "\
    c2c1c07f00ad94f641fc840b89a69702efdc682265cfe7ee73a130585ee62f842f19cfd4d54a75d1dc8b928b5092d8bd0720e87f00a70016\
    6a395f14acb6ebb1b2d483706c90af89f9005015a7597160025038e8c608c6f8051bab001f";

/// Four line breaks, of 30 bits each.
const LINE_BREAKS: [u8; 15] =
    [0xff, 0xff, 0xff, 0xf3, 0xff, 0xff, 0xff, 0xcf, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xfc];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}

/// What another tunnel of ours sends.
fn ours() -> Vec<u8> {
    let mut block = Block::connect("10.244.1.17:8080");
    let baggage = "k8s.cluster.name=Kubernetes,k8s.namespace.name=bookinfo,k8s.deployment.name=productpage-v1,\
                   service.name=productpage,service.version=v1,cloud.region=eu-central-1,\
                   cloud.availability_zone=eu-central-1a";
    block.field("baggage", baggage);
    block.field("forwarded", "for=\"10.244.0.9:41234\";host=reviews.bookinfo.svc.cluster.local");
    block.field("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
    block.0
}

/// A request with more fields: `one` as often as it fits into a header list.
fn many(one: &[u8], size: usize) -> Vec<u8> {
    let request = [0x02, 7, b'C', b'O', b'N', b'N', b'E', b'C', b'T', 0x01, 1, b'a'];
    let times = (64 << 10) / size - 3;
    request.into_iter().chain(one.repeat(times)).collect()
}

fn best(mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let (start, mut times) = (Instant::now(), 0u32);
        while start.elapsed() < ROUND {
            work();
            times += 1;
        }
        start.elapsed() / times
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

fn main() {
    let (first, later, ours) = (bytes(FIRST), bytes(LATER), ours());
    let request = |decoder: &mut Decoder, block: &[u8]| drop(black_box(read(decoder, black_box(block), Kind::Request)));
    let mut warm = Decoder::new();
    request(&mut warm, &first);
    let alone = |block: &[u8]| best(|| request(&mut Decoder::new(), block));
    println!("CONNECT of ztunnel, a tunnel's first: {:?}", alone(&first));
    println!("CONNECT of ztunnel, a later one: {:?}", best(|| request(&mut warm, &later)));
    println!("CONNECT of ours: {:?}", best(|| request(&mut warm, &ours)));
    let long = |code: &[u8], times: usize| {
        let len = code.len() * times;
        let mut block = vec![0x0f, 0x04, 0xff]; // accept
        let rest = len - 127;
        block.extend([(rest % 128) as u8 | 128, (rest / 128 % 128) as u8 | 128, (rest / 16_384) as u8]);
        block.extend(code.repeat(times));
        block
    };
    for (what, block) in [
        ("Huffman strings of one character", many(&[0x0f, 0x04, 0x81, 0x1f], 6 + 1 + 32)),
        ("a string of the shortest codes", long(&[0x00; 5], 6_000)),
        ("a string of the longest codes", long(&LINE_BREAKS, 2_000)),
        ("baggage in many parts", many(&[0x00, 7, b'b', b'a', b'g', b'g', b'a', b'g', b'e', 1, b'a'], 7 + 1 + 32)),
        ("fields from the static table", many(&[0x90], 15 + 13 + 32)),
    ] {
        let (times, took) = (293_000 / block.len().max(1), alone(&block));
        let each = took.as_nanos() as f64 / block.len() as f64;
        println!("{what}: {took:?} a block of {}, {each:.1} ns a byte; 293 kB: {:?}", block.len(), took * times as u32);
    }
}
