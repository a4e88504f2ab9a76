//! Round trips beside connections that send all they can.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::client::{connect, exchange};
use crate::serve::BULK;
use crate::stats::{cpu_time, summary};
use crate::{gate, Failure};

const CHUNK: usize = 128 << 10;
/// For the flows to come to their speed.
const WARM_UP: Duration = Duration::from_millis(500);
/// Between two round trips: they are no load themselves.
const PAUSE: Duration = Duration::from_millis(1);

static SENT: AtomicU64 = AtomicU64::new(0);

/// Round trips of a byte during `time`, by turns on a connection that was there before the `flows` and on one that came
/// after them. Prints how long they took, and what the flows sent in bytes and Gbit/s.
pub fn round_trips(addr: SocketAddr, time: Duration, flows: usize) -> Result<(), Failure> {
    let mut echoes = vec![echo(addr)?];
    for _ in 0..flows {
        let stream = connect(addr)?;
        thread::spawn(|| send_all(stream));
    }
    sleep(WARM_UP);
    echoes.push(echo(addr)?);
    gate()?;
    let (start, cpu, sent) = (Instant::now(), cpu_time(), SENT.load(Ordering::Relaxed));
    let mut took = Vec::with_capacity(1 << 16);
    while start.elapsed() < time {
        for stream in &mut echoes {
            let before = Instant::now();
            exchange(stream, &mut [b'e'])?;
            took.push(before.elapsed());
            sleep(PAUSE);
        }
    }
    let (elapsed, cpu, sent) = (start.elapsed(), cpu_time() - cpu, SENT.load(Ordering::Relaxed) - sent);
    let gbps = sent as f64 * 8e-9 / elapsed.as_secs_f64();
    let text = summary(took, elapsed, cpu);
    println!(r#"{},"bytes":{sent},"gbps":{gbps:.3}}}"#, text.trim_end_matches('}'));
    Ok(())
}

fn echo(addr: SocketAddr) -> Result<TcpStream, Failure> {
    let mut stream = connect(addr)?;
    stream.set_nodelay(true)?;
    exchange(&mut stream, &mut [b'e'])?;
    Ok(stream)
}

/// Until the server, or this process, has ended.
fn send_all(mut stream: TcpStream) {
    let chunk = [BULK; CHUNK];
    while stream.write_all(&chunk).is_ok() {
        SENT.fetch_add(CHUNK as u64, Ordering::Relaxed);
    }
}
