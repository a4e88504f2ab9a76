//! One thread and one epoll instance for servers that each do one simple thing.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{listen, sockopt::set_socket_send_buffer_size};

use crate::Failure;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n";
const BACKLOG: i32 = 4096;
static ZEROS: &[u8] = &[0; 65_536];
/// Bytes that the kernel takes of a `Source`: of 2,000 that nobody reads it would take gigabytes otherwise, and filling them
/// would keep the processor from what is measured.
const UNSENT: usize = 256 << 10;
/// With which a connection begins that is to be a `Sink`.
pub const BULK: u8 = b'b';
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// What a server does with its connections.
#[derive(Clone, Copy)]
pub enum Kind {
    Echo,
    /// Answers every request the same: how many bytes of the empty line that ends a request's head were seen.
    Http(usize),
    /// Sends zeros without end.
    Source,
    /// Reads nothing.
    Held,
    /// The first byte decides: `BULK` is read and not answered, all else is echoed.
    Mix,
    /// Reads all and answers nothing.
    Sink,
}

struct Connection {
    stream: TcpStream,
    kind: Kind,
}

/// Serves for ever. A client that does not read what it asked for is disconnected.
pub fn serve(servers: &[(SocketAddr, Kind)]) -> Result<(), Failure> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut listeners = HashMap::new();
    for (addr, kind) in servers {
        let listener = bind(*addr)?;
        watch(&poll, &listener, EventFlags::IN)?;
        listeners.insert(key_of(&listener), (listener, *kind));
    }
    println!("ready");
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
    let mut buf = vec![0; 65_536];
    loop {
        let count = epoll::wait(&poll, &mut events, None)?;
        for event in &events[..count] {
            let key = event.data.u64();
            if let Some((listener, kind)) = listeners.get(&key) {
                accept(&poll, listener, *kind, &mut connections)?;
            } else if connections.get_mut(&key).is_some_and(|c| !c.answer(&mut buf)) {
                connections.remove(&key);
            }
        }
    }
}

/// Each server in a thread of its own: thousands of downloads should not hold up an echo here, where nobody measures it.
pub fn apart(servers: Vec<(SocketAddr, Kind)>) -> Result<(), Failure> {
    let serve_one = |server| thread::spawn(move || serve(&[server]).map_err(|e| e.to_string()));
    for server in servers.into_iter().map(serve_one).collect::<Vec<_>>() {
        server.join().map_err(|_| "a server has panicked")??;
    }
    Ok(())
}

pub fn bind(addr: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(addr).map_err(|e| format!("listen on {addr}: {e}"))?;
    listener.set_nonblocking(true)?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

pub fn key_of(socket: &impl AsRawFd) -> u64 {
    socket.as_raw_fd() as u64
}

pub fn watch(poll: &impl AsFd, socket: &(impl AsFd + AsRawFd), events: EventFlags) -> Result<(), Failure> {
    Ok(epoll::add(poll, socket, EventData::new_u64(key_of(socket)), events)?)
}

fn accept(
    poll: &impl AsFd,
    listener: &TcpListener,
    kind: Kind,
    connections: &mut HashMap<u64, Connection>,
) -> Result<(), Failure> {
    // A client that is gone before it is accepted is no failure of the server.
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        if matches!(kind, Kind::Source) {
            set_socket_send_buffer_size(&stream, UNSENT)?;
        }
        let events = match kind {
            Kind::Source => EventFlags::OUT,
            Kind::Held => EventFlags::empty(), // it is still told of the end
            Kind::Echo | Kind::Http(_) | Kind::Mix | Kind::Sink => EventFlags::IN,
        };
        watch(poll, &stream, events)?;
        connections.insert(key_of(&stream), Connection { stream, kind });
    }
    Ok(())
}

impl Connection {
    /// Reads what there is and answers it; false when the connection is over.
    fn answer(&mut self, buf: &mut [u8]) -> bool {
        match self.kind {
            Kind::Source => return self.stream.write(ZEROS).is_ok(),
            Kind::Held => return false,
            Kind::Echo | Kind::Http(_) | Kind::Mix | Kind::Sink => {}
        }
        match self.stream.read(buf) {
            Ok(0) => false,
            Ok(n) => match &mut self.kind {
                kind @ Kind::Mix if buf[0] == BULK => {
                    *kind = Kind::Sink;
                    true
                }
                Kind::Sink => true,
                Kind::Http(seen) => {
                    let requests = count_requests(&buf[..n], seen);
                    self.stream.write_all(&RESPONSE.repeat(requests)).is_ok()
                }
                kind => {
                    *kind = Kind::Echo;
                    self.stream.write_all(&buf[..n]).is_ok()
                }
            },
            Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

/// Requests whose head ends in `data`; `seen` carries the state from one read to the next. Requests have no body.
fn count_requests(data: &[u8], seen: &mut usize) -> usize {
    let mut requests = 0;
    for &byte in data {
        *seen = match byte {
            b if b == END_OF_HEAD[*seen] => *seen + 1,
            b'\r' => 1,
            _ => 0,
        };
        if *seen == END_OF_HEAD.len() {
            requests += 1;
            *seen = 0;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_across_reads() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        for split in 0..text.len() {
            let mut seen = 0;
            let (head, tail) = text.split_at(split);
            assert_eq!(count_requests(head, &mut seen) + count_requests(tail, &mut seen), 2, "split at {split}");
        }
    }
}
