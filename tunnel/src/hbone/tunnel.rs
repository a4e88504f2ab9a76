//! A tunnel: one TLS connection between two pods, and the streams in it (HBONE).
//!
//! Whoever has bytes for the tunnel seals them into its out buffer and writes the socket at once; whoever reads the
//! tunnel writes the applications' sockets at once. The tunnel's own task only reads, and writes what a full socket
//! refused. Calls go tunnel -> stream for delivery and stream -> tunnel for sending, never nested both ways.
use crate::base::sizes::{DATA_MAX, FRAME_HEADER};
use crate::base::Failure;
use crate::base::Identity;
use crate::base::Refusal;
use crate::engine::worker::Worker;
use crate::h2::frame;
use crate::h2::headers::Block;
use crate::hbone::session::Session;
use crate::hbone::stream::{self, Stream};
use crate::node::pod::Pod;
use crate::relay::CloseReason;
use crate::sys::budget::Budget;
use crate::sys::panics::OnPanic;
use crate::sys::sockets;
use crate::sys::turns::{Ticket, HEAVY, LIGHT};
use crate::telemetry::Direction;
use crate::tls::alert;
use crate::tls::credentials::Proof;
use crate::tls::handshake::Handshake;
use crate::tls::record_layer::{HEAD, TAIL};
use socket2::SockRef;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::net::{Shutdown, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{ready, Context, Poll, Waker};
use std::{io, io::ErrorKind::WouldBlock};
use tokio::{io::Interest, net::TcpStream, task::spawn_local};

/// Applications are not read while more ciphertext than this waits.
const HIGH: usize = 64 << 10;
/// A peer that asks for answers (PING, SETTINGS) and does not read them.
const UNREAD_MAX: usize = 1 << 20;
/// What a read may leave for the next one: a record of any peer (RFC 8446 section 5.2), or a part of a handshake.
const KEPT: usize = 64 << 10;
/// Read from the socket at a time, into memory that all tunnels of a thread share. Behind what the last read left of a
/// record.
const READ: usize = HEAVY + KEPT;
/// Small reads of one tunnel before others have theirs.
const READS: usize = 4;
/// What is read of an application at a time and waits for the flusher; more is written at once.
const SMALL: usize = 16 << 10;
/// Seconds, for TLS to be up.
pub const HANDSHAKE_TIMEOUT: u64 = 10;
/// Seconds without a byte from the peer after which it is asked whether it lives; as many again until it is given up.
const KEEPALIVE: u64 = 10;
/// Turns of the keepalive after which a tunnel without streams is closed: 5 minutes.
const IDLE_TURNS: u32 = 30;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Handshake,
    Open,
    /// No new streams; ends with the last one.
    Draining,
    Dead,
}

pub struct Tunnel {
    pub worker: Rc<Worker>,
    /// On whose behalf: the source's pod on one side, the destination's on the other.
    pub pod: Rc<Pod>,
    pub remote: SocketAddr,
    pub budget: Arc<Budget>,
    direction: Direction,
    ticket: Rc<Ticket>,
    local: OnceCell<SocketAddr>,
    pub peer: OnceCell<Arc<Identity>>,
    proof: OnceCell<Proof>,
    /// Streams that carry much.
    pub bulk: Cell<usize>,
    /// Tasks that serve a peer's requests, also of streams that it has reset since.
    tasks: Cell<usize>,
    sock: OnceCell<TcpStream>,
    session: RefCell<Session>,
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
pub struct Task(Rc<Tunnel>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
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

/// What a stream learns when it asks to send.
pub enum Pull {
    Some(usize),
    End,
    Blocked,
}

impl Tunnel {
    pub fn new(worker: &Rc<Worker>, pod: &Rc<Pod>, remote: SocketAddr, handshake: Handshake) -> Rc<Self> {
        let direction = if handshake.is_server() { Direction::Inbound } else { Direction::Outbound };
        let budget = Budget::tunnel(&pod.budget);
        let session = RefCell::new(Session::new(handshake, &budget));
        let ticket = Ticket::new(pod.number());
        ticket.set_heavy(true); // a handshake is as much work as many reads
        Rc::new(Tunnel {
            budget,
            direction,
            ticket,
            worker: worker.clone(),
            pod: pod.clone(),
            remote,
            local: OnceCell::new(),
            peer: OnceCell::new(),
            proof: OnceCell::new(),
            bulk: Cell::new(0),
            tasks: Cell::new(0),
            sock: OnceCell::new(),
            session,
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
            self.worker.telemetry.tunnel_lost(self.direction, failure.refusal);
        }
        for stream in self.session.borrow_mut().end() {
            match self.peer.get() {
                // Before it was up, the reason is the handshake's, for everyone who waits.
                None => stream.answered(stream::Answer::Lost(failure.refusal, failure.detail.clone())),
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
        let _ = self.local.set(crate::base::canonical(sock.local_addr()?));
        let _ = self.sock.set(sock);
        self.flush_now()?; // the client's first message
        let handshake = poll_fn(|cx| self.poll(cx, Stage::Open));
        let shaken = self.worker.clock.timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|_| {
            let detail = format!("no TLS handshake within {HANDSHAKE_TIMEOUT} s");
            Err(Failure { refusal: Refusal::HandshakeTimeout, detail })
        });
        let shaken = shaken.and_then(|()| match self.peer.get() {
            Some(_) => Ok(()),
            None => Err(Failure { refusal: Refusal::TlsFailure, detail: "the peer left within the handshake".into() }),
        });
        if let Err(failure) = shaken {
            self.worker.telemetry.handshake_failed(self.direction, failure.refusal);
            return Err(failure);
        }
        let _up = self.worker.telemetry.tunnel_up(self.direction);
        spawn_local(keep_alive(self.worker.clone(), Rc::downgrade(self)));
        poll_fn(|cx| self.poll(cx, Stage::Dead)).await
    }

    /// Reads and dispatches what comes, until the tunnel is at `stage` or broken.
    fn poll(self: &Rc<Self>, cx: &mut Context<'_>, stage: Stage) -> Poll<Result<(), Failure>> {
        if !self.task.borrow().as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *self.task.borrow_mut() = Some(cx.waker().clone());
        }
        if let Some(failure) = self.killed.borrow_mut().take() {
            return Poll::Ready(Err(failure));
        }
        let Some(sock) = self.sock.get() else { return Poll::Pending };
        let session = &mut *self.session.borrow_mut();
        while self.full.get() {
            if sock.poll_write_ready(cx)?.is_pending() {
                break;
            }
            self.full.set(false);
            // Through try_io, so that tokio learns when the socket is full again.
            match sock.try_io(Interest::WRITABLE, || write(sock, session)) {
                Err(e) if e.kind() == WouldBlock => self.full.set(true),
                result => result?,
            }
            session.unblock(HIGH / 2);
        }
        session.begin_turn();
        for _ in 0..READS {
            if session.is_behind() {
                ready!(self.worker.turns.poll(&self.ticket, cx));
                self.catch_up(session)?;
            }
            if session.goodbye() {
                self.drain_with(session);
            }
            if session.is_turn_over() {
                self.ticket.set_heavy(true);
                break;
            }
            if self.ended.get() {
                return Poll::Ready(Ok(()));
            }
            if self.stage.get() == Stage::Draining && session.is_idle() {
                session.say_goodbye();
                self.flush(session);
                if session.unsent() == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(sock.poll_read_ready(cx))?;
            let most = ready!(self.worker.turns.poll(&self.ticket, cx));
            self.ended.set(!self.pump(sock, session, most)?);
            if stage == Stage::Open && self.stage.get() != Stage::Handshake {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, dispatches all that came. False at the end of the connection.
    fn pump(self: &Rc<Self>, sock: &TcpStream, session: &mut Session, most: usize) -> Result<bool, Failure> {
        let mut input = INPUT.with_borrow_mut(std::mem::take);
        let result = self.pump_into(&mut input, sock, session, most);
        INPUT.with_borrow_mut(|shared| *shared = input);
        // Also after a failure: the peer should learn of it.
        self.flush(session);
        session.unblock(HIGH / 2);
        result
    }

    /// As `pump`, with what came before and had to wait.
    fn catch_up(self: &Rc<Self>, session: &mut Session) -> Result<(), Failure> {
        let result = session.catch_up(self);
        self.flush(session);
        session.unblock(HIGH / 2);
        result
    }

    fn pump_into(
        self: &Rc<Self>,
        input: &mut Vec<u8>,
        sock: &TcpStream,
        session: &mut Session,
        most: usize,
    ) -> Result<bool, Failure> {
        if input.is_empty() {
            input.resize(READ, 0);
        }
        let kept = session.take_rest(input);
        let most = most.min(input.len() - kept);
        let mut got = None;
        let read = sock.try_io(Interest::READABLE, || {
            let n = rustix::io::read(sock, &mut input[kept..kept + most])?;
            got = Some(n);
            // A short read has emptied the socket: saves the read that would only say so.
            if 0 < n && n < most {
                return Err(WouldBlock.into());
            }
            Ok(())
        });
        let n = match (got, read) {
            (Some(n), _) => n,
            (None, Err(e)) if e.kind() != WouldBlock => return Err(e.into()),
            (None, _) => 0,
        };
        self.heard.set(true);
        self.ticket.set_heavy(n >= LIGHT || self.stage.get() == Stage::Handshake);
        let alive = session.receive(self, &mut input[..kept + n])?;
        if let Some((peer, proof)) = session.take_peer() {
            let _ = (self.peer.set(Arc::new(peer)), self.proof.set(proof));
            self.stage.set(Stage::Open);
            self.check_peer(session)?; // it may have been revoked since its certificate was looked at
        }
        Ok(alive && got != Some(0))
    }

    /// application -> tunnel: reads at most so much of the application, seals it, and writes the tunnel.
    pub fn pull(self: &Rc<Self>, stream: &Rc<Stream>, sock: &TcpStream, most: usize) -> io::Result<Pull> {
        let session = &mut *self.session.borrow_mut();
        let most = if session.may_grow() { most } else { DATA_MAX };
        let want = match session.room(stream, HIGH).min(most) {
            0 => return Ok(Pull::Blocked),
            want => want,
        };
        let Some((out, records)) = session.sealer()? else { return Ok(Pull::Blocked) };
        let mut got = None;
        let read = sock.try_io(Interest::READABLE, || {
            let received = stream::read_slots(sock, out, want)?;
            got = Some(received.size);
            // Saves the read that would only say so.
            if received.empty {
                return Err(WouldBlock.into());
            }
            Ok(())
        });
        let n = match (got, read) {
            (Some(n), _) => n,
            (None, result) => {
                out.release();
                return match result {
                    Err(e) if e.kind() != WouldBlock => Err(e),
                    _ => Ok(Pull::Some(0)),
                };
            }
        };
        if n == 0 {
            session.end_stream(stream.id);
            self.flush_soon();
            return Ok(Pull::End);
        }
        let mut rest = n;
        while rest > 0 {
            let len = rest.min(DATA_MAX);
            rest -= len;
            let size = HEAD + FRAME_HEADER + len + TAIL;
            let record = out.room(size);
            record[HEAD..HEAD + FRAME_HEADER].copy_from_slice(&frame::data_header(len, stream.id));
            records.seal_in_place(record)?;
            out.advance(size);
        }
        records.renew(out)?;
        session.sent(stream.id, n);
        if n < SMALL {
            self.flush_soon();
        } else {
            self.flush(session);
        }
        Ok(Pull::Some(n))
    }

    /// Asks the peer for a stream, which begins with `early` as far as windows allow: how much went is in the result.
    /// `Stream::answer` has what the peer says.
    pub fn open(self: &Rc<Self>, request: &Block, early: &[u8]) -> (Rc<Stream>, usize) {
        let stream = self.session.borrow_mut().open(self, request, early);
        self.flush_soon();
        stream
    }

    pub fn respond(self: &Rc<Self>, id: u32, block: &Block, end: bool) {
        self.session.borrow_mut().respond(id, block, end);
        self.flush_soon();
    }

    /// The application has taken bytes that waited for it; the peer may send more.
    pub fn taken(&self, id: u32, n: usize) {
        let session = &mut *self.session.borrow_mut();
        session.taken(id, n);
        self.flush(session);
    }

    /// A stream's task has ended; with a code, the peer is told that it broke.
    pub fn close(self: &Rc<Self>, id: u32, broken: Option<frame::Code>) {
        let session = &mut *self.session.borrow_mut();
        if let Some(stream) = session.close(id, broken) {
            self.bulk.set(self.bulk.get() - usize::from(stream.is_bulk()));
        }
        self.flush_soon();
        if self.stage.get() == Stage::Draining && session.is_idle() {
            self.wake();
        }
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.local.get().copied().unwrap_or(self.remote)
    }

    /// Whether it has streams, or serves requests.
    pub fn is_busy(&self) -> bool {
        self.streams() > 0 || self.tasks.get() > 0
    }

    /// The device by which it came, as the kernel numbers it.
    pub fn device(&self) -> Option<i32> {
        self.sock.get().and_then(sockets::arrival_device)
    }

    /// A stream was refused before anybody looked at what it is for.
    pub fn refused(&self, why: Refusal) {
        let peer = self.peer.get().cloned();
        self.worker.telemetry.refused(self.remote, self.local(), peer, why, "");
    }

    /// Counts a task that serves a peer's request, for as long as the result lives.
    pub fn task(self: &Rc<Self>) -> Task {
        self.tasks.set(self.tasks.get() + 1);
        Task(self.clone())
    }

    pub fn tasks(&self) -> usize {
        self.tasks.get()
    }

    /// A new stream would wait for others here: the peer does not read the tunnel, or gives it no window.
    pub fn is_stalled(&self) -> bool {
        self.full.get() || self.session.borrow().is_stalled()
    }

    /// May take another stream.
    pub fn is_usable(&self) -> bool {
        matches!(self.stage.get(), Stage::Handshake | Stage::Open) && self.session.borrow().has_room()
    }

    pub fn is_dead(&self) -> bool {
        self.stage.get() == Stage::Dead
    }

    pub fn streams(&self) -> usize {
        self.session.borrow().streams()
    }

    /// No new streams; the tunnel ends with the last one. A peer that asks for streams is told.
    pub fn drain(&self) {
        self.drain_with(&mut self.session.borrow_mut());
    }

    fn drain_with(&self, session: &mut Session) {
        if matches!(self.stage.get(), Stage::Handshake | Stage::Open) {
            self.stage.set(Stage::Draining);
            session.refuse_more();
            self.flush(session);
            self.wake();
        }
    }

    /// Ends the tunnel and its streams at once.
    pub fn kill(&self, refusal: Refusal, detail: &str) {
        self.killed.borrow_mut().get_or_insert(Failure { refusal, detail: detail.to_owned() });
        self.wake();
    }

    /// Ends the tunnel if the peer's certificate is not good any more.
    pub fn review_peer(&self) {
        let session = &mut *self.session.borrow_mut();
        if let Err(Failure { refusal, detail }) = self.check_peer(session) {
            self.flush(session);
            self.kill(refusal, &detail);
        }
    }

    fn check_peer(&self, session: &mut Session) -> Result<(), Failure> {
        let Some(proof) = self.proof.get() else { return Ok(()) };
        proof.check().inspect_err(|_| session.alert(alert::CERTIFICATE_REVOKED))
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

    /// Writes the socket together with what others have to say now.
    fn flush_soon(self: &Rc<Self>) {
        if !self.due.replace(true) {
            self.worker.flusher.soon(self);
        }
    }

    /// The flusher's call.
    pub fn flush_due(&self) {
        self.due.set(false);
        let session = &mut *self.session.borrow_mut();
        self.flush(session);
        session.unblock(HIGH / 2);
    }

    /// Writes the socket; what it refuses, and what breaks, is left to the tunnel's task.
    fn flush(&self, session: &mut Session) {
        session.seal_control();
        let Some(sock) = self.sock.get() else { return };
        if session.unsent() > UNREAD_MAX {
            let detail = "the peer asks for answers and does not read them";
            return self.kill(Refusal::OutOfMemory, detail);
        }
        if !self.full.get() {
            match write(sock, session) {
                Ok(()) => return,
                Err(e) if e.kind() == WouldBlock => self.full.set(true),
                Err(e) => return self.kill(Refusal::TunnelLost, &e.to_string()),
            }
            self.wake();
        }
        if !session.stay() {
            self.kill(Refusal::OutOfMemory, "the peer does not read");
        }
    }

    fn flush_now(&self) -> Result<(), Failure> {
        let session = &mut *self.session.borrow_mut();
        session.begin()?;
        self.flush(session);
        Ok(())
    }
}

/// Asks a silent peer whether it lives, and closes a tunnel that nobody uses. Does not keep the tunnel.
async fn keep_alive(worker: Rc<Worker>, tunnel: Weak<Tunnel>) {
    let (mut asked, mut idle) = (false, 0);
    loop {
        worker.clock.sleep(KEEPALIVE).await;
        let Some(tunnel) = tunnel.upgrade().filter(|tunnel| !tunnel.is_dead()) else { return };
        let _guard = OnPanic(|| tunnel.break_down());
        match (tunnel.heard.replace(false), asked) {
            (true, _) => asked = false,
            (false, false) => {
                asked = true;
                let session = &mut *tunnel.session.borrow_mut();
                session.ping();
                tunnel.flush(session);
            }
            (false, true) => return tunnel.kill(Refusal::TunnelLost, "the peer does not answer"),
        }
        tunnel.session.borrow_mut().look();
        idle = if tunnel.streams() == 0 { idle + 1 } else { 0 };
        if idle >= IDLE_TURNS {
            tunnel.drain();
        }
    }
}

fn write(sock: &TcpStream, session: &mut Session) -> io::Result<()> {
    while session.unsent() > 0 {
        let n = rustix::io::write(sock, session.waiting())?;
        session.written(n);
    }
    Ok(())
}

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
