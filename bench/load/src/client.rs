//! Round trips on one connection, and connections one after the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::stats::{cpu_time, summary};
use crate::{gate, Failure};

/// No answer within this time is a failure, not a slow answer.
const PATIENCE: Duration = Duration::from_secs(5);
const WARM_UP: usize = 200;
const WARM_UP_CONNECTIONS: usize = 20;

pub fn connect(addr: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).map_err(|e| format!("connect to {addr}: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends `buf` and waits until as much came back.
pub fn exchange(stream: &mut TcpStream, buf: &mut [u8]) -> Result<(), Failure> {
    stream.write_all(buf).map_err(|e| format!("send: {e}"))?;
    stream.read_exact(buf).map_err(|e| format!("wait for the answer: {e}").into())
}

/// Round trips of `size` bytes during `time`.
pub fn round_trips(addr: SocketAddr, time: Duration, size: usize) -> Result<(), Failure> {
    let mut buf = vec![b'x'; size];
    let mut stream = connect(addr)?;
    stream.set_nodelay(true)?;
    for _ in 0..WARM_UP {
        exchange(&mut stream, &mut buf)?;
    }
    measure(time, usize::MAX, || exchange(&mut stream, &mut buf))
}

/// Connections during `time`, at most `max` of them: connect, one byte each way, close.
///
/// Closing with a FIN leaves this side in TIME_WAIT; `reset` closes with a RST instead.
pub fn connections(addr: SocketAddr, time: Duration, max: usize, reset: bool) -> Result<(), Failure> {
    let one = || {
        let mut stream = connect(addr)?;
        exchange(&mut stream, &mut [b'x'])?;
        if reset {
            set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
        Ok(())
    };
    for _ in 0..WARM_UP_CONNECTIONS {
        one()?;
    }
    measure(time, max, one)
}

/// Repeats `operation` during `time`, at most `max` times, and prints how long each took.
fn measure(time: Duration, max: usize, mut operation: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let mut took = Vec::with_capacity(1 << 20);
    gate()?;
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut before = start;
    while before - start < time && took.len() < max {
        operation()?;
        let after = Instant::now();
        took.push(after - before);
        before = after;
    }
    let (elapsed, cpu) = (before - start, cpu_time() - cpu);
    println!("{}", summary(took, elapsed, cpu));
    Ok(())
}
