//! A tunnel on a socket, and a peer that speaks frame by frame: right or wrong, as a test wants it.
use super::*;
use crate::base::sizes::DATA_MAX;
use crate::h2::frame;
use crate::h2::frame::{Code, Event};
use crate::h2::headers::{self, Block, Decoder, Fields, Kind};
use crate::h2::parser::Parser;
use crate::hbone::stream::Answer;
use crate::sys::pod_info::testing::info;
use crate::tls::credentials::testing::{expected, usual, Authority};
use crate::tls::handshake::testing::End;
use crate::tls::record_layer;
use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind::WouldBlock;
use std::rc::Weak;
use tokio::net::TcpSocket;
use tokio::task::{yield_now, JoinHandle};

const OURS: &str = "spiffe://cluster.local/ns/demo/sa/ours";
const PEER: &str = "spiffe://cluster.local/ns/demo/sa/peer";

/// SETTINGS_INITIAL_WINDOW_SIZE and SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 section 6.5.2).
pub const INITIAL_WINDOW: u16 = 4;
pub const MAX_STREAMS: u16 = 3;

/// Which end of the tunnel is ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ours {
    Client,
    Server,
}

/// The far end.
pub struct Peer {
    ours: Ours,
    sock: TcpStream,
    end: End,
    parser: Parser,
    decoder: Decoder,
    /// What has come and nobody has asked for; DATA with its bytes.
    came: VecDeque<(Event, Vec<u8>)>,
    /// What becomes of the tunnel.
    pub ended: JoinHandle<Result<(), Failure>>,
}

/// Buffers in which the kernel keeps what is not read, bytes: the least are some kB.
pub const LEAST: u32 = 1;
pub const USUAL: u32 = 1 << 18;

/// Two ends of a TCP connection. About `buffer` bytes fit in between from the first to the second.
pub async fn sockets(buffer: u32) -> (TcpStream, TcpStream) {
    let (from, to) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
    from.set_send_buffer_size(buffer).unwrap();
    to.set_recv_buffer_size(buffer).unwrap();
    to.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = to.listen(1).unwrap();
    let first = from.connect(listener.local_addr().unwrap()).await.unwrap();
    let (second, _) = listener.accept().await.unwrap();
    for sock in [&first, &second] {
        sock.set_nodelay(true).unwrap();
    }
    (first, second)
}

pub async fn write(sock: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        sock.writable().await.unwrap();
        if let Ok(n) = sock.try_write(bytes) {
            bytes = &bytes[n..];
        }
    }
}

/// At most `most` bytes, none at the end.
pub async fn read_some(sock: &TcpStream, most: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; most];
    loop {
        sock.readable().await?;
        match sock.try_read(&mut buf) {
            Err(e) if e.kind() == WouldBlock => {}
            result => return result.map(|n| buf[..n].to_vec()),
        }
    }
}

pub async fn read(sock: &TcpStream, n: usize) -> Vec<u8> {
    let mut got = vec![];
    while got.len() < n {
        let part = read_some(sock, n - got.len()).await.unwrap();
        assert!(!part.is_empty(), "the end comes after {} of {n} bytes", got.len());
        got.extend(part);
    }
    got
}

/// Whether the socket's other side has ended in order.
pub async fn is_at_end(sock: &TcpStream) -> bool {
    read_some(sock, 1).await.unwrap().is_empty()
}

pub async fn is_reset(sock: &TcpStream) -> bool {
    read_some(sock, 1).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// Lets everybody else go on until something is so.
pub async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        yield_now().await;
    }
}

/// A frame, as wrong as wanted.
pub fn raw(kind: u8, flags: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), body].concat()
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let body = settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    raw(4, 0, 0, &body.collect::<Vec<_>>())
}

/// A tunnel whose handshake is over, and which has been greeted with these settings; its own are acknowledged.
pub async fn connected(thread: &Rc<Thread>, ours: Ours, with: &[(u16, u32)]) -> (Rc<Tunnel>, Peer) {
    let (tunnel, mut peer) = shaken(thread, ours).await;
    peer.greet(with).await;
    peer.acknowledge().await;
    peer.rest().await;
    (tunnel, peer)
}

/// A tunnel whose handshake is over, and that has heard nothing else.
pub async fn shaken(thread: &Rc<Thread>, ours: Ours) -> (Rc<Tunnel>, Peer) {
    serving(thread, ours, |stream, _| drop(spawn_local(hold(stream)))).await
}

/// The same, which gives `accept` what the peer asks for.
pub async fn serving(
    thread: &Rc<Thread>,
    ours: Ours,
    accept: impl Fn(Rc<Stream>, Fields) + 'static,
) -> (Rc<Tunnel>, Peer) {
    let root = Authority::new("root");
    let [own, other] = [OURS, PEER].map(|name| root.credentials(name, &root, usual));
    let (near, far) = match ours {
        Ours::Client => (Handshake::client(&own, &expected(&[PEER])), Handshake::server(&other)),
        Ours::Server => (Handshake::server(&own), Handshake::client(&other, &expected(&[OURS]))),
    };
    let (tunnel, mut peer) = begun(thread, near.unwrap(), far.unwrap(), accept).await;
    peer.shake().await;
    (tunnel, peer)
}

/// A server of ours and its peer, who believe `root`, behind the peer's last flight but for the last record of it: the peer
/// has proven who it is. Gives that record.
pub async fn almost_shaken(thread: &Rc<Thread>, root: &Authority) -> (Rc<Tunnel>, Peer, Vec<u8>) {
    let [own, other] = [OURS, PEER].map(|name| root.credentials(name, root, usual));
    let (near, far) = (Handshake::server(&own), Handshake::client_in_pieces(&other, &expected(&[OURS])));
    let (tunnel, mut peer) = begun(thread, near.unwrap(), far, |_, _| {}).await;
    peer.flush().await;
    while peer.end.records.is_none() {
        peer.receive().await;
    }
    let said = peer.end.said();
    let (mut last, mut next) = (0, 0);
    while let Some(size) = record_layer::size(&said[next..]) {
        (last, next) = (next, next + size);
    }
    peer.write(&said[..last]).await;
    until(|| rustix::io::ioctl_fionread(tunnel.sock.get().unwrap()).unwrap() == 0).await;
    (tunnel, peer, said[last..].to_vec())
}

/// A tunnel and a peer that have said nothing.
async fn begun(
    thread: &Rc<Thread>,
    near: Handshake,
    far: Handshake,
    accept: impl Fn(Rc<Stream>, Fields) + 'static,
) -> (Rc<Tunnel>, Peer) {
    let ours = if near.is_server() { Ours::Server } else { Ours::Client };
    let (sock, peers) = sockets(USUAL).await;
    let (pod, remote) = (info(OURS, "pod"), peers.local_addr().unwrap());
    let tunnel = match ours {
        Ours::Client => Tunnel::client(thread, &pod, remote, near),
        Ours::Server => Tunnel::server(thread, &pod, remote, near, accept),
    };
    let running = tunnel.clone();
    let mut peer = Peer {
        ours,
        sock: peers,
        end: End::new(far),
        parser: Parser::new(ours == Ours::Client),
        decoder: Decoder::new(),
        came: VecDeque::new(),
        ended: spawn_local(async move { running.run(sock).await }),
    };
    peer.hear(&[]);
    (tunnel, peer)
}

/// Serves a request that is never answered, until it breaks.
async fn hold(stream: Rc<Stream>) {
    let _task = stream.tunnel().task();
    let Err(failure) = stream.unless_broken(std::future::pending::<Result<(), Failure>>()).await else { return };
    stream.refuse(failure.refusal);
}

/// A stream that we have asked for, the next one, and that the peer has accepted: its task has it, and one end of the
/// application's connection. Gives the other end.
pub async fn opened(tunnel: &Rc<Tunnel>, peer: &mut Peer, buffer: u32) -> (Weak<Stream>, TcpStream) {
    let (stream, _) = tunnel.open(&Block::connect("192.0.2.1:80"), b"");
    peer.headers(stream.id, Kind::Request).await;
    peer.respond(stream.id, 200).await;
    assert!(matches!(stream.answer().await, Answer::Open));
    let (near, app) = sockets(buffer).await;
    let record = tunnel.thread.telemetry.accept(Direction::Outbound, tunnel.remote, tunnel.remote);
    let weak = Rc::downgrade(&stream);
    spawn_local(async move { stream.relay(near, record).await });
    (weak, app)
}

impl Peer {
    async fn shake(&mut self) {
        while self.end.records.is_none() {
            self.flush().await;
            self.receive().await;
        }
        self.flush().await;
    }

    /// What each side says first.
    pub async fn greet(&mut self, with: &[(u16, u32)]) {
        let preface = if self.ours == Ours::Server { frame::PREFACE } else { b"" };
        self.send(|out| out.extend([preface, &settings(with)].concat())).await;
    }

    /// The tunnel's settings hold from now on.
    pub async fn acknowledge(&mut self) {
        self.read(|event| matches!(event, Event::Settings(_))).await;
        self.send(frame::put_settings_ack).await;
    }

    /// Sends the frames that `put` appends.
    pub async fn send(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut frames = vec![];
        put(&mut frames);
        let End { records, out, .. } = &mut self.end;
        records.as_mut().unwrap().seal(&frames, out).unwrap();
        self.flush().await;
    }

    pub async fn request(&mut self, id: u32) {
        self.ask(id, "192.0.2.1:80").await;
    }

    /// A request for a stream to there.
    pub async fn ask(&mut self, id: u32, authority: &str) {
        self.send(|out| frame::put_headers(out, id, &Block::connect(authority).0, false)).await;
    }

    pub async fn respond(&mut self, id: u32, status: u16) {
        self.send(|out| frame::put_headers(out, id, &Block::status(status).0, false)).await;
    }

    pub async fn data(&mut self, id: u32, bytes: &[u8]) {
        self.send(|out| bytes.chunks(DATA_MAX).for_each(|part| frame::put_data(out, id, part))).await;
    }

    pub async fn reset(&mut self, id: u32, code: Code) {
        self.send(|out| frame::put_reset(out, id, code)).await;
    }

    /// One record, padded as far as is legal.
    pub fn padded(&mut self, frames: &[u8]) -> Vec<u8> {
        let End { records, out, .. } = &mut self.end;
        records.as_mut().unwrap().seal_padded(frames, out);
        self.end.said()
    }

    /// Bytes that need not be records.
    pub async fn write(&mut self, bytes: &[u8]) {
        write(&self.sock, bytes).await;
    }

    async fn flush(&mut self) {
        let said = self.end.said();
        self.write(&said).await;
    }

    fn hear(&mut self, bytes: &[u8]) {
        let plain = self.end.hear(bytes);
        let (mut at, mut events) = (0, vec![]);
        while at < plain.len() {
            self.parser.begin_turn();
            at = self.parser.parse(&plain, at..plain.len(), &mut events).unwrap();
        }
        self.came.extend(events.into_iter().map(|event| match event {
            Event::Data(id, part) => (Event::Data(id, 0..part.len()), plain[part].to_vec()),
            event => (event, vec![]),
        }));
    }

    async fn receive(&mut self) {
        let bytes = read_some(&self.sock, 1 << 16).await.unwrap();
        assert!(!bytes.is_empty(), "the tunnel has ended");
        self.hear(&bytes);
    }

    /// The next event of a kind. Others are kept for later.
    async fn read(&mut self, fits: impl Fn(&Event) -> bool) -> (Event, Vec<u8>) {
        loop {
            match self.came.iter().position(|(event, _)| fits(event)) {
                Some(at) => return self.came.remove(at).unwrap(),
                None => self.receive().await,
            }
        }
    }

    /// Waits for this one.
    pub async fn hears(&mut self, expected: Event) {
        self.read(|event| *event == expected).await;
    }

    /// The next header block of a stream.
    pub async fn headers(&mut self, id: u32, kind: Kind) -> Fields {
        let is_of_stream = |event: &Event| matches!(event, Event::Headers { id: of, .. } if *of == id);
        let (Event::Headers { block, .. }, _) = self.read(is_of_stream).await else { unreachable!() };
        headers::read(&mut self.decoder, &block, kind).unwrap()
    }

    /// The next bytes of a stream, as many as come together.
    pub async fn some(&mut self, id: u32) -> Vec<u8> {
        self.read(|event| matches!(event, Event::Data(of, _) if *of == id)).await.1
    }

    /// The next `n` bytes of a stream.
    pub async fn payload(&mut self, id: u32, n: usize) -> Vec<u8> {
        let mut got = vec![];
        while got.len() < n {
            got.extend(self.some(id).await);
        }
        assert_eq!(got.len(), n);
        got
    }

    /// The WINDOW_UPDATEs of a stream that have come before the tunnel answers a PING, in all.
    pub async fn given(&mut self, id: u32) -> u32 {
        let of_stream = |event: &Event| match event {
            Event::Window(of, n) if *of == id => *n,
            _ => 0,
        };
        self.rest().await.iter().map(of_stream).sum()
    }

    /// All that has come and was not asked for, before the tunnel answers a PING.
    pub async fn rest(&mut self) -> Vec<Event> {
        self.send(|out| frame::put_ping(out, *b"the rest", false)).await;
        self.hears(Event::Pong(*b"the rest")).await;
        self.came.drain(..).map(|(event, _)| event).collect()
    }

    /// Waits for GOAWAY and the end; the error that it tells.
    pub async fn goodbye(&mut self) -> Code {
        let (Event::GoAway(_, code), _) = self.read(|event| matches!(event, Event::GoAway(..))).await else {
            unreachable!()
        };
        self.end().await;
        code
    }

    /// Waits for the end of the connection; whether it was said before (close_notify).
    pub async fn end(&mut self) -> bool {
        while let Ok(bytes) = read_some(&self.sock, 1 << 16).await {
            if bytes.is_empty() {
                break;
            }
            self.hear(&bytes);
        }
        self.end.records.as_ref().is_some_and(|records| records.closed)
    }
    /// What ended it, as far as the tunnel has said it.
    pub fn told(&self) -> Option<&Failure> {
        self.end.failure.as_ref()
    }
}
