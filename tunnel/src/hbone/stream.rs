//! A stream: one application's connection inside a tunnel.
//!
//! The tunnel writes what arrives straight to the application's socket; the stream's task reads that socket and writes
//! the tunnel, and takes up what a full socket refused. Both ends of a tunnel use the same stream.
use super::inbox::Inbox;
use super::tunnel::Tunnel;
use crate::base::{Failure, Refusal};
use crate::h2::flow::Sending;
use crate::h2::frame::{Code, Violation};
use crate::h2::headers::{Block, Fields, Kind};
use crate::relay::{CloseReason, Live};
use crate::sys::sockets::reset_on_close;
use crate::sys::spin::Conversation;
use crate::sys::turns::Ticket;
use crate::telemetry::ConnectionRecord;
use rustix::io::Errno;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::{poll_fn, Future};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::TcpStream;

mod duplex;
mod lent;
mod splice;

pub use duplex::StreamDuplex;

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
    /// Where its bytes go to and come from without another copy; none where somebody reads and writes it (`Duplex`).
    app: OnceCell<App>,
    /// Who is to go on: its task, or who reads it and who writes it.
    wakers: RefCell<[Option<Waker>; 2]>,
    /// Where they go that come, for a while.
    lent: RefCell<Option<lent::Lent>>,
    /// What the application's socket refused, or nobody has read yet.
    inbox: RefCell<Inbox>,
    /// What the peer takes.
    sending: RefCell<Sending>,
    /// The peer's header block is there: the request, or the answer that decides.
    begun: Cell<bool>,
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

impl Live for Stream {
    fn cancel(&self, why: Refusal, detail: &str) {
        self.fail(CloseReason::Cancelled(why, detail.into()));
    }

    fn record(&self) -> Option<&ConnectionRecord> {
        self.app.get().map(|app| &app.record)
    }

    fn rtt(&self) -> Option<Duration> {
        self.tunnel.rtt()
    }
}

/// Whom a stream wakes.
#[derive(Clone, Copy)]
enum Side {
    /// Its task, or who reads it.
    Reader,
    Writer,
}

impl Stream {
    /// `begun` where the peer asked for it; the windows are what we, and the peer, may send at first.
    pub fn new(tunnel: &Rc<Tunnel>, id: u32, begun: bool, (sending, receiving): (i64, i64)) -> Rc<Self> {
        Rc::new(Stream {
            id,
            tunnel: tunnel.clone(),
            app: OnceCell::new(),
            wakers: RefCell::default(),
            lent: RefCell::default(),
            inbox: RefCell::new(Inbox::new(&tunnel.budget, receiving)),
            sending: RefCell::new(Sending::new(sending)),
            begun: Cell::new(begun),
            ticket: Ticket::new(tunnel.owner()),
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
            self.remember(Side::Reader, cx);
            Poll::Pending
        })
        .await
    }

    /// What `work` for the stream comes to. It does not begin when the stream has been reset already, and is dropped when that
    /// happens meanwhile, or its tunnel ends.
    pub async fn unless_broken<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.remember(Side::Reader, cx);
            if let Some(broken) = &*self.broken.borrow() {
                return Poll::Ready(Err(Failure { refusal: broken.refusal(), detail: broken.to_string() }));
            }
            work.as_mut().poll(cx)
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

    /// Its task has panicked: both ends see a reset.
    pub fn break_down(&self) {
        if let Some(app) = self.app.get() {
            reset_on_close(&app.sock);
            app.record.fail(Refusal::InternalError, "");
        }
        self.tunnel.close(self.id, Some(Code::INTERNAL_ERROR));
    }

    fn remember(&self, side: Side, cx: &Context<'_>) {
        let waker = &mut self.wakers.borrow_mut()[side as usize];
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// The first `n` bytes that wait have been taken; the peer may send more.
    fn consume(&self, n: usize) {
        self.inbox.borrow_mut().remove(n);
        let due = self.taken(n);
        self.tunnel.give_back(self.id, due);
    }

    /// What came goes to the application, or waits for it. Gives the WINDOW_UPDATE that is due.
    pub fn deliver(&self, parts: &[IoSlice], total: usize) -> Option<u32> {
        if self.finished.get() {
            let violation = Violation { code: Code::STREAM_CLOSED, what: "DATA behind the end" }; // RFC 9113 section 5.1
            self.fail(CloseReason::Violation(violation));
            return None;
        }
        match self.write(parts, total) {
            Ok(done) if done == total || self.keep(parts, done, total) => self.taken(done),
            Ok(_) => {
                let detail = "the application does not read, and too much waits already".into();
                self.fail(CloseReason::Cancelled(Refusal::OutOfMemory, detail));
                None
            }
            Err(error) => {
                self.fail(CloseReason::App(Rc::new(error)));
                self.taken(total)
            }
        }
    }

    /// Returns how much the application's socket took; the rest is to be kept.
    fn write(&self, parts: &[IoSlice], total: usize) -> io::Result<usize> {
        self.carry(total);
        if !self.inbox.borrow().is_empty() {
            return Ok(0);
        }
        let Some(app) = self.app.get() else { return Ok(self.write_lent(parts, total)) };
        let done = match rustix::io::writev(&app.sock, parts) {
            Err(Errno::AGAIN) => 0,
            done => done?,
        };
        app.record.received(done as u64);
        Ok(done)
    }

    fn keep(&self, parts: &[IoSlice], done: usize, total: usize) -> bool {
        let fits = self.inbox.borrow_mut().keep(parts, done, total);
        if fits {
            self.wake();
        }
        fits
    }

    /// `n` bytes came, which count against the window.
    pub fn came(&self, n: usize) -> Result<(), Violation> {
        self.inbox.borrow_mut().came(n)
    }

    /// `n` bytes need no more room here. Gives the WINDOW_UPDATE that is due.
    pub fn taken(&self, n: usize) -> Option<u32> {
        self.inbox.borrow_mut().taken(n, self.finished.get(), || self.tunnel.least_rtt())
    }

    /// The peer has acknowledged another window for new streams.
    pub fn adjust(&self, n: i64) {
        self.inbox.borrow_mut().adjust(n);
    }

    /// How much the peer takes.
    pub fn room(&self) -> usize {
        self.sending.borrow().room()
    }

    pub fn sent(&self, n: usize) {
        self.sending.borrow_mut().sent(n);
    }

    /// The peer takes so much more.
    pub fn grow(&self, n: i64) -> Result<(), Violation> {
        self.sending.borrow_mut().grow(n)?;
        self.wake();
        Ok(())
    }

    /// What a header block can only be.
    pub fn expects(&self) -> Kind {
        match self.begun.get() {
            true => Kind::Trailers,
            false => Kind::Response,
        }
    }

    /// A header block of a stream that is there: an answer, or what ends the peer's side. That is not for a CONNECT
    /// (RFC 9113 section 8.5), but says no more than END_STREAM does. Anything else breaks the stream.
    pub fn headers(&self, fields: &Fields, end: bool) {
        let broken = |code: Code, what: &'static str| self.fail(CloseReason::Violation(Violation { code, what }));
        match (fields.malformed, fields.status) {
            (Some(what), _) => broken(Code::PROTOCOL_ERROR, what),
            (None, Some(100..=199)) if !end => {} // the answer is still to come (RFC 9110 section 15.2)
            (None, Some(status)) => {
                self.begun.set(true);
                self.answered(Answer::of_status(status));
                if end {
                    self.finish();
                }
            }
            (None, None) if self.finished.get() => broken(Code::STREAM_CLOSED, "a header block behind the end"),
            (None, None) if end => self.finish(),
            (None, None) => broken(Code::PROTOCOL_ERROR, "a second header block"),
        }
    }

    /// The peer has reset it.
    pub fn reset(&self, code: Code) {
        match code {
            Code::NO_ERROR => self.finish(), // RFC 9113 section 8.1: all has been said
            code => self.fail(CloseReason::Reset(code)),
        }
    }

    fn carry(&self, n: usize) {
        self.conversation.went_on(n, &self.tunnel.thread.spin);
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
        self.inbox.borrow_mut().look();
    }

    pub fn is_bulk(&self) -> bool {
        self.carried.get() >= BULK
    }

    /// Bytes that wait for the application.
    pub fn waiting(&self) -> usize {
        self.inbox.borrow().len()
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

    /// Whether the peer has said all.
    #[cfg(test)]
    pub fn has_finished(&self) -> bool {
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
        self.wakers.borrow().iter().flatten().for_each(Waker::wake_by_ref);
    }
}

#[cfg(test)]
mod tests;
