//! Questions for names that a pod's applications ask, as long as there are names that only the mesh knows: answered here, or
//! passed on as they are to the server that was asked, from the pod itself.
use super::Proxy;
use crate::base::OriginalDst;
use crate::dns;
use crate::mesh::Mesh;
use crate::node::Pod;
use crate::sys::bpf::Map;
use crate::sys::datagrams::{self, Arrived};
use crate::sys::layout::{Endpoint, Pair};
use crate::telemetry::Lookup;
use rustix::net::RecvFlags;
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::spawn_local;

/// Where questions over UDP are redirected to (bpf/constants.h).
pub const DNS_PORT: u16 = 15053;
/// Where name servers listen.
pub const DOMAIN_PORT: u16 = 53;
/// Seconds that a server has for its answer: what clients wait before they ask again.
const PATIENCE: u64 = 5;
/// Seconds that a client has for a question over TCP, before its connection goes on to the server that it asked.
const QUESTION: u64 = 5;
/// Questions of one pod that wait for a server's answer.
const WAITING: usize = 1024;
const LARGEST: usize = u16::MAX as usize;

/// Which server a pod has asked where its question arrives at an address of the loopback.
pub struct Servers {
    pins: PathBuf,
    map: RefCell<Option<Map<Pair, Endpoint>>>,
    /// Of the thread: for one datagram at a time.
    buffer: RefCell<Vec<u8>>,
}

impl Servers {
    /// pins: where the agent has its maps.
    pub fn new(pins: PathBuf) -> Servers {
        Servers { pins, map: RefCell::default(), buffer: RefCell::new(vec![0; LARGEST]) }
    }

    fn asked(&self, pod: &Pod, at: IpAddr) -> Option<SocketAddr> {
        // Who asks at the pod's own address has not been redirected.
        let at = Some(OriginalDst::new(SocketAddr::new(at, DNS_PORT))).filter(|at| at.is_loopback())?;
        let pair = Pair::new(pod.netns.cookie().ok()?, at.address());
        let find = || self.map.borrow().as_ref().and_then(|map| map.get(&pair).ok().flatten());
        let found = find().or_else(|| {
            // The agent may have made another map.
            *self.map.borrow_mut() = Map::open(&self.pins.join("maps/resolvers")).ok();
            find()
        });
        found.map(SocketAddr::from)
    }
}

/// A pod's questions: the socket at which they arrive, and how many wait for an answer.
struct Questions {
    socket: Rc<UdpSocket>,
    waiting: Cell<usize>,
}

/// Counts a question that waits.
struct Waiting(Rc<Questions>);

impl Waiting {
    fn new(questions: &Rc<Questions>) -> Option<Waiting> {
        let waiting = questions.waiting.get();
        (waiting < WAITING).then(|| {
            questions.waiting.set(waiting + 1);
            Waiting(questions.clone())
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl Proxy {
    /// Listens for a pod's questions if there is something to answer, and not otherwise: without a listener nothing is
    /// redirected (bpf/dns.h). left: a predecessor's sockets, with the questions that wait in them.
    pub fn review_questions(self: &Rc<Self>, pod: &Rc<Pod>, mesh: &Mesh, left: Vec<std::net::UdpSocket>) {
        let needed = self.servers.is_some() && mesh.has_virtual_hosts(&pod.key.namespace) && pod.is_accepting();
        let mut answering = pod.answering.borrow_mut();
        if !needed {
            return answering.drain(..).for_each(|(_, task)| task.abort());
        }
        let sockets = match left.is_empty() && answering.is_empty() {
            true => pod.netns.enter(|| datagrams::listen(DNS_PORT)).map(|socket| vec![socket]),
            false => Ok(left),
        };
        let Ok(sockets) = sockets else { return self.thread.telemetry.accept_failed() }; // its servers answer
        for socket in sockets.into_iter().filter_map(|socket| UdpSocket::from_std(socket).ok().map(Rc::new)) {
            let questions = Rc::new(Questions { socket: socket.clone(), waiting: Cell::new(0) });
            let task = spawn_local(answer(self.clone(), pod.clone(), questions));
            answering.push((socket, task));
        }
    }

    /// Has what waits in a pod's sockets, and arrives there, answered by our successor: only now, for a socket that nobody reads
    /// would take questions from the servers that were asked.
    pub fn leave_questions(&self, pod: &Pod) {
        for (socket, _) in &*pod.answering.borrow() {
            let _ = self.shared.listeners.keep((pod.netns.inode(), DNS_PORT), &**socket);
            // its servers answer
        }
    }

    /// Answers questions over TCP, until one is asked that the mesh does not answer: it stays in the socket. Gives whether the
    /// connection is to go on to the server that was asked.
    pub async fn answer_stream(&self, pod: &Pod, app: &TcpStream) -> bool {
        let mut answered = false;
        while let Ok(Some(question)) = self.thread.clock.timeout(QUESTION, question(app)).await {
            let Some(answer) = self.answer(pod, &question, true) else { return true };
            answered = true;
            let whole = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
            if take(app, 2 + question.len()).is_err() || write(app, &whole).await.is_err() {
                return false;
            }
        }
        !answered
    }

    /// Whether a connection may ask for what the mesh answers.
    pub fn may_ask(&self, pod: &Pod, to: OriginalDst) -> bool {
        to.port() == DOMAIN_PORT && !pod.answering.borrow().is_empty() && !to.is_loopback()
    }

    fn answer(&self, pod: &Pod, question: &[u8], stream: bool) -> Option<Vec<u8>> {
        let mesh = self.shared.mesh.load();
        let answer = dns::answer(&mesh, mesh.local(&pod.key)?, question, stream)?;
        self.thread.telemetry.lookup(Lookup::Answered);
        Some(answer)
    }
}

async fn answer(proxy: Rc<Proxy>, pod: Rc<Pod>, questions: Rc<Questions>) {
    let Some(servers) = &proxy.servers else { return };
    loop {
        let receive = || datagrams::receive(&questions.socket, &mut servers.buffer.borrow_mut());
        let Ok(arrived) = questions.socket.async_io(Interest::READABLE, receive).await else {
            continue; // an error of an answer for which its client does not wait any more
        };
        let buffer = servers.buffer.borrow();
        let question = &buffer[..arrived.length];
        let Some(server) = servers.asked(&pod, arrived.at) else { continue };
        if let Some(answer) = proxy.answer(&pod, question, false) {
            let _ = datagrams::answer(&questions.socket, &answer, arrived.from, arrived.at); // a client may be gone
            continue;
        }
        match Waiting::new(&questions) {
            Some(waiting) => {
                let question = question.to_vec();
                spawn_local(pass_on(proxy.clone(), pod.clone(), question, server, arrived, waiting));
            }
            None => proxy.thread.telemetry.lookup(Lookup::Dropped),
        }
    }
}

/// Byte for byte, there and back.
async fn pass_on(
    proxy: Rc<Proxy>,
    pod: Rc<Pod>,
    question: Vec<u8>,
    server: SocketAddr,
    client: Arrived,
    waiting: Waiting,
) {
    let told = match ask(&proxy, &pod, &question, server).await {
        Ok(answer) => {
            let _ = datagrams::answer(&waiting.0.socket, &answer, client.from, client.at); // a client may be gone
            Lookup::PassedOn
        }
        Err(_) => Lookup::Unanswered,
    };
    proxy.thread.telemetry.lookup(told);
}

async fn ask(proxy: &Proxy, pod: &Pod, question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::from_std(pod.netns.enter(|| datagrams::connected(server))?)?;
    socket.send(question).await?;
    let Some(servers) = &proxy.servers else { return Err(ErrorKind::NotFound.into()) };
    let receive = || {
        let mut buffer = servers.buffer.borrow_mut();
        let (length, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
        Ok(buffer[..length].to_vec())
    };
    let answer = proxy.thread.clock.timeout(PATIENCE, socket.async_io(Interest::READABLE, receive)).await;
    answer.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// The next question over TCP (RFC 1035 section 4.2.2), without its length; it stays in the socket. None: there is none.
async fn question(app: &TcpStream) -> Option<Vec<u8>> {
    let mut seen = vec![0; 2 + LARGEST];
    let look = || {
        let (n, _) = rustix::net::recv(app, &mut seen[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        let length = usize::from(u16::from_be_bytes([seen[0], seen[1]]));
        match n {
            0 => Ok(None),
            n if n >= 2 + length && n >= 2 => Ok(Some(seen[2..2 + length].to_vec())),
            // Until there is more: of the same bytes the poller tells once.
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    };
    app.async_io(Interest::READABLE, look).await.ok().flatten()
}

/// Takes bytes that were looked at.
fn take(app: &TcpStream, length: usize) -> io::Result<()> {
    let mut seen = vec![0; length];
    let (n, _) = rustix::net::recv(app, &mut seen[..], RecvFlags::DONTWAIT)?;
    (n == length).then_some(()).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

async fn write(app: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        app.writable().await?;
        match app.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
