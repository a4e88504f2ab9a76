//! A stream: one application's connection inside a tunnel.
//!
//! The tunnel writes what arrives straight to the application's socket; the stream's task reads that socket and writes
//! the tunnel, and takes up what a full socket refused. Both ends of a tunnel use the same stream.
use crate::base::sizes::{DATA_MAX, FRAME_HEADER as HEADER};
use crate::base::Failure;
use crate::base::Refusal;
use crate::h2::frame::{Code, Violation};
use crate::h2::headers::Block;
use crate::hbone::tunnel::{Pull, Tunnel};
use crate::relay::CloseReason;
use crate::relay::Live;
use crate::sys::buffer::{Backlog, Out};
use crate::sys::panics::OnPanic;
use crate::sys::sockets::{self, reset_on_close, Received};
use crate::sys::spin::Conversation;
use crate::sys::turns::{Ticket, HEAVY};
use crate::telemetry::ConnectionRecord;
use crate::tls::record_layer::{HEAD, TAIL};
use rustix::io::Errno;
use socket2::SockRef;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::{poll_fn, Future};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::{io::Interest, net::TcpStream};

/// A full record in the tunnel's out buffer.
pub const SLOT: usize = HEAD + HEADER + DATA_MAX + TAIL;
/// Small reads of one application before others have theirs.
const READS: usize = 4;
/// A stream that carries this much within some seconds is bulk: new streams of the same pair take another tunnel.
const BULK: u64 = 1 << 20;

/// What became of a request for a stream.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200: bytes may flow.
    Open,
    /// Another status.
    Refused(u16),
    /// The peer did nothing with it: it may be asked again, on another tunnel.
    Unprocessed,
    /// It breaks HTTP/2's rules.
    Wrong(Violation),
    /// The tunnel could not be made, or broke.
    Lost(Refusal, String),
}

impl Answer {
    pub fn of_status(status: u16) -> Self {
        match status {
            200 => Answer::Open,
            status => Answer::Refused(status),
        }
    }
}

/// How far the application's side is.
#[derive(Default)]
struct Local {
    /// It has ended its side, and the peer knows.
    ended: Cell<bool>,
    /// The peer's end has been passed on to it.
    shut: Cell<bool>,
}

pub struct Stream {
    pub id: u32,
    tunnel: Rc<Tunnel>,
    app: OnceCell<App>,
    task: RefCell<Option<Waker>>,
    /// What the application's socket refused; bounded by the stream's window.
    backlog: RefCell<Backlog>,
    ticket: Rc<Ticket>,
    answer: RefCell<Option<Answer>>,
    local: Local,
    /// The peer has ended its side.
    finished: Cell<bool>,
    broken: RefCell<Option<CloseReason>>,
    carried: Cell<u64>,
    conversation: Conversation,
}

struct App {
    sock: TcpStream,
    record: ConnectionRecord,
}

/// Reads up to `want` bytes behind the end of `out`, into slots that leave room for a record's and a frame's header and
/// for the tag. The caller seals what came.
pub fn read_slots(sock: &TcpStream, out: &mut Out, want: usize) -> io::Result<Received> {
    let mut bufs: [IoSliceMut; HEAVY / DATA_MAX] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    let (mut n, mut rest) = (0, want);
    for (buf, slot) in bufs.iter_mut().zip(out.room(want.div_ceil(DATA_MAX) * SLOT).chunks_mut(SLOT)) {
        let len = rest.min(DATA_MAX);
        *buf = IoSliceMut::new(&mut slot[HEAD + HEADER..HEAD + HEADER + len]);
        (n, rest) = (n + 1, rest - len);
    }
    sockets::receive(sock, &mut bufs[..n])
}

impl Live for Stream {
    fn cancel(&self, why: Refusal, detail: &str) {
        self.fail(CloseReason::Cancelled(why, detail.into()));
    }

    fn record(&self) -> Option<&ConnectionRecord> {
        self.app.get().map(|app| &app.record)
    }
}

impl Stream {
    pub fn new(tunnel: &Rc<Tunnel>, id: u32) -> Rc<Self> {
        Rc::new(Stream {
            id,
            tunnel: tunnel.clone(),
            app: OnceCell::new(),
            task: RefCell::default(),
            backlog: RefCell::default(),
            ticket: Ticket::new(tunnel.pod.number()),
            answer: RefCell::default(),
            local: Local::default(),
            finished: Cell::new(false),
            broken: RefCell::default(),
            carried: Cell::new(0),
            conversation: Conversation::default(),
        })
    }

    pub fn tunnel(&self) -> &Rc<Tunnel> {
        &self.tunnel
    }

    /// What the peer says to our request. Called once, by the client's side.
    pub async fn answer(&self) -> Answer {
        poll_fn(|cx| {
            if let Some(answer) = self.answer.borrow_mut().take() {
                return Poll::Ready(answer);
            }
            if let Some(broken) = &*self.broken.borrow() {
                return Poll::Ready(match broken {
                    CloseReason::Reset(Code::REFUSED_STREAM) => Answer::Unprocessed,
                    CloseReason::Violation(violation) => Answer::Wrong(violation.clone()),
                    broken => Answer::Lost(broken.refusal(), broken.to_string()),
                });
            }
            self.remember(cx);
            Poll::Pending
        })
        .await
    }

    /// What `work` for the stream comes to; it is dropped when the stream is reset meanwhile, or its tunnel ends.
    pub async fn unless_broken<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            self.remember(cx);
            match &*self.broken.borrow() {
                Some(broken) => Poll::Ready(Err(Failure { refusal: broken.refusal(), detail: broken.to_string() })),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Tells the peer that its request is refused, if it still wants to know.
    pub fn refuse(&self, why: Refusal) {
        let code = match &*self.broken.borrow() {
            Some(broken) => broken.code(),
            None => {
                self.tunnel.respond(self.id, &Block::status(why.status()), true);
                // RFC 9113 section 8.1.1
                (why == Refusal::MalformedRequest).then_some(Code::PROTOCOL_ERROR)
            }
        };
        self.tunnel.close(self.id, code);
    }

    /// Tells the peer that bytes may flow. `fields` go with it.
    pub fn accept(&self, fields: &Block) {
        let mut block = Block::status(200);
        self.tunnel.respond(self.id, block.fields(fields), false);
    }

    /// Carries the bytes of `sock` until both sides have ended, or something breaks; then both ends see a reset.
    pub async fn relay(self: &Rc<Self>, sock: TcpStream, record: ConnectionRecord) {
        let app = self.app.get_or_init(|| App { sock, record });
        let _guard = OnPanic(|| self.break_down());
        let mut failure = pin!(sockets::failure(&app.sock));
        match poll_fn(|cx| self.poll(app, failure.as_mut(), cx)).await {
            Ok(()) => {
                self.tunnel.close(self.id, None);
                app.record.finish();
            }
            Err(broken) => {
                reset_on_close(&app.sock);
                self.tunnel.close(self.id, broken.code());
                broken.record(&app.record, self.finished.get() || self.local.ended.get());
            }
        }
    }

    /// Its task has panicked: both ends see a reset.
    pub fn break_down(&self) {
        if let Some(app) = self.app.get() {
            reset_on_close(&app.sock);
            app.record.fail(Refusal::InternalError, "");
        }
        self.tunnel.close(self.id, Some(Code::INTERNAL_ERROR));
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }

    /// The stream's task: ready when both sides have ended, or with what broke it.
    fn poll(
        self: &Rc<Self>,
        app: &App,
        failure: Pin<&mut impl Future<Output = io::Error>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>> {
        self.remember(cx);
        for _ in 0..READS {
            if let Some(broken) = &*self.broken.borrow() {
                return Poll::Ready(Err(broken.clone()));
            }
            match self.turn(app, cx) {
                Ok(Turn::Again) => {}
                Ok(Turn::Wait) => return Poll::Pending,
                Ok(Turn::Deaf) => return failure.poll(cx).map(|error| Err(CloseReason::App(Rc::new(error)))),
                Ok(Turn::Over) => return Poll::Ready(Ok(())),
                Err(e) => return Poll::Ready(Err(CloseReason::App(Rc::new(e)))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(self: &Rc<Self>, app: &App, cx: &mut Context<'_>) -> io::Result<Turn> {
        // tunnel -> application: what was refused before
        while self.waiting() > 0 && app.sock.poll_write_ready(cx)?.is_ready() {
            self.drain(app)?;
        }
        let Local { ended, shut } = &self.local;
        if self.finished.get() && self.waiting() == 0 && !shut.replace(true) && !ended.get() {
            SockRef::from(&app.sock).shutdown(Shutdown::Write)?; // if both have ended, close says it
        }
        if ended.get() && shut.get() {
            return Ok(Turn::Over);
        }
        // application -> tunnel
        if ended.get() {
            return Ok(Turn::Deaf);
        }
        if app.sock.poll_read_ready(cx)?.is_pending() {
            return Ok(Turn::Wait);
        }
        let Poll::Ready(most) = self.tunnel.worker.turns.poll(&self.ticket, cx) else { return Ok(Turn::Wait) };
        match self.tunnel.pull(self, &app.sock, most)? {
            Pull::Some(n) => {
                app.record.sent(n as u64);
                self.ticket.carried(n);
                if n > 0 {
                    self.carry(n);
                }
                Ok(Turn::Again)
            }
            Pull::End => {
                ended.set(true);
                Ok(Turn::Again)
            }
            Pull::Blocked => Ok(Turn::Deaf), // the tunnel wakes us
        }
    }

    fn drain(&self, app: &App) -> io::Result<()> {
        let mut backlog = self.backlog.borrow_mut();
        match app.sock.try_io(Interest::WRITABLE, || Ok(rustix::io::write(&app.sock, backlog.waiting())?)) {
            Ok(n) => {
                backlog.taken(n);
                drop(backlog);
                app.record.received(n as u64);
                self.tunnel.taken(self.id, n);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// tunnel -> application. Returns how much the socket took; the rest is to be kept.
    pub fn deliver(&self, parts: &[IoSlice], total: usize) -> io::Result<usize> {
        self.carry(total);
        let Some(app) = self.app.get().filter(|_| self.waiting() == 0) else { return Ok(0) };
        let done = match rustix::io::writev(&app.sock, parts) {
            Err(Errno::AGAIN) => 0,
            done => done?,
        };
        app.record.received(done as u64);
        Ok(done)
    }

    /// Keeps what the socket did not take: `parts` without the first `done` bytes.
    pub fn keep(&self, parts: &[IoSlice], done: usize) {
        self.backlog.borrow_mut().add(parts, done);
        self.wake();
    }

    fn carry(&self, n: usize) {
        self.conversation.went_on(n, &self.tunnel.worker.spin);
        let before = self.carried.get();
        self.carried.set(before + n as u64);
        if before < BULK && self.is_bulk() {
            self.tunnel.bulk.set(self.tunnel.bulk.get() + 1);
        }
    }

    /// To be called every few seconds: what was bulk may rest by now.
    pub fn look(&self) {
        if self.is_bulk() {
            self.tunnel.bulk.set(self.tunnel.bulk.get() - 1);
        }
        self.carried.set(0);
    }

    pub fn is_bulk(&self) -> bool {
        self.carried.get() >= BULK
    }

    /// Bytes that wait for the application.
    pub fn waiting(&self) -> usize {
        self.backlog.borrow().len()
    }

    /// The memory that they take, were there `more`.
    pub fn backlog(&self, more: usize) -> usize {
        self.backlog.borrow().size(more)
    }

    pub fn answered(&self, answer: Answer) {
        *self.answer.borrow_mut() = Some(answer);
        self.wake();
    }

    /// The peer has ended its side.
    pub fn finish(&self) {
        self.finished.set(true);
        self.wake();
    }

    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// Both sides have said all. What is left may still have to reach the application, without the tunnel.
    pub fn is_settled(&self) -> bool {
        self.finished.get() && self.local.ended.get()
    }

    pub fn fail(&self, broken: CloseReason) {
        self.broken.borrow_mut().get_or_insert(broken);
        self.wake();
    }

    pub fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }
}

enum Turn {
    Again,
    Wait,
    /// As `Wait`, and the socket is not read meanwhile: only its error would tell that the application is gone.
    Deaf,
    Over,
}

#[cfg(test)]
mod tests;
