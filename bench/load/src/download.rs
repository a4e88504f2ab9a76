//! A server of large answers: a thread a connection, so that one download never waits for another.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::Failure;

const SIZE: usize = 100_000_000;
static ZEROS: &[u8] = &[0; 262_144];

/// Serves for ever: `SIZE` bytes to each request.
pub fn serve(addr: SocketAddr) -> Result<(), Failure> {
    for stream in TcpListener::bind(addr)?.incoming() {
        let stream = stream?;
        thread::spawn(move || answer(&stream));
    }
    Ok(())
}

/// Ends with the connection, whoever ends it.
fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        while !lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??.is_empty() {}
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")?;
        let mut left = SIZE;
        while left > 0 {
            left -= stream.write(&ZEROS[..left.min(ZEROS.len())])?;
        }
    }
}
