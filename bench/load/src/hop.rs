//! A relay that does nothing but to copy: what a way through two proxies costs before either does any work.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::thread;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::serve::{bind, key_of, watch};
use crate::Failure;

/// As many threads as other proxies have workers.
const THREADS: usize = 2;
/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// One end of a connection that is relayed.
struct End {
    sock: TcpStream,
    /// What it has not taken yet of what the other end has said: so long the other one is not read.
    rest: Vec<u8>,
    /// It says no more.
    ended: bool,
}

struct Pair([End; 2]);

/// Passes on what comes to each first address to the second one, for ever.
pub fn relay(ways: &[(SocketAddr, SocketAddr)]) -> Result<(), Failure> {
    let listeners = ways.iter().map(|(at, to)| Ok((bind(*at)?, *to))).collect::<Result<Vec<_>, Failure>>()?;
    println!("ready");
    thread::scope(|scope| {
        let run = || work(&listeners).map_err(|error| error.to_string());
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().try_for_each(|thread| Ok(thread.join().map_err(|_| "a relay has panicked")??))
    })
}

fn work(listeners: &[(TcpListener, SocketAddr)]) -> Result<(), Failure> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    for (listener, _) in listeners {
        watch(&poll, listener, EventFlags::IN | EventFlags::EXCLUSIVE)?; // which wakes one of the threads
    }
    let mut pairs: HashMap<u64, (Rc<RefCell<Pair>>, usize)> = HashMap::new();
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
    let mut buf = vec![0; PIECE];
    loop {
        let count = epoll::wait(&poll, &mut events, None)?;
        for event in &events[..count] {
            let key = event.data.u64();
            if let Some((listener, to)) = listeners.iter().find(|(listener, _)| key_of(listener) == key) {
                while let Ok((sock, _)) = listener.accept() {
                    for (index, (key, pair)) in begin(&poll, sock, *to).into_iter().flatten().enumerate() {
                        pairs.insert(key, (pair, index));
                    }
                }
                continue;
            }
            let Some((pair, index)) = pairs.get(&key).map(|(pair, index)| (pair.clone(), *index)) else { continue };
            let ends = &mut *pair.borrow_mut();
            if !(ends.write_rest(&poll, index) && ends.pass(&poll, index, &mut buf)) {
                ends.0.iter().for_each(|end| drop(pairs.remove(&key_of(&end.sock))));
            }
        }
    }
}

/// A connection and the next one, each with its key; none where the next one cannot be made.
fn begin(poll: &OwnedFd, sock: TcpStream, to: SocketAddr) -> Option<[(u64, Rc<RefCell<Pair>>); 2]> {
    let next = TcpStream::connect(to).ok()?;
    let ends = [sock, next].map(|sock| End { sock, rest: Vec::new(), ended: false });
    for End { sock, .. } in &ends {
        sock.set_nonblocking(true).and_then(|()| sock.set_nodelay(true)).ok()?;
        watch(poll, sock, EventFlags::IN).ok()?;
    }
    let keys = [0, 1].map(|index| key_of(&ends[index].sock));
    let pair = Rc::new(RefCell::new(Pair(ends)));
    Some(keys.map(|key| (key, pair.clone())))
}

impl Pair {
    /// What this end did not take before. False when the connection is over.
    fn write_rest(&mut self, poll: &OwnedFd, index: usize) -> bool {
        let end = &mut self.0[index];
        if end.rest.is_empty() {
            return true;
        }
        let Some(n) = written(end.sock.write(&end.rest)) else { return false };
        end.rest.drain(..n);
        if !end.rest.is_empty() {
            return true;
        }
        if self.0[1 - index].ended && self.0[index].sock.shutdown(Shutdown::Write).is_err() {
            return false;
        }
        self.ask(poll)
    }

    /// What this end has to say, once. False when the connection is over.
    fn pass(&mut self, poll: &OwnedFd, index: usize, buf: &mut [u8]) -> bool {
        if self.0[index].ended || !self.0[1 - index].rest.is_empty() {
            return true;
        }
        let n = match self.0[index].sock.read(buf) {
            Ok(n) => n,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if n == 0 {
            self.0[index].ended = true;
            return !self.0[1 - index].ended
                && self.0[1 - index].sock.shutdown(Shutdown::Write).is_ok()
                && self.ask(poll);
        }
        let other = &mut self.0[1 - index];
        let Some(taken) = written(other.sock.write(&buf[..n])) else { return false };
        other.rest.extend_from_slice(&buf[taken..n]);
        taken == n || self.ask(poll)
    }

    /// Asks for what each end can do now.
    fn ask(&self, poll: &OwnedFd) -> bool {
        (0..2).all(|index| {
            let (end, other) = (&self.0[index], &self.0[1 - index]);
            let mut events = EventFlags::empty();
            events.set(EventFlags::IN, !end.ended && other.rest.is_empty());
            events.set(EventFlags::OUT, !end.rest.is_empty());
            epoll::modify(poll, end.sock.as_fd(), EventData::new_u64(key_of(&end.sock)), events).is_ok()
        })
    }
}

/// How much of a write was taken; none when the connection is over.
fn written(result: std::io::Result<usize>) -> Option<usize> {
    match result {
        Ok(n) => Some(n),
        Err(error) => (error.kind() == ErrorKind::WouldBlock).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// More than sockets hold.
    const MUCH: usize = 16 << 20;

    fn free() -> SocketAddr {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port")
    }

    #[test]
    fn what_both_ends_say_arrives_and_so_do_their_ends() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a server");
        let (at, to) = (free(), server.local_addr().expect("its address"));
        thread::spawn(move || relay(&[(at, to)]).map_err(|error| panic!("{error}")));
        let mut client = loop {
            match TcpStream::connect(at) {
                Ok(client) => break client,
                Err(_) => thread::yield_now(),
            }
        };
        let said: Vec<u8> = (0..MUCH).map(|n| (n / 251) as u8).collect();
        let answering = thread::spawn(move || {
            let (mut sock, _) = server.accept().expect("a connection");
            let mut heard = vec![];
            sock.read_to_end(&mut heard).expect("all");
            sock.write_all(&heard).expect("the same");
        });
        client.write_all(&said).expect("taken");
        client.shutdown(Shutdown::Write).expect("the end");
        let mut heard = vec![];
        client.read_to_end(&mut heard).expect("the answer");
        assert!(heard == said);
        answering.join().expect("answered");
    }
}
