//! One application's connect() that waits for an answer.
use super::segment::{self, Syn, Unreachable};
use crate::base::{log_error, OriginalDst};
use crate::sys::sockets::original_destination;
use crate::sys::stash::Stash;
use crate::sys::timer::Clock;
use crate::sys::PodInfo;
use std::io;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Seconds for the application's socket to take an answer: it is on this node, and only waits.
const ANSWER_TIMEOUT: u64 = 1;

pub struct Call {
    pub syn: Syn,
    pub wanted: OriginalDst,
    /// Closed when it waits no more.
    pub over: oneshot::Receiver<()>,
}

impl Call {
    /// Ready when the application has given up.
    pub async fn given_up(&mut self) {
        let _ = (&mut self.over).await; // nothing is ever sent
    }

    /// Has connect() succeed. Errors: the application has given up meanwhile; what sockets say.
    pub async fn accept(&self, pod: &PodInfo, stash: &Stash, clock: &Clock) -> io::Result<TcpStream> {
        let meeting = stash.meet(&pod.netns, self.syn.at, self.syn.from);
        let app = clock.timeout(ANSWER_TIMEOUT, meeting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        // Its port may have a new owner, who asked for something else.
        match original_destination(&app).map(OriginalDst::new) {
            Some(wanted) if wanted == self.wanted => Ok(app),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Has connect() fail. Where that cannot be said, the application's next SYN begins it all anew.
    pub fn refuse(&self, pod: &PodInfo, why: Unreachable) {
        if let Err(error) = pod.raw.send(&pod.netns, &segment::answer(&self.syn, why), self.syn.from) {
            log_error("connect", &format!("pod {pod}: cannot refuse connect(): {error}"));
        }
    }
}
