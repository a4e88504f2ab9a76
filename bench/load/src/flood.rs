//! An application that leaves others no room, if it is let: many threads that do the same again and again.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::client::{connect, exchange};
use crate::stats::{cpu_time, summary};
use crate::{gate, Failure};

/// What a thread does between two looks at the clock, with the connection that it has kept from the last time.
type Once = fn(SocketAddr, &mut Option<TcpStream>) -> Result<(), Failure>;

/// What each of `count` threads does during `time`: new connections, requests on one connection, or downloads. Prints how long
/// each took.
pub fn flood(kind: &str, addr: SocketAddr, time: Duration, count: usize) -> Result<(), Failure> {
    let once: Once = match kind {
        "connections" => connection,
        "requests" => request,
        "bytes" => download,
        _ => return Err(format!("{kind}: none of connections, requests, bytes").into()),
    };
    gate()?;
    let (start, cpu) = (Instant::now(), cpu_time());
    let work = || repeat(once, addr, start + time).map_err(|e| e.to_string());
    let mut took = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            took.extend(thread.join().map_err(|_| "a thread has panicked")??);
        }
        Ok::<_, Failure>(())
    })?;
    println!("{}", summary(took, start.elapsed(), cpu_time() - cpu));
    Ok(())
}

fn repeat(once: Once, addr: SocketAddr, until: Instant) -> Result<Vec<Duration>, Failure> {
    let (mut kept, mut took, mut before) = (None, Vec::new(), Instant::now());
    while before < until {
        once(addr, &mut kept)?;
        took.push(before.elapsed());
        before = Instant::now();
    }
    Ok(took)
}

fn kept(addr: SocketAddr, kept: &mut Option<TcpStream>) -> Result<&mut TcpStream, Failure> {
    Ok(match kept {
        Some(stream) => stream,
        None => kept.insert(connect(addr)?),
    })
}

/// Closed by a reset: no port waits for its time.
fn connection(addr: SocketAddr, _: &mut Option<TcpStream>) -> Result<(), Failure> {
    let mut stream = connect(addr)?;
    exchange(&mut stream, &mut [b'x'])?;
    Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
}

fn request(addr: SocketAddr, stream: &mut Option<TcpStream>) -> Result<(), Failure> {
    exchange(kept(addr, stream)?, &mut [b'x'; 64])
}

/// Of a server that sends without end.
fn download(addr: SocketAddr, stream: &mut Option<TcpStream>) -> Result<(), Failure> {
    Ok(kept(addr, stream)?.read_exact(&mut [0; 65_536])?)
}
