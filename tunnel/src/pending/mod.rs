//! connect() calls that wait until the other end has answered (bpf/pending.h): the kernel tells of each, a worker finds the
//! answer. One thread takes what is told, for all pods of the node; of several tunnels on a node only one does so.
mod call;
mod segment;

pub use call::Call;
pub use segment::Unreachable;

use crate::base::{log_error, OriginalDst, Rng};
use crate::decision::{self, Outbound, PENDING_PORT};
use crate::node::Shared;
use crate::sys::bpf::{self, Map, Places, Ring};
use crate::sys::layout::{Endpoint, Pair, PendingEvent, Source, PENDING_BEGINS};
use crate::sys::listeners::Listeners;
use crate::sys::panics::{self, spawn_vital};
use crate::sys::timer::Clock;
use crate::sys::PodInfo;
use arc_swap::ArcSwapOption;
use rustix::fs::{flock, FlockOperation};
use segment::Syn;
use socket2::Socket;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::{mpsc, Arc};
use std::{io, thread};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// Seconds between two looks at whether the agent has other maps, or another tunnel has left us the calls.
const LOOK: u64 = 1;
/// Calls that are over are forgotten when there are so many, or twice as many as there were then.
const FEW: usize = 64;

/// What others ask of the thread.
pub enum Command {
    Add(Arc<PodInfo>),
    Remove(Arc<str>),
    /// The mesh is new.
    Changed,
    /// Take the calls, as soon as no other tunnel does.
    Serve(mpsc::Sender<()>),
    /// No new calls: they are another tunnel's.
    Drain(mpsc::Sender<()>),
}

/// What others have of it.
pub struct Handle {
    commands: UnboundedSender<Command>,
    /// Destinations to which connect() succeeds at once, and when they were used last.
    answering: ArcSwapOption<Map<Pair, u64>>,
}

impl Handle {
    pub fn new(commands: UnboundedSender<Command>) -> Handle {
        Handle { commands, answering: ArcSwapOption::empty() }
    }

    pub fn send(&self, command: Command) {
        drop(self.commands.send(command)); // fails only when the thread has ended, with the process
    }

    /// A pod's connect() to there was answered.
    pub fn remember(&self, pod: &PodInfo, to: OriginalDst) {
        self.change(pod, to, |answering, pair| answering.put(pair, &now()));
    }

    /// One was not: the next has to wait.
    pub fn forget(&self, pod: &PodInfo, to: OriginalDst) {
        self.change(pod, to, Map::delete);
    }

    /// An error costs a wait, or the truth about one connection: less than the connection.
    fn change(&self, pod: &PodInfo, to: OriginalDst, change: impl FnOnce(&Map<Pair, u64>, &Pair) -> io::Result<()>) {
        if let (Some(answering), Ok(netns)) = (&*self.answering.load(), pod.netns.cookie()) {
            let _ = change(answering, &Pair::new(netns, to.address()));
        }
    }
}

/// Nanoseconds since the machine started, as the kernel's programs count them.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What the agent has pinned.
struct Kernel {
    ids: [Option<u32>; 3],
    /// Where those want to go whose connection is not there yet.
    original: Map<Source, Endpoint>,
    ring: AsyncFd<Ring>,
    /// Held by the one that takes the calls; the others wait for it to end.
    lock: File,
}

impl Kernel {
    fn open(places: &Places) -> io::Result<Kernel> {
        let ring = Ring::open(&places.pins.join("maps/pending"))?;
        // SAFETY: the ring owns its descriptor, so it stays open and the same for as long as it is registered.
        let ring = unsafe { AsyncFd::register(ring)? };
        let original = Map::open(&places.pins.join("maps/original"))?;
        Ok(Kernel { ids: ids(places), original, ring, lock: File::create(&places.lock)? })
    }

    /// Whether this is still to be answered: it may have been told twice, and answered in between.
    fn waits(&self, event: &PendingEvent) -> bool {
        let source = Source { netns: event.netns, from: event.from, at: event.at };
        self.original.get(&source).is_ok_and(|to| to == Some(event.to))
    }

    /// The calls are another tunnel's from now on.
    fn release(&self) {
        let _ = flock(&self.lock, FlockOperation::Unlock); // of a lock that is not ours nothing is lost
    }

    fn claim(&self) -> bool {
        flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

/// Of the maps that are pinned now.
fn ids(places: &Places) -> [Option<u32>; 3] {
    let id = |name| bpf::pinned(&places.pins.join(name)).and_then(|fd| bpf::info(fd.as_fd())).ok().map(|info| info.id);
    ["maps/pending", "maps/answering", "maps/original"].map(id)
}

/// A pod whose applications wait here. While it has a listener, the kernel has them wait.
struct Room {
    pod: Arc<PodInfo>,
    listener: Vec<Socket>,
}

#[derive(Default)]
struct State {
    /// By netns cookie.
    rooms: HashMap<u64, Room>,
    /// Who waits, by the cookie of the application's socket: it ends with the call.
    waiting: HashMap<u64, oneshot::Sender<()>>,
    few: usize,
    calls: usize,
    /// The mesh has changed since the last look.
    changed: bool,
    /// Whether the calls may be ours.
    serving: bool,
}

/// The thread's own.
struct Pending {
    places: Places,
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    to_worker: Box<ToWorker>,
    state: RefCell<State>,
    kernel: RefCell<Option<Rc<Kernel>>>,
    /// What takes the calls, where we are the one.
    listening: RefCell<Option<AbortHandle>>,
}

/// Gives a worker a call of the pod with this uid; by the call's number.
type ToWorker = dyn Fn(usize, Arc<str>, Call) + Send;

/// Starts the thread.
pub fn start(
    places: Places,
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    commands: UnboundedReceiver<Command>,
    to_worker: impl Fn(usize, Arc<str>, Call) + Send + 'static,
) -> io::Result<()> {
    let to_worker = Box::new(to_worker);
    thread::Builder::new().name("warren-pending".into()).spawn(move || {
        let pending = Pending {
            places,
            shared,
            handle,
            to_worker,
            state: RefCell::default(),
            kernel: RefCell::default(),
            listening: RefCell::default(),
        };
        if let Err(error) = run(Rc::new(pending), commands) {
            // With us the kernel's listeners go: who connects is refused until there is another tunnel.
            log_error("connect", &format!("cannot answer pending connections: {error}"));
            std::process::abort();
        }
    })?;
    Ok(())
}

fn run(pending: Rc<Pending>, mut commands: UnboundedReceiver<Command>) -> io::Result<()> {
    let _vital = panics::vital();
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let clock = Rc::new(Clock::new()?);
        let ticking = clock.clone();
        spawn_vital(async move { ticking.run().await });
        let looking = pending.clone();
        spawn_vital(async move {
            loop {
                clock.sleep(LOOK).await;
                looking.look_around();
            }
        });
        while let Some(command) = commands.recv().await {
            pending.handle(command);
        }
        Ok(())
    })
}

impl Pending {
    fn handle(self: &Rc<Self>, command: Command) {
        match command {
            Command::Add(pod) => self.add(pod),
            Command::Remove(uid) => self.state.borrow_mut().rooms.retain(|_, room| room.pod.uid != uid),
            Command::Changed => self.state.borrow_mut().changed = true,
            Command::Serve(done) => {
                self.state.borrow_mut().serving = true;
                self.look_around();
                let _ = done.send(()); // whoever asked may be gone
            }
            Command::Drain(done) => {
                self.state.borrow_mut().serving = false;
                self.close();
                let _ = done.send(());
            }
        }
    }

    fn add(self: &Rc<Self>, pod: Arc<PodInfo>) {
        match pod.netns.cookie() {
            Ok(netns) => {
                self.state.borrow_mut().rooms.insert(netns, Room { pod, listener: Vec::new() });
                self.look_around();
            }
            Err(error) => log_error("connect", &format!("pod {pod}: connect() waits for no answer: {error}")),
        }
    }

    /// Comes by what is lacking: the agent's maps, the right to take the calls, listeners.
    fn look_around(self: &Rc<Self>) {
        if !self.state.borrow().serving {
            return;
        }
        let is_current = |kernel: &Rc<Kernel>| kernel.ids == ids(&self.places);
        if !self.kernel.borrow().as_ref().is_some_and(is_current) {
            self.open();
        }
        if self.listening.borrow().is_none() {
            self.claim();
        }
        if self.kernel.borrow().is_some() {
            // Before the calls are ours, too: should the tunnel that has them be killed, nobody who waits is refused.
            self.state.borrow_mut().listen(&self.shared.listeners);
        }
        if self.listening.borrow().is_some() {
            self.review();
        }
    }

    fn open(&self) {
        self.close();
        let answering = Map::open(&self.places.pins.join("maps/answering"));
        // Without them, an agent that has not pinned them yet or never will, connect() waits for nothing.
        if let (Ok(kernel), Ok(answering)) = (Kernel::open(&self.places), answering) {
            *self.kernel.borrow_mut() = Some(Rc::new(kernel));
            self.tell_answering(Some(answering));
        }
    }

    fn close(&self) {
        self.state.borrow_mut().rooms.values_mut().for_each(|room| room.listener.clear());
        if let Some(listening) = self.listening.borrow_mut().take() {
            listening.abort();
        }
        if let Some(kernel) = self.kernel.borrow_mut().take() {
            kernel.release(); // what listened may hold it a little longer
        }
        self.tell_answering(None);
    }

    fn tell_answering(&self, answering: Option<Map<Pair, u64>>) {
        self.handle.answering.store(answering.map(Arc::new));
    }

    /// Takes the calls from now on, if no other tunnel does.
    fn claim(self: &Rc<Self>) {
        let Some(kernel) = self.kernel.borrow().clone().filter(|kernel| kernel.claim()) else { return };
        let pending = self.clone();
        let task = spawn_vital(async move {
            loop {
                kernel.ring.get_ref().consume(|record| {
                    if let Some(event) = bpf::read(record) {
                        pending.take(&kernel, &event);
                    }
                });
                let Ok(mut ready) = kernel.ring.readable().await else { return };
                ready.clear_ready();
            }
        });
        *self.listening.borrow_mut() = Some(task.abort_handle());
    }

    fn take(&self, kernel: &Kernel, event: &PendingEvent) {
        let state = &mut *self.state.borrow_mut();
        if event.kind != PENDING_BEGINS {
            state.waiting.remove(&event.socket);
            return;
        }
        let is_known = state.waiting.get(&event.socket).is_some_and(|call| !call.is_closed());
        let Some(room) = state.rooms.get(&event.netns).filter(|_| !is_known && kernel.waits(event)) else { return };
        let (waiting, over) = oneshot::channel();
        let syn = Syn { from: event.from.into(), at: event.at.into(), sequence: event.sequence };
        state.calls += 1;
        let call = Call { syn, wanted: OriginalDst::new(event.to.into()), over };
        (self.to_worker)(state.calls, room.pod.uid.clone(), call);
        state.wait(event.socket, waiting);
    }

    /// What is refused by now is not known to answer.
    fn review(&self) {
        let Some(answering) = self.handle.answering.load_full() else { return };
        if !std::mem::take(&mut self.state.borrow_mut().changed) {
            return;
        }
        let mesh = self.shared.mesh.load();
        let rooms = &self.state.borrow().rooms;
        let mut rng = Rng::from_entropy();
        let mut is_refused = |pair: &Pair| {
            let source = rooms.get(&pair.netns).and_then(|room| mesh.local(&room.pod.key));
            let to = OriginalDst::new(SocketAddr::from(pair.to));
            !source
                .is_some_and(|source| !matches!(decision::outbound(&mesh, source, to, &mut rng), Outbound::Refuse(_)))
        };
        for pair in answering.keys().unwrap_or_default().iter().filter(|pair| is_refused(pair)) {
            let _ = answering.delete(pair); // the next failure does it, too
        }
    }
}

impl State {
    fn listen(&mut self, listeners: &Listeners) {
        for Room { pod, listener } in self.rooms.values_mut().filter(|room| room.listener.is_empty()) {
            let place = (pod.netns.inode(), PENDING_PORT);
            let make = |left: &[Socket]| (left.len()..1).map(|_| pod.netns.listen_deaf(PENDING_PORT)).collect();
            match listeners.at(place, make) {
                Ok(sockets) => *listener = sockets,
                Err(error) => eprintln!(
                    "warren: pod {}: connect() succeeds before the other end has answered: port {PENDING_PORT}: {error}",
                    pod.uid
                ),
            }
        }
    }

    fn wait(&mut self, socket: u64, call: oneshot::Sender<()>) {
        self.waiting.insert(socket, call);
        if self.waiting.len() >= self.few.max(FEW) {
            self.waiting.retain(|_, call| !call.is_closed());
            self.few = self.waiting.len() * 2;
        }
    }
}
