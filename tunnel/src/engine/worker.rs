//! One thread, one runtime: it owns its connections from accept to close. No lock, no channel, on the way of a byte.
use crate::base::Failure;
use crate::base::OriginalDst;
use crate::base::Refusal;
use crate::base::{Identity, Rng};
use crate::config::subscriptions::Subscriptions;
use crate::decision::{self, Needed, HBONE_PORT, INBOUND_PLAIN_PORT, OUTBOUND_PORT};
use crate::direct;
use crate::hbone::flusher::Flusher;
use crate::mesh::{Mesh, Workload};
use crate::node::pod::Pod;
use crate::pending;
use crate::policy::Admitted;
use crate::policy::{Admission, Attempt, Verdict};
use crate::proxy::caller::Caller;
use crate::proxy::{inbound, outbound};
use crate::sys::budget::Budget;
use crate::sys::panics::{self, spawn_vital};
use crate::sys::spin::Spin;
use crate::sys::timer::Clock;
use crate::sys::turns::Turns;
use crate::sys::waiters::Waiters;
use crate::sys::PodInfo;
use crate::telemetry::{ConnectionRecord, Telemetry, WorkerTelemetry};
use crate::tls::credentials::Credentials;
use crate::tls::revocation::Revocation;
use arc_swap::ArcSwap;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::{io, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_local;

/// Seconds for which a connection waits for the configuration or the certificate that it needs.
const CONFIGURATION_TIMEOUT: u64 = 5;

pub type CredentialsByIdentity = HashMap<Identity, Arc<Credentials>>;

/// What all workers share.
pub struct Shared {
    pub mesh: ArcSwap<Mesh>,
    pub credentials: ArcSwap<CredentialsByIdentity>,
    pub revocation: Arc<Revocation>,
    /// Where the mesh holds only what was asked for.
    pub subscriptions: Option<Subscriptions>,
    /// Where connections between pods of this node may go without the tunnel.
    pub direct: Option<direct::Handle>,
    /// Where connect() waits until the other end has answered.
    pub pending: Option<pending::Handle>,
    pub telemetry: Arc<Telemetry>,
    pub workers: Vec<WorkerHandle>,
    pub spin: Duration,
    pub budget: Arc<Budget>,
}

pub struct WorkerHandle {
    pub commands: UnboundedSender<Command>,
    /// Tunnels that peers have opened to this worker.
    tunnels: AtomicUsize,
}

impl Shared {
    /// The identities of this node whose own certificate is revoked.
    pub fn revoked(&self) -> HashSet<Identity> {
        let credentials = self.credentials.load();
        let revoked = credentials.iter().filter(|(_, credentials)| credentials.is_revoked());
        revoked.map(|(identity, _)| identity.clone()).collect()
    }
}

impl WorkerHandle {
    pub fn new(commands: UnboundedSender<Command>) -> Self {
        WorkerHandle { commands, tunnels: AtomicUsize::new(0) }
    }
}

/// A tunnel of a peer's, as a worker's load counts it.
struct Load {
    shared: Arc<Shared>,
    index: usize,
}

impl Load {
    fn new(worker: &Worker) -> Load {
        worker.shared.workers[worker.index].tunnels.fetch_add(1, Ordering::Relaxed);
        Load { shared: worker.shared.clone(), index: worker.index }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.workers[self.index].tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What others ask of a worker. It answers when it is done.
pub enum Command {
    Add(Arc<PodInfo>, mpsc::Sender<io::Result<()>>),
    /// With `drain`, what is open goes on to its end.
    Remove {
        uid: Arc<str>,
        drain: bool,
        done: mpsc::Sender<io::Result<()>>,
    },
    /// The mesh or the credentials are new.
    Changed,
    /// Other certificates are revoked.
    Revoked,
    /// A tunnel that another worker has accepted for this one.
    Tunnel(Arc<str>, std::net::TcpStream),
    /// An application of a pod that waits for an answer.
    Pending(Arc<str>, pending::Call),
    /// Calls back for each connection, with its record.
    Inspect(mpsc::Sender<Vec<String>>),
    /// The connections that policies have let in.
    Admitted(mpsc::Sender<Vec<Admitted>>),
    /// The workloads to which there are tunnels, by uid.
    Destinations(mpsc::Sender<Vec<Arc<str>>>),
    /// No new connections.
    Drain,
    /// How many connections there are.
    Count(mpsc::Sender<usize>),
    /// Ends all connections.
    Cut,
}

pub struct Worker {
    pub shared: Arc<Shared>,
    pub spin: Spin,
    pub clock: Clock,
    pub flusher: Flusher,
    pub turns: Turns,
    pub telemetry: WorkerTelemetry,
    pub rng: RefCell<Rng>,
    index: usize,
    pods: RefCell<HashMap<Arc<str>, Rc<Pod>>>,
    /// Those that have left the mesh, as long as they have connections.
    draining: RefCell<Vec<Rc<Pod>>>,
    /// For `Changed`.
    waiters: Waiters,
}

/// What the listeners of a pod are for.
#[derive(Clone, Copy)]
enum Role {
    Outbound,
    Plain,
    Tunnel,
}

/// A worker's thread. Ends when the core is gone.
pub fn run(shared: Arc<Shared>, index: usize, mut commands: UnboundedReceiver<Command>) -> io::Result<()> {
    let _vital = panics::vital();
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Worker::new(shared, index)?;
        let ticking = worker.clone();
        spawn_vital(async move { ticking.clock.run().await });
        let flushing = worker.clone();
        spawn_vital(async move { flushing.flusher.run().await });
        let calling = worker.clone();
        spawn_vital(async move { calling.turns.run().await });
        // A task, not this future: waking the runtime's main future costs a write to an eventfd each time.
        let spinning = worker.clone();
        spawn_vital(async move { spinning.spin.run(spinning.shared.spin).await });
        while let Some(command) = commands.recv().await {
            worker.obey(command);
        }
        Ok(())
    })
}

impl Worker {
    /// To be called inside its runtime.
    fn new(shared: Arc<Shared>, index: usize) -> io::Result<Rc<Worker>> {
        Ok(Rc::new(Worker {
            spin: Spin::default(),
            clock: Clock::new()?,
            flusher: Flusher::default(),
            turns: Turns::default(),
            telemetry: shared.telemetry.worker(),
            rng: RefCell::new(Rng::from_entropy()),
            shared,
            index,
            pods: RefCell::default(),
            draining: RefCell::default(),
            waiters: Waiters::default(),
        }))
    }

    fn obey(self: &Rc<Self>, command: Command) {
        // Whoever asked may be gone; then nobody is interested in the answer.
        match command {
            Command::Add(info, done) => drop(done.send(self.add(info))),
            Command::Remove { uid, drain, done } => {
                let pod = self.pods.borrow_mut().remove(&uid);
                match pod {
                    Some(pod) if drain => drop(spawn_local(self.clone().drain(pod))),
                    Some(pod) => pod.close(Refusal::WorkloadGone),
                    None => {}
                }
                drop(done.send(Ok(())));
            }
            Command::Changed => self.change(),
            Command::Revoked => {
                for pod in self.all_pods() {
                    pod.pool.forget_failures();
                    pod.review_peers();
                }
            }
            Command::Tunnel(uid, sock) => {
                let pod = self.pods.borrow().get(&uid).cloned();
                if let (Some(pod), Ok(sock)) = (pod, TcpStream::from_std(sock)) {
                    self.serve_tunnel(&pod, sock);
                }
            }
            Command::Pending(uid, call) => {
                if let Some(pod) = self.pods.borrow().get(&uid) {
                    self.serve(pod, outbound::serve(self.clone(), pod.clone(), Caller::Pending(call)));
                }
            }
            Command::Inspect(answer) => {
                let live = self.all_pods().iter().flat_map(|pod| pod.live()).collect::<Vec<_>>();
                let records = live.iter().filter_map(|connection| connection.record().map(|r| r.to_json()));
                drop(answer.send(records.collect()));
            }
            Command::Admitted(answer) => {
                let admitted = self.all_pods().iter().flat_map(|pod| pod.admitted()).collect();
                drop(answer.send(admitted));
            }
            Command::Destinations(answer) => {
                let pods = self.pods.borrow();
                let _ = answer.send(pods.values().flat_map(|pod| pod.pool.destinations()).collect());
            }
            Command::Drain => self.all_pods().iter().for_each(|pod| pod.drain()),
            Command::Count(answer) => {
                let _ = answer.send(self.all_pods().iter().map(|pod| pod.live().len()).sum());
            }
            Command::Cut => self.all_pods().iter().for_each(|pod| pod.close(Refusal::Drained)),
        }
    }

    fn add(self: &Rc<Self>, info: Arc<PodInfo>) -> io::Result<()> {
        let roles = [(OUTBOUND_PORT, Role::Outbound), (INBOUND_PLAIN_PORT, Role::Plain), (HBONE_PORT, Role::Tunnel)];
        let listen = |(port, role)| {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("listening on port {port} of {info}: {e}"));
            let listener = info.netns.listen(port).and_then(TcpListener::from_std).map_err(named)?;
            Ok((listener, role))
        };
        let listeners = roles.into_iter().map(listen).collect::<io::Result<Vec<_>>>()?;
        let pod = Pod::new(info);
        pod.review(&self.shared.mesh.load());
        for (listener, role) in listeners {
            let task = spawn_vital(self.clone().accept(pod.clone(), listener, role));
            pod.accepting.borrow_mut().push(task.abort_handle());
        }
        if let Some(before) = self.pods.borrow_mut().insert(pod.uid.clone(), pod) {
            before.close(Refusal::WorkloadGone);
        }
        Ok(())
    }

    /// Serves a pod that leaves the mesh until its connections have ended, or its namespace has no network any more.
    async fn drain(self: Rc<Self>, pod: Rc<Pod>) {
        self.draining.borrow_mut().push(pod.clone());
        pod.end_tunnels();
        self.clock.sleep(0).await; // what was redirected before may still wait for accept
        pod.drain();
        while pod.is_busy() && pod.netns.has_network() {
            self.clock.sleep(0).await;
        }
        pod.close(Refusal::WorkloadGone);
        self.draining.borrow_mut().retain(|draining| !Rc::ptr_eq(draining, &pod));
    }

    /// Those that drain as well.
    fn all_pods(&self) -> Vec<Rc<Pod>> {
        self.pods.borrow().values().chain(self.draining.borrow().iter()).cloned().collect()
    }

    async fn accept(self: Rc<Self>, pod: Rc<Pod>, listener: TcpListener, role: Role) {
        loop {
            let Ok((sock, client)) = listener.accept().await else {
                // Out of descriptors, most likely. The connection waits in the kernel.
                self.telemetry.accept_failed();
                self.clock.sleep(0).await;
                continue;
            };
            match role {
                Role::Outbound => {
                    let caller = Caller::Connected(sock, client);
                    self.serve(&pod, outbound::serve(self.clone(), pod.clone(), caller));
                }
                Role::Plain => self.serve(&pod, inbound::serve_plain(self.clone(), pod.clone(), sock, client)),
                Role::Tunnel => self.place(&pod, sock),
            }
        }
    }

    /// A connection, from accept to close.
    fn serve(&self, pod: &Rc<Pod>, connection: impl Future<Output = ()> + 'static) {
        let serving = pod.serving();
        spawn_local(async move {
            let _serving = serving;
            connection.await;
        });
    }

    /// The kernel spreads tunnels by a hash, so that two of them may meet in one worker: the least loaded one takes it.
    fn place(self: &Rc<Self>, pod: &Rc<Pod>, sock: TcpStream) {
        let load = |worker: &WorkerHandle| worker.tunnels.load(Ordering::Relaxed);
        let least = self.shared.workers.iter().min_by_key(|worker| load(worker));
        match least {
            Some(other) if load(other) < load(&self.shared.workers[self.index]) => {
                if let Ok(sock) = sock.into_std() {
                    drop(other.commands.send(Command::Tunnel(pod.uid.clone(), sock)));
                }
            }
            _ => self.serve_tunnel(pod, sock),
        }
    }

    fn serve_tunnel(self: &Rc<Self>, pod: &Rc<Pod>, sock: TcpStream) {
        let (worker, pod) = (self.clone(), pod.clone());
        let load = Load::new(&worker);
        spawn_local(async move {
            let _load = load;
            inbound::serve_tunnel(&worker, &pod, sock).await;
        });
    }

    fn change(&self) {
        self.waiters.wake();
        let mesh = self.shared.mesh.load();
        for pod in self.all_pods() {
            pod.pool.prune(&mesh);
            pod.pool.forget_failures();
            pod.review(&mesh);
        }
    }

    /// What `find` finds, now or after a change of the configuration within a few seconds.
    async fn wait_for<T>(&self, find: impl Fn() -> Option<T>) -> Option<T> {
        if let Some(found) = find() {
            return Some(found);
        }
        let found = self.waiters.find(find);
        self.clock.timeout(CONFIGURATION_TIMEOUT, found).await.ok()
    }

    /// The workload that a pod is. A pod may speak before the mesh has told of it.
    pub async fn workload(&self, pod: &Pod) -> Option<Arc<Workload>> {
        let find = || self.shared.mesh.load().local(&pod.key).cloned();
        self.wait_for(find).await
    }

    /// Where the mesh holds only what was asked for: asks for what a connection needs, and waits until it is known, or
    /// known not to be, or the control plane takes too long.
    pub async fn acquaint(&self, source: &Workload, dst: OriginalDst) {
        let Some(subscriptions) = &self.shared.subscriptions else { return };
        let answered = |needed: &Needed| subscriptions.want(&needed.name) || needed.known;
        let all_answered = || {
            let needed = decision::needed(&self.shared.mesh.load(), source, dst);
            // All of them are asked for at once.
            (needed.iter().filter(|needed| !answered(needed)).count() == 0).then_some(())
        };
        self.wait_for(all_answered).await;
    }

    /// Asks for the workload of a peer, for the next record of it: what a peer may is decided by what it has proven.
    pub fn meet(&self, pod: &Pod, peer: IpAddr) {
        if let (Some(subscriptions), Some(local)) =
            (&self.shared.subscriptions, self.shared.mesh.load().local(&pod.key))
        {
            subscriptions.want(&decision::address_name(&local.network, peer));
        }
    }

    /// Lets in what policies allow, at once or when those that are missing have arrived.
    pub async fn admit(&self, pod: &Pod, attempt: Attempt, record: &ConnectionRecord) -> Result<Admission, Failure> {
        let judge = || {
            let guard = self.shared.mesh.load().guard(&pod.key)?.clone();
            Some((guard.judge(&attempt), guard))
        };
        let decided = || judge().filter(|(judgement, _)| !matches!(judgement.verdict, Verdict::Undecided(_)));
        let (judgement, guard) = self
            .wait_for(decided)
            .await
            .or_else(judge)
            .ok_or_else(|| Failure { refusal: Refusal::UnknownWorkload, detail: String::new() })?;
        record.judged(&judgement);
        judgement.outcome().map(|()| Admission { attempt, guard })
    }

    /// Whether connections of this client to a pod may come that are not in a tunnel.
    pub fn may_be_direct(&self, mesh: &Mesh, local: &Workload, client: IpAddr) -> bool {
        let near = |client: &Arc<Workload>| client.node == local.node;
        self.shared.direct.is_some() && mesh.workload_at(&local.network, client.to_canonical()).is_some_and(near)
    }

    /// A connection of a pod was let in at the other end: further ones to there may not need the tunnel.
    pub fn offer_direct(&self, pod: &Pod, source: &Workload, to: OriginalDst, destination: &Workload) {
        let Some(direct) = &self.shared.direct else { return };
        let is_near = destination.node == source.node;
        if is_near && decision::direct(&self.shared.mesh.load(), source, to).is_some() {
            direct.tell(direct::Command::Offer(pod.info().clone(), to));
        }
    }

    /// Whether the far end has answered a pod's connection: if so, the next connect() to there need not wait for it.
    pub fn answered(&self, pod: &Pod, to: OriginalDst, accepted: bool) {
        match &self.shared.pending {
            Some(pending) if accepted => pending.remember(pod, to),
            Some(pending) => pending.forget(pod, to),
            None => {}
        }
    }

    pub fn credentials(&self, identity: &Identity) -> Option<Arc<Credentials>> {
        self.shared.credentials.load().get(identity).cloned()
    }

    /// As `credentials`, but waits for a certificate that is under way.
    pub async fn credentials_soon(&self, identity: &Identity) -> Option<Arc<Credentials>> {
        self.wait_for(|| self.credentials(identity)).await
    }
}

#[cfg(test)]
pub mod testing;
