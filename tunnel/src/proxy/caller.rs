//! The application's end of a connection that it makes, before the other end has answered.
use super::Proxy;
use crate::base::{Failure, OriginalDst, Refusal};
use crate::node::Pod;
use crate::pending::{Call, Unreachable};
use crate::sys::sockets::{self, original_destination, reset_on_close};
use crate::sys::spare::is_exhausted;
use crate::sys::timer::Clock;
use crate::telemetry::ConnectionRecord;
use std::future::{poll_fn, Future};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use tokio::net::TcpStream;

/// Seconds for the far end's answer: as long as Linux goes on connecting (net.ipv4.tcp_syn_retries is 6).
const PATIENCE: u64 = 130;

pub enum Caller {
    /// Its connect() has succeeded.
    Connected(TcpStream, SocketAddr),
    /// Its connect() waits for the answer.
    Pending(Call),
}

impl Caller {
    /// As it calls itself.
    pub fn client(&self) -> SocketAddr {
        match self {
            Caller::Connected(_, client) => *client,
            Caller::Pending(call) => call.syn.from,
        }
    }

    /// Where the application wanted to go. Without a redirection that is where it went.
    pub fn wanted(&self) -> OriginalDst {
        match self {
            Caller::Connected(app, _) => {
                let local = || app.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
                OriginalDst::new(original_destination(app).unwrap_or_else(local))
            }
            Caller::Pending(call) => call.wanted,
        }
    }

    /// What it has said already; it stays where it is. Errors: its socket's, which are told once.
    pub fn early(&self) -> io::Result<Vec<u8>> {
        match self {
            Caller::Connected(app, _) => sockets::peek(app),
            Caller::Pending(_) => Ok(vec![]),
        }
    }

    /// What the far end answers, as long as the application waits for it.
    pub async fn wait<T>(&mut self, clock: &Clock, answer: impl Future<Output = T>) -> Result<T, Failure> {
        let Caller::Pending(call) = self else {
            let late = |_| failure(Refusal::ConnectTimeout, format!("no answer within {PATIENCE} s"));
            return clock.timeout(PATIENCE, answer).await.map_err(late);
        };
        let (mut answer, mut given_up) = (pin!(answer), pin!(call.given_up()));
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => given_up.as_mut().poll(cx).map(|()| Err(failure(Refusal::GivenUp, String::new()))),
        })
        .await
    }

    /// The far end has accepted: so do we.
    pub async fn accept(self, proxy: &Proxy, pod: &Pod) -> Result<TcpStream, Failure> {
        let call = match self {
            Caller::Connected(app, _) => return Ok(app),
            Caller::Pending(call) => call,
        };
        proxy.answered(pod, call.wanted, true); // before its next connect(), which comes as soon as this one succeeds
        call.accept(pod, &pod.stash, &proxy.thread.clock).await.map_err(|error| match is_exhausted(&error) {
            true => failure(Refusal::OutOfDescriptors, String::new()),
            false => failure(Refusal::GivenUp, error.to_string()),
        })
    }

    /// The application sees what it would see of a host that refuses: at the latest when it uses the connection.
    pub fn refuse(self, proxy: &Proxy, pod: &Pod, record: &ConnectionRecord, why: &Failure, as_seen: Unreachable) {
        proxy.answered(pod, self.wanted(), false);
        match &self {
            Caller::Connected(app, _) => reset_on_close(app),
            Caller::Pending(call) => call.refuse(pod, as_seen),
        }
        record.fail(why.refusal, &why.detail);
    }
}

fn failure(refusal: Refusal, detail: String) -> Failure {
    Failure { refusal, detail }
}
