//! A stream and an application's socket: bytes are sealed straight from where they were read, and written from where they
//! were opened.
use super::{App, Local, Side, Stream};
use crate::hbone::tunnel::Pull;
use crate::relay::CloseReason;
use crate::sys::panics::OnPanic;
use crate::sys::sockets::{self, reset_on_close};
use crate::telemetry::ConnectionRecord;
use socket2::SockRef;
use std::future::{poll_fn, Future};
use std::io;
use std::net::Shutdown;
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::{io::Interest, net::TcpStream};

/// Small reads of one application before others have theirs.
const READS: usize = 4;

enum Turn {
    Again,
    Wait,
    /// As `Wait`, and the socket is not read meanwhile: only its error would tell that the application is gone.
    Deaf,
    Over,
}

impl Stream {
    /// Carries the bytes of `sock` until both sides have ended, or something breaks; then both ends see a reset.
    pub async fn relay(self: &Rc<Self>, sock: TcpStream, record: ConnectionRecord) {
        let app = self.app.get_or_init(|| App { sock, record });
        let _guard = OnPanic(|| self.break_down());
        let mut failure = pin!(sockets::failure(&app.sock));
        self.begin(app);
        match poll_fn(|cx| self.poll(app, failure.as_mut(), cx)).await {
            Ok(()) => {
                self.tunnel.close(self.id, None);
                app.record.finish();
            }
            Err(broken) => {
                if let CloseReason::Tunnel(_) = broken {
                    // All of its streams have ended at once: those of other tunnels go on meanwhile.
                    self.tunnel.thread.turns.begin(self.tunnel.owner()).await;
                }
                reset_on_close(&app.sock);
                self.tunnel.close(self.id, broken.code());
                broken.record(&app.record, self.finished.get() || self.local.ended.get());
            }
        }
    }

    /// The stream's task: ready when both sides have ended, or with what broke it.
    fn poll(
        self: &Rc<Self>,
        app: &App,
        failure: Pin<&mut impl Future<Output = io::Error>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>> {
        self.remember(Side::Reader, cx);
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
        let Poll::Ready(most) = self.tunnel.thread.turns.poll(&self.ticket, cx) else { return Ok(Turn::Wait) };
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

    /// What came before the application was there goes to it at once: epoll tells of a new socket in a later turn only.
    fn begin(&self, app: &App) {
        if self.waiting() == 0 {
            return;
        }
        match self.write_waiting(app) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.fail(CloseReason::App(Rc::new(error))),
            _ => {}
        }
        sockets::acknowledge_at_once(&app.sock);
    }

    fn drain(&self, app: &App) -> io::Result<()> {
        match app.sock.try_io(Interest::WRITABLE, || self.write_waiting(app)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            written => written,
        }
    }

    /// As much as the application's socket takes.
    fn write_waiting(&self, app: &App) -> io::Result<()> {
        let n = rustix::io::write(&app.sock, self.inbox.borrow().waiting())?;
        app.record.received(n as u64);
        self.consume(n);
        Ok(())
    }
}
