//! The composition of the byte path: workers, what they share, and what is asked of them. Knows nothing of Python.
mod authorization;
mod command;
mod configuration;
mod credentials;
pub mod dump;
mod exhaustion;
mod exports;
mod gateway;
mod listening;
mod question;
mod routing;
mod why;
mod worker;

use crate::base::{log_error, Identity, PodKey};
use crate::config::subscriptions::Subscriptions;
use crate::config::unknown_keys::UnknownKeys;
use crate::mesh::Mesh;
use crate::node::{Lookups, Shared};
use crate::sys::bpf::Places;
use crate::sys::budget::Budget;
use crate::sys::listeners::Listeners;
use crate::sys::netns::{NetNs, Raw};
use crate::sys::{heap, panics, PodInfo};
use crate::telemetry::{Options, Telemetry, Which};
use crate::tls;
use crate::tls::credentials::Key;
use crate::tls::revocation::Revocation;
use crate::{direct, http, pending};
use arc_swap::ArcSwap;
use command::Command;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};
use tokio::sync::mpsc::unbounded_channel;
use worker::{Plan, WorkerHandle, Workers};

pub use configuration::Applied;
use configuration::Newest;
pub use question::{Question, RequestQuestion};
pub use routing::RouteQuestion;
pub use why::WhyQuestion;

/// Between two looks at whether a drain is over.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

pub struct Settings {
    pub node: String,
    /// Threads that carry bytes, at least 1.
    pub workers: usize,
    /// For how long a thread looks for more work before it sleeps.
    pub spin: Duration,
    pub telemetry: Options,
    /// The mesh holds only what was asked for; this is the cluster's id, by which our own pods are known.
    pub on_demand: Option<String>,
    /// Where connections between pods of this node may go without the tunnel.
    pub direct: Option<Places>,
    /// Where connect() waits until the other end has answered.
    pub pending: Option<Places>,
    /// Where the agent's maps are, if pods' questions for names are to be answered.
    pub dns: Option<PathBuf>,
    /// Nobody is believed before there are revocation lists, or it is known that there are none.
    pub crl: bool,
    pub http: http::Settings,
    /// Somebody keeps the listeners of pods for a successor (`Core::listeners`).
    pub kept: bool,
    /// Listens nowhere before `Core::serve`.
    pub standby: bool,
}

pub struct Core {
    http: http::Settings,
    shared: Arc<Shared>,
    workers: Workers,
    direct: Option<direct::Handle>,
    pending: Option<Arc<pending::Handle>>,
    /// Keys whose certificates are under way.
    keys: Mutex<HashMap<Identity, Key>>,
    pods: Mutex<HashMap<String, Arc<PodInfo>>>,
    newest: Mutex<Newest>,
    /// Whether it listens in its pods.
    serving: AtomicBool,
    cluster: String,
    /// This one's name.
    node: String,
}

/// A pod to carry connections for.
pub struct NewPod {
    pub uid: String,
    pub netns: OwnedFd,
    pub key: PodKey,
    pub trust_domain: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// Starts the workers.
    pub fn new(settings: Settings) -> io::Result<Self> {
        panics::watch();
        tls::seed();
        raise_descriptor_limit();
        heap::grow_in_large_steps();
        let (handles, receivers): (Vec<_>, Vec<_>) = (0..settings.workers.max(1))
            .map(|_| unbounded_channel())
            .map(|(commands, receiver)| (WorkerHandle::new(commands), receiver))
            .unzip();
        let mesh = Mesh::new(&settings.node);
        let (offers, offered) = unbounded_channel();
        let (calls, called) = unbounded_channel();
        let shared = Arc::new(Shared {
            mesh: ArcSwap::from_pointee(mesh.clone()),
            credentials: ArcSwap::default(),
            revocation: Revocation::new(settings.crl),
            telemetry: Telemetry::new(settings.telemetry)?,
            budget: Budget::process(),
            listeners: Listeners::new(settings.kept),
            limits: Default::default(),
            lookups: Lookups::new()?,
            unknown_keys: UnknownKeys::new()?,
            subscriptions: settings.on_demand.as_ref().map(|_| Subscriptions::new()).transpose()?,
        });
        let plan = Plan {
            shared: shared.clone(),
            workers: handles.into(),
            spin: settings.spin,
            direct: settings.direct.is_some().then(|| direct::Handle::new(offers)),
            dns: settings.dns,
            pending: settings.pending.is_some().then(|| Arc::new(pending::Handle::new(calls))),
            http: settings.http,
        };
        for (index, receiver) in receivers.into_iter().enumerate() {
            let plan = plan.clone();
            thread::Builder::new().name(format!("warren-{index}")).spawn(move || {
                if let Err(error) = worker::run(plan, index, receiver) {
                    // Half a tunnel would let connections hang: better none, and a restart.
                    log_error("worker", &format!("worker {index} cannot run: {error}"));
                    std::process::abort();
                }
            })?;
        }
        let Plan { workers, direct, pending, .. } = plan;
        if let Some(places) = settings.direct {
            direct::start(places, shared.clone(), offered)?;
        }
        if let (Some(places), Some(handle)) = (settings.pending, &pending) {
            let workers = workers.clone();
            // By turns, as the kernel spreads what it lets through.
            let to_worker = move |number: usize, uid, call| {
                let worker = &workers[number % workers.len()];
                drop(worker.commands.send(Command::Pending(uid, call)));
            };
            pending::start(places, shared.clone(), handle.clone(), called, to_worker)?;
        }
        let core = Core {
            http: settings.http,
            shared,
            workers,
            direct,
            pending,
            keys: Mutex::default(),
            pods: Mutex::default(),
            newest: Mutex::new(Newest { mesh, ..Newest::default() }),
            serving: AtomicBool::new(false),
            cluster: settings.on_demand.unwrap_or_default(),
            node: settings.node,
        };
        if !settings.standby {
            core.serve(Vec::new());
        }
        Ok(core)
    }

    /// Listens inside a pod. Errors: a port that is taken, a namespace that is gone; then nothing is left of it.
    pub fn add_pod(&self, pod: NewPod) -> io::Result<()> {
        let info = Arc::new(self.info(pod));
        let listeners = if self.serving.load(Ordering::Relaxed) { self.listen(&info)? } else { Vec::new() };
        self.ask_all(|done| Command::Add(info.clone(), done))?;
        self.accept(&info, listeners);
        self.tell_direct(|| direct::Command::Add(info.clone()));
        self.tell_pending(|| pending::Command::Add(info.clone()));
        lock(&self.pods).insert(info.uid.to_string(), info);
        self.want_own();
        Ok(())
    }

    /// Serves the pod that this process is: it listens where its Gateways say, on whichever ports can be had.
    pub fn add_gateway(&self, pod: NewPod) {
        let info = Arc::new(self.info(pod));
        // Workers answer this with Ok, or are gone together with the process.
        drop(self.ask_all(|done| Command::AddGateway(info.clone(), done)));
        lock(&self.pods).insert(info.uid.to_string(), info);
        self.want_own();
    }

    fn info(&self, pod: NewPod) -> PodInfo {
        let identity = Identity {
            trust_domain: pod.trust_domain.into(),
            namespace: pod.key.namespace.clone(),
            service_account: pod.key.service_account.clone(),
        };
        let (netns, budget) = (NetNs::new(pod.netns), Budget::pod(&self.shared.budget));
        let (raw, plain) = (Raw::default(), Arc::default());
        PodInfo { uid: pod.uid.into(), key: pod.key, identity, netns, raw, budget, plain }
    }

    /// Listens no more in a pod. Ends its connections at once, or with `drain` lets them go on to their ends.
    pub fn remove_pod(&self, uid: &str, drain: bool) {
        lock(&self.pods).remove(uid);
        let uid: Arc<str> = uid.into();
        self.tell_pending(|| pending::Command::Remove(uid.clone()));
        self.ask_direct(|done| direct::Command::Remove { uid: uid.clone(), drain, done });
        // Workers answer this with Ok, or are gone together with the process.
        drop(self.ask_all(|done| Command::Remove { uid: uid.clone(), drain, done }));
    }

    pub fn pods(&self) -> Vec<String> {
        lock(&self.pods).keys().cloned().collect()
    }

    /// All metrics. What nobody will ask for again is forgotten first.
    pub fn metrics(&self) -> String {
        self.ask_direct(direct::Command::Look);
        self.expire();
        self.shared.telemetry.encode()
    }

    /// Forgets what nobody will ask for again, and logs what was withheld. To be called about once a minute: there may be
    /// nobody who asks for metrics.
    pub fn expire(&self) {
        self.shared.telemetry.expire(&self.mesh());
    }

    pub fn mesh(&self) -> Arc<Mesh> {
        self.shared.mesh.load_full()
    }

    /// The records of all open connections, each as JSON.
    pub fn connections(&self) -> Vec<String> {
        let mut records = self.collect(Command::Inspect).concat();
        records.extend(self.ask_direct(direct::Command::Look));
        records
    }

    /// What has ended since a number, as JSON.
    pub fn recent(&self, after: u64) -> String {
        self.shared.telemetry.recent(after).to_string()
    }

    /// Which connections are logged; with `new`, from now on.
    pub fn access_log(&self, new: Option<Which>) -> Which {
        self.shared.telemetry.access_log(new)
    }

    /// Which pairs of pods need no tunnel, for a dump; null where all do.
    pub fn direct(&self) -> serde_json::Value {
        self.ask_direct(direct::Command::Describe)
    }

    /// What the thread for direct connections answers; nothing where there is none.
    fn ask_direct<T: Default>(&self, command: impl FnOnce(mpsc::Sender<T>) -> direct::Command) -> T {
        self.direct.as_ref().map(|direct| direct.ask(command)).unwrap_or_default()
    }

    fn tell_direct(&self, command: impl FnOnce() -> direct::Command) {
        if let Some(direct) = &self.direct {
            direct.send(command());
        }
    }

    fn tell_pending(&self, command: impl FnOnce() -> pending::Command) {
        if let Some(pending) = &self.pending {
            pending.send(command());
        }
    }

    /// No new connections; waits for those that are open, then cuts. Returns how many were cut.
    pub fn drain(&self, deadline: Duration) -> usize {
        self.ask_pending(pending::Command::Drain);
        self.tell_all(|| Command::Drain);
        let end = Instant::now() + deadline;
        loop {
            let open = self.open();
            if open == 0 || Instant::now() >= end {
                self.tell_all(|| Command::Cut);
                // The answer comes after the cut: what peers are told of it has been written then.
                self.collect(Command::Count);
                self.shared.telemetry.flush();
                return open;
            }
            thread::sleep(DRAIN_LOOK);
        }
    }

    /// Waits until the thread for pending connections has done so.
    fn ask_pending(&self, command: impl FnOnce(mpsc::Sender<()>) -> pending::Command) {
        let (answer, answers) = mpsc::channel();
        self.tell_pending(|| command(answer));
        let _ = answers.recv(); // fails where there is no such thread
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for worker in self.workers.iter() {
            drop(worker.commands.send(command())); // fails only when the worker has ended, with the process
        }
    }

    fn ask_all(&self, command: impl Fn(mpsc::Sender<io::Result<()>>) -> Command) -> io::Result<()> {
        self.collect(command).into_iter().collect()
    }

    fn collect<T>(&self, command: impl Fn(mpsc::Sender<T>) -> Command) -> Vec<T> {
        let (answer, answers) = mpsc::channel();
        self.tell_all(|| command(answer.clone()));
        drop(answer);
        answers.iter().collect()
    }
}

/// Each connection takes two descriptors; the soft limit is a relic of select().
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }); // the limit that there is will do
}
