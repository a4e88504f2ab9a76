//! Takes the connections that wait in a listener.
//!
//! An accept() that finds nobody has made a socket and a file by then, and takes both apart again. So behind each connection
//! the listener is asked first whether another one waits, which costs a fraction of that.
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::{acceptfrom_with, SocketFlags};
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;
use tokio::net::TcpStream;

pub struct Acceptor {
    listener: AsyncFd<TcpListener>,
    /// Somebody has been taken since epoll told of the listener: nobody else may wait.
    taken: Cell<bool>,
}

impl Acceptor {
    /// Of a listener that does not block. To be called inside the worker's runtime.
    ///
    /// Errors: where epoll has no room.
    pub fn new(listener: TcpListener) -> io::Result<Acceptor> {
        // SAFETY: the listener owns its descriptor, so it stays open and the same for as long as it is registered.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE)? };
        Ok(Acceptor { listener, taken: Cell::new(false) })
    }

    /// The next connection, and who has made it. Errors: what accept() says.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let mut ready = self.listener.readable().await?;
            if let Ok(accepted) = ready.try_io(|_| self.accept_now()) {
                return accepted;
            }
        }
    }

    /// As `accept`. Errors: also WouldBlock, where nobody waits.
    pub fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let listener = self.listener.get_ref();
        let accepted = match self.taken.get() && !somebody_waits(listener) {
            true => Err(ErrorKind::WouldBlock.into()),
            false => accept(listener),
        };
        self.taken.set(accepted.is_ok());
        accepted
    }
}

fn somebody_waits(listener: &TcpListener) -> bool {
    let mut asked = [PollFd::new(listener, PollFlags::IN)];
    // What it cannot tell, accept() can.
    !matches!(poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (sock, client) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let client = client.and_then(|client| SocketAddr::try_from(client).ok()).ok_or(ErrorKind::NotConnected)?;
    Ok((TcpStream::from_std(sock.into())?, client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::waits;
    use std::net::TcpStream as Client;
    use std::pin::pin;
    use std::time::Duration;
    use tokio::time::timeout;

    /// All that wait, however many came with one edge; and those that come while it waits for them.
    #[tokio::test]
    async fn who_waits_is_taken_and_who_comes_later() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let acceptor = Acceptor::new(listener).unwrap();
        for come_before in [3, 1, 0, 2] {
            let before: Vec<_> = (0..come_before).map(|_| Client::connect(at).unwrap()).collect();
            for client in &before {
                let (_, from) = acceptor.accept().await.unwrap();
                assert_eq!(from, client.local_addr().unwrap());
            }
            assert_eq!(acceptor.accept_now().unwrap_err().kind(), ErrorKind::WouldBlock);
            let mut next = pin!(acceptor.accept());
            assert!(waits(next.as_mut()));
            let later = Client::connect(at).unwrap();
            let (_, from) = timeout(Duration::from_secs(5), next).await.unwrap().unwrap();
            assert_eq!(from, later.local_addr().unwrap());
        }
    }
}
