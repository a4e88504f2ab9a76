//! A tunnel: one TLS connection between two pods, and the streams in it (HBONE).
//!
//! Whoever has bytes for the tunnel seals them into its out buffer and writes the socket at once; whoever reads the
//! tunnel writes the applications' sockets at once. The tunnel's own task only reads, and writes what a full socket
//! refused. Calls go tunnel -> stream for delivery and stream -> tunnel for sending, never nested both ways.
use super::session::Session;
use super::stream::{Answer, Stream};
use super::streams::Streams;
use crate::base::{canonical, Failure, Identity, Refusal};
use crate::h2::headers::Fields;
use crate::relay::{CloseReason, Thread};
use crate::sys::budget::{Budget, Share};
use crate::sys::turns::{Owner, Ticket};
use crate::sys::{sockets, PodInfo};
use crate::telemetry::Direction;
use crate::tls::alert;
use crate::tls::credentials::Proof;
use crate::tls::handshake::Handshake;
use socket2::SockRef;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::{spawn_local, AbortHandle};

/// Seconds, for TLS to be up.
pub const HANDSHAKE_TIMEOUT: u64 = 10;
/// Bytes that a peer's request takes until it is answered: its stream and the task that serves it. Thousands may wait for
/// their turn.
const REQUEST: usize = 4 << 10;

mod dispatch;
mod keepalive;
mod reading;
mod sending;

pub use sending::Pull;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Handshake,
    Open,
    /// No new streams; ends with the last one.
    Draining,
    Dead,
}

/// Is given each stream that the peer asks for, with its request. May use the tunnel at once.
pub type Accept = dyn Fn(Rc<Stream>, Fields);

pub struct Tunnel {
    pub thread: Rc<Thread>,
    /// On whose behalf: the source's pod on one side, the destination's on the other.
    pub pod: Arc<PodInfo>,
    pub remote: SocketAddr,
    pub budget: Arc<Budget>,
    direction: Direction,
    ticket: Rc<Ticket>,
    local: OnceCell<SocketAddr>,
    device: OnceCell<Option<i32>>,
    pub peer: OnceCell<Arc<Identity>>,
    proof: OnceCell<Proof>,
    /// Streams that carry much.
    pub bulk: Cell<usize>,
    /// Tasks that serve a peer's requests, also of streams that it has reset since.
    tasks: Cell<usize>,
    sock: OnceCell<TcpStream>,
    session: RefCell<Session>,
    streams: RefCell<Streams>,
    /// Takes what the peer asks for; only of a server.
    accept: Option<Box<Accept>>,
    task: RefCell<Option<Waker>>,
    stage: Cell<Stage>,
    /// The tunnel's task waits until the socket takes more.
    full: Cell<bool>,
    /// The flusher will write it.
    due: Cell<bool>,
    /// Something came since the keepalive looked.
    heard: Cell<bool>,
    /// The peer has closed. What it said before may still wait for its turn.
    ended: Cell<bool>,
    killed: RefCell<Option<Failure>>,
}

/// A task that serves a peer's request.
pub struct Task {
    tunnel: Rc<Tunnel>,
    share: Share,
}

impl Task {
    /// From now on the request costs what waits for its connection.
    pub fn is_answered(&self) {
        self.share.hold_anyway(0);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.tunnel.tasks.set(self.tunnel.tasks.get() - 1);
    }
}

/// A task that ends with what it serves.
struct Helper(AbortHandle);

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends a tunnel whose task has not: it has panicked, or was dropped. The state of a tunnel never outlives its task.
pub struct Ending(pub Rc<Tunnel>);

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.0.is_dead() {
            self.0.end(&Err(Failure::internal()));
        }
    }
}

impl Tunnel {
    /// To a peer.
    pub fn client(thread: &Rc<Thread>, pod: &Arc<PodInfo>, remote: SocketAddr, handshake: Handshake) -> Rc<Self> {
        Self::new(thread, pod, remote, handshake, None)
    }

    /// Of a peer.
    pub fn server(
        thread: &Rc<Thread>,
        pod: &Arc<PodInfo>,
        remote: SocketAddr,
        handshake: Handshake,
        accept: impl Fn(Rc<Stream>, Fields) + 'static,
    ) -> Rc<Self> {
        Self::new(thread, pod, remote, handshake, Some(Box::new(accept)))
    }

    fn new(
        thread: &Rc<Thread>,
        pod: &Arc<PodInfo>,
        remote: SocketAddr,
        handshake: Handshake,
        accept: Option<Box<Accept>>,
    ) -> Rc<Self> {
        let direction = if accept.is_some() { Direction::Inbound } else { Direction::Outbound };
        let budget = Budget::tunnel(&pod.budget);
        let session = RefCell::new(Session::new(handshake, &budget));
        let ticket = Ticket::new(Owner::peer(pod.number(), remote.ip()));
        ticket.set_heavy(true); // a handshake is as much work as many reads
        Rc::new(Tunnel {
            budget,
            direction,
            ticket,
            thread: thread.clone(),
            pod: pod.clone(),
            remote,
            local: OnceCell::new(),
            device: OnceCell::new(),
            peer: OnceCell::new(),
            proof: OnceCell::new(),
            bulk: Cell::new(0),
            tasks: Cell::new(0),
            sock: OnceCell::new(),
            session,
            streams: RefCell::default(),
            accept,
            task: RefCell::default(),
            stage: Cell::new(Stage::Handshake),
            full: Cell::new(false),
            due: Cell::new(false),
            heard: Cell::new(false),
            ended: Cell::new(false),
            killed: RefCell::default(),
        })
    }

    /// The tunnel's life on a connected socket: handshake, streams, end. Ok when it was closed in order.
    pub async fn run(self: &Rc<Self>, sock: TcpStream) -> Result<(), Failure> {
        let _ending = Ending(self.clone());
        let result = self.live(sock).await;
        self.end(&result);
        result
    }

    /// It is over, or could not even be connected: its streams learn why, and so does the peer.
    pub fn end(&self, result: &Result<(), Failure>) {
        self.stage.set(Stage::Dead);
        if let Some(sock) = self.sock.get() {
            // Streams hold the tunnel a little longer; the peer should know now. Fails where it is gone already.
            let _ = SockRef::from(sock).shutdown(Shutdown::Both);
        }
        let failure = self.failure(result);
        if self.peer.get().is_some() && result.is_err() {
            self.thread.telemetry.tunnel_lost(self.direction, failure.refusal);
        }
        let streams = self.streams.borrow_mut().take_all();
        self.thread.telemetry.streams_closed(self.direction, streams.len());
        for stream in streams {
            match self.peer.get() {
                // Before it was up, the reason is the handshake's, for everyone who waits.
                None => stream.answered(Answer::Lost(failure.refusal, failure.detail.clone())),
                Some(_) if stream.is_settled() => {}
                Some(_) => stream.fail(CloseReason::Tunnel(failure.clone())),
            }
        }
    }

    /// Why its streams end that have not ended themselves.
    fn failure(&self, result: &Result<(), Failure>) -> Failure {
        match result {
            // What is agreed on can still be violated.
            Err(Failure { refusal: Refusal::H2Handshake, detail }) if self.peer.get().is_some() => {
                Failure { refusal: Refusal::TunnelViolation, detail: detail.clone() }
            }
            Err(failure) => failure.clone(),
            Ok(()) => Failure { refusal: Refusal::TunnelLost, detail: "closed by the peer".into() },
        }
    }

    async fn live(self: &Rc<Self>, sock: TcpStream) -> Result<(), Failure> {
        let _ = self.local.set(canonical(sock.local_addr()?));
        let _ = self.sock.set(sock);
        let began = Instant::now();
        self.flush_now()?; // the client's first message
        let handshake = poll_fn(|cx| self.poll(cx, Stage::Open));
        let shaken = self.thread.clock.timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|_| {
            let detail = format!("no TLS handshake within {HANDSHAKE_TIMEOUT} s");
            Err(Failure { refusal: Refusal::HandshakeTimeout, detail })
        });
        let shaken = shaken.and_then(|()| match self.peer.get() {
            Some(_) => Ok(()),
            None => Err(Failure { refusal: Refusal::TlsFailure, detail: "the peer left within the handshake".into() }),
        });
        if let Err(failure) = shaken {
            self.thread.telemetry.handshake_failed(self.direction, failure.refusal);
            return Err(failure);
        }
        let _up = self.thread.telemetry.tunnel_up(self.direction, began.elapsed());
        let keep_alive = keepalive::run(self.thread.clone(), self.owner(), Rc::downgrade(self));
        let _helper = Helper(spawn_local(keep_alive).abort_handle());
        poll_fn(|cx| self.poll(cx, Stage::Dead)).await
    }

    /// The handshake is over.
    fn is_up(&self, peer: Identity, proof: Proof) -> Result<(), Failure> {
        let _ = (self.peer.set(Arc::new(peer)), self.proof.set(proof));
        self.stage.set(Stage::Open);
        self.check_peer() // it may have been revoked since its certificate was looked at
    }

    /// By whose turns it is counted, with all that is in it.
    pub fn owner(&self) -> Owner {
        Owner::peer(self.pod.number(), self.remote.ip())
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.local.get().copied().unwrap_or(self.remote)
    }

    /// Whether it has streams, or serves requests.
    pub fn is_busy(&self) -> bool {
        self.streams() > 0 || self.tasks.get() > 0
    }

    /// Whether it is there for nothing, so far.
    pub fn is_idle(&self) -> bool {
        self.stage.get() == Stage::Open && !self.is_busy()
    }

    /// The round trip to the other node, smoothed.
    pub fn rtt(&self) -> Option<Duration> {
        self.sock.get().and_then(sockets::rtt)
    }

    /// The shortest one of late, which no queue has made longer.
    pub fn least_rtt(&self) -> Option<Duration> {
        self.sock.get().and_then(sockets::least_rtt)
    }

    /// The device by which it came, as the kernel numbers it.
    pub fn device(&self) -> Option<i32> {
        *self.device.get_or_init(|| self.sock.get().and_then(sockets::arrival_device))
    }

    /// Counts a task that serves a peer's request, for as long as the result lives.
    pub fn task(self: &Rc<Self>) -> Task {
        self.tasks.set(self.tasks.get() + 1);
        let share = Share::of(&self.budget);
        share.hold_anyway(REQUEST);
        Task { tunnel: self.clone(), share }
    }

    pub fn tasks(&self) -> usize {
        self.tasks.get()
    }

    /// A new stream would wait for others here: the peer does not read the tunnel, or gives it no window.
    pub fn is_stalled(&self) -> bool {
        self.full.get() || self.session.borrow().room() == 0
    }

    /// May take another stream.
    pub fn is_usable(&self) -> bool {
        matches!(self.stage.get(), Stage::Handshake | Stage::Open)
            && self.streams.borrow().has_room()
            && self.session.borrow().has_ids()
    }

    pub fn is_dead(&self) -> bool {
        self.stage.get() == Stage::Dead
    }

    pub fn streams(&self) -> usize {
        self.streams.borrow().len()
    }

    fn has_streams(&self) -> bool {
        !self.streams.borrow().is_empty()
    }

    /// No new streams; the tunnel ends with the last one. A peer that asks for streams is told.
    pub fn drain(&self) {
        if matches!(self.stage.get(), Stage::Handshake | Stage::Open) {
            self.stage.set(Stage::Draining);
            let session = &mut *self.session.borrow_mut();
            session.refuse_more();
            self.flush(session);
            self.wake();
        }
    }

    /// The last words; whether they are written.
    fn say_goodbye(&self) -> bool {
        let session = &mut *self.session.borrow_mut();
        session.say_goodbye();
        self.flush(session);
        session.unsent() == 0
    }

    /// Ends the tunnel and its streams at once.
    pub fn kill(&self, refusal: Refusal, detail: &str) {
        self.killed.borrow_mut().get_or_insert(Failure { refusal, detail: detail.to_owned() });
        self.wake();
    }

    /// Ends the tunnel if the peer's certificate is not good any more.
    pub fn review_peer(&self) {
        if let Err(Failure { refusal, detail }) = self.check_peer() {
            self.flush(&mut self.session.borrow_mut());
            self.kill(refusal, &detail);
        }
    }

    fn check_peer(&self) -> Result<(), Failure> {
        let Some(proof) = self.proof.get() else { return Ok(()) };
        proof.check().inspect_err(|_| self.session.borrow_mut().alert(alert::CERTIFICATE_REVOKED))
    }

    /// As `kill`, after a panic in what belongs to it.
    pub fn break_down(&self) {
        let Failure { refusal, detail } = Failure::internal();
        self.kill(refusal, &detail);
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
