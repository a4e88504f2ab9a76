//! What goes into a tunnel: sealed into its out buffer, and written at once or together with what others have to say.
use super::{Stage, Tunnel};
use crate::base::sizes::{DATA_MAX, FRAME_HEADER};
use crate::base::{Failure, Refusal};
use crate::h2::frame;
use crate::h2::headers::Block;
use crate::hbone::session::Session;
use crate::hbone::stream::Stream;
use crate::sys::buffer::Out;
use crate::sys::flusher::Flush;
use crate::sys::sockets::{self, Received};
use crate::sys::turns::HEAVY;
use crate::tls::record_layer::{Records, HEAD, TAIL};
use std::io::{self, ErrorKind::WouldBlock, IoSliceMut};
use std::rc::Rc;
use tokio::{io::Interest, net::TcpStream};

/// Applications are not read while more ciphertext than this waits.
const HIGH: usize = 64 << 10;
/// A peer that asks for answers (PING, SETTINGS) and does not read them.
const UNREAD_MAX: usize = 512 << 10;
/// What is read of an application at a time and waits for the flusher; more is written at once.
const SMALL: usize = 16 << 10;
/// A full record in the tunnel's out buffer.
const SLOT: usize = HEAD + FRAME_HEADER + DATA_MAX + TAIL;

/// What a stream learns when it asks to send.
pub enum Pull {
    Some(usize),
    End,
    Blocked,
}

impl Tunnel {
    /// application -> tunnel: reads at most so much of the application, seals it, and writes the tunnel.
    pub fn pull(self: &Rc<Self>, stream: &Rc<Stream>, sock: &TcpStream, most: usize) -> io::Result<Pull> {
        let session = &mut *self.session.borrow_mut();
        let want = match self.room(session, stream, most) {
            0 => return Ok(Pull::Blocked),
            want => want,
        };
        let Some((out, records)) = session.sealer()? else { return Ok(Pull::Blocked) };
        let mut got = None;
        let read = sock.try_io(Interest::READABLE, || {
            let received = read_slots(sock, out, want)?;
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
            self.put_end(session, stream.id);
            return Ok(Pull::End);
        }
        let mut rest = n;
        while rest > 0 {
            let len = rest.min(DATA_MAX);
            rest -= len;
            seal(out, records, stream.id, len, |_| {})?;
        }
        records.renew(out)?;
        self.sealed(session, stream, n);
        Ok(Pull::Some(n))
    }

    /// As `pull`, of bytes that are here. Gives how many of them went; at 0 the stream is woken when there is room.
    pub fn push(self: &Rc<Self>, stream: &Rc<Stream>, bytes: &[u8]) -> io::Result<usize> {
        let session = &mut *self.session.borrow_mut();
        let n = self.room(session, stream, HEAVY).min(bytes.len());
        if n == 0 {
            return Ok(0);
        }
        let Some((out, records)) = session.sealer()? else { return Ok(0) };
        for part in bytes[..n].chunks(DATA_MAX) {
            seal(out, records, stream.id, part.len(), |slot| slot.copy_from_slice(part))?;
        }
        records.renew(out)?;
        self.sealed(session, stream, n);
        Ok(n)
    }

    /// How much of a stream may be sealed now, `most` bytes at most. At 0 it is woken when that changes.
    fn room(&self, session: &Session, stream: &Rc<Stream>, most: usize) -> usize {
        let most = if session.may_grow() { most } else { DATA_MAX };
        if !self.streams.borrow().contains(stream.id) {
            return 0;
        }
        if session.unsent() > HIGH || session.room() == 0 {
            self.streams.borrow_mut().block(stream);
            return 0;
        }
        stream.room().min(session.room()).min(most)
    }

    fn sealed(self: &Rc<Self>, session: &mut Session, stream: &Stream, n: usize) {
        session.sent(n);
        stream.sent(n);
        match n < SMALL {
            true => self.flush_soon(),
            false => self.flush(session),
        }
    }

    /// Asks the peer for a stream, which begins with `early` if windows have room for it: how much went is in the result.
    /// `Stream::answer` has what the peer says.
    pub fn open(self: &Rc<Self>, request: &Block, early: &[u8]) -> (Rc<Stream>, usize) {
        let id = self.session.borrow_mut().ask(request);
        let stream = self.insert(id, false);
        let session = &mut *self.session.borrow_mut();
        let fits = early.len() <= session.room().min(stream.room());
        if fits && !early.is_empty() {
            session.put_data(id, early);
            stream.sent(early.len());
        }
        self.flush_soon();
        (stream, if fits { early.len() } else { 0 })
    }

    pub(super) fn insert(self: &Rc<Self>, id: u32, begun: bool) -> Rc<Stream> {
        let streams = &mut *self.streams.borrow_mut();
        let stream = Stream::new(self, id, begun, streams.windows());
        streams.insert(&stream);
        self.thread.telemetry.stream_opened(self.direction);
        stream
    }

    pub fn respond(self: &Rc<Self>, id: u32, block: &Block, end: bool) {
        if self.streams.borrow().contains(id) {
            self.session.borrow_mut().put_headers(id, block, end);
        }
        self.flush_soon();
    }

    /// A stream has said all.
    pub fn end_stream(self: &Rc<Self>, id: u32) {
        self.put_end(&mut self.session.borrow_mut(), id);
    }

    fn put_end(self: &Rc<Self>, session: &mut Session, id: u32) {
        if self.streams.borrow().contains(id) {
            session.put_end(id);
        }
        session.release();
        self.flush_soon();
    }

    /// Has the peer send so much more of a stream.
    pub fn give_back(&self, id: u32, due: Option<u32>) {
        if due.is_some() {
            let session = &mut *self.session.borrow_mut();
            session.give_back(id, due);
            self.flush(session);
        }
    }

    /// A stream's task has ended; with a code, the peer is told that it broke.
    pub fn close(self: &Rc<Self>, id: u32, broken: Option<frame::Code>) {
        let Some(stream) = self.streams.borrow_mut().remove(id) else { return };
        self.thread.telemetry.streams_closed(self.direction, 1);
        self.bulk.set(self.bulk.get() - usize::from(stream.is_bulk()));
        if let Some(code) = broken {
            self.session.borrow_mut().put_reset(id, code);
        }
        self.flush_soon();
        if self.stage.get() == Stage::Draining && !self.has_streams() {
            self.wake();
        }
    }

    /// Writes the socket together with what others have to say now.
    fn flush_soon(self: &Rc<Self>) {
        if !self.due.replace(true) {
            self.thread.flusher.soon(self.clone());
        }
    }

    /// Writes the socket, and lets those go on who waited for that.
    pub(super) fn flush_all(&self) {
        self.flush(&mut self.session.borrow_mut());
        self.unblock();
    }

    pub(super) fn unblock(&self) {
        let session = self.session.borrow();
        if session.unsent() <= HIGH / 2 && session.room() > 0 {
            self.streams.borrow_mut().unblock();
        }
    }

    /// Writes the socket; what it refuses, and what breaks, is left to the tunnel's task.
    pub(super) fn flush(&self, session: &mut Session) {
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

    pub(super) fn flush_now(&self) -> Result<(), Failure> {
        let session = &mut *self.session.borrow_mut();
        session.begin()?;
        self.flush(session);
        Ok(())
    }
}

impl Flush for Tunnel {
    fn flush_due(&self) {
        self.due.set(false);
        self.flush_all();
    }

    fn break_down(&self) {
        Tunnel::break_down(self);
    }
}

/// One record with a DATA frame of `len` bytes, which `fill` puts where they belong.
fn seal(out: &mut Out, records: &mut Records, id: u32, len: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
    let size = HEAD + FRAME_HEADER + len + TAIL;
    let record = out.room(size);
    record[HEAD..HEAD + FRAME_HEADER].copy_from_slice(&frame::data_header(len, id));
    fill(&mut record[HEAD + FRAME_HEADER..size - TAIL]);
    records.seal_in_place(record)?;
    out.advance(size);
    Ok(())
}

/// Reads up to `want` bytes behind the end of `out`, into slots that leave room for a record's and a frame's header and
/// for the tag. The caller seals what came.
fn read_slots(sock: &TcpStream, out: &mut Out, want: usize) -> io::Result<Received> {
    let mut bufs: [IoSliceMut; HEAVY / DATA_MAX] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    let (mut n, mut rest) = (0, want);
    for (buf, slot) in bufs.iter_mut().zip(out.room(want.div_ceil(DATA_MAX) * SLOT).chunks_mut(SLOT)) {
        let len = rest.min(DATA_MAX);
        *buf = IoSliceMut::new(&mut slot[HEAD + FRAME_HEADER..HEAD + FRAME_HEADER + len]);
        (n, rest) = (n + 1, rest - len);
    }
    sockets::receive(sock, &mut bufs[..n])
}

pub(super) fn write(sock: &TcpStream, session: &mut Session) -> io::Result<()> {
    while session.unsent() > 0 {
        let n = rustix::io::write(sock, session.waiting())?;
        session.written(n);
    }
    Ok(())
}
