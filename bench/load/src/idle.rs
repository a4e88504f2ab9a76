//! Many connections at once that do nothing.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::client::{connect, exchange};
use crate::{gate, Failure};

/// Opens `count` connections, a byte each way on each so that it is known to reach the server, and holds them until told
/// to go on; then asks each once more. Prints how many there were, how many still answered, and how long opening took.
pub fn hold(addr: SocketAddr, count: usize) -> Result<(), Failure> {
    let start = Instant::now();
    let mut streams = (0..count).map(|i| open(addr, i)).collect::<Result<Vec<_>, _>>()?;
    let opening = start.elapsed().as_secs_f64();
    gate()?;
    let alive = streams.iter_mut().filter_map(|s| exchange(s, &mut [b'x']).ok()).count();
    println!(r#"{{"count":{count},"alive":{alive},"opening":{opening:.3}}}"#);
    Ok(())
}

fn open(addr: SocketAddr, index: usize) -> Result<TcpStream, Failure> {
    let ask = || {
        let mut stream = connect(addr)?;
        exchange(&mut stream, &mut [b'x'])?;
        Ok(stream)
    };
    ask().map_err(|e: Failure| format!("connection {index}: {e}").into())
}

/// How much is read of a connection that was left unread.
const READ_AGAIN: usize = 8 << 20;

/// Opens `count` connections to a server that sends without end, and reads nothing until told to go on; then reads 8 MB of the
/// first. Prints how long that took.
pub fn unread(addr: SocketAddr, count: usize) -> Result<(), Failure> {
    let streams = (0..count).map(|_| connect(addr)).collect::<Result<Vec<_>, _>>()?;
    gate()?;
    let start = Instant::now();
    let mut first = streams.first().ok_or("no connection")?;
    let (mut got, mut buf) = (0, vec![0; 65_536]);
    while got < READ_AGAIN {
        got += match first.read(&mut buf)? {
            0 => return Err("closed by the server".into()),
            n => n,
        };
    }
    println!(r#"{{"count":{count},"seconds":{:.3}}}"#, start.elapsed().as_secs_f64());
    Ok(())
}
