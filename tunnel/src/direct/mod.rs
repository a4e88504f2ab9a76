//! Connections between pods of this node that need no tunnel: the kernel lets them go straight.
//!
//! A connection goes through the tunnel, and is allowed; `offer` says so here, and the pair is put into the kernel's map
//! (bpf/direct.h). Further connections of it never come to a worker. A change of the mesh is held against all pairs, and
//! what is no longer allowed is denied first and destroyed then, so that none slips through between. Where the kernel, the
//! agent or a privilege lacks something, there are no pairs, and everything goes through the tunnel.
//!
//! One thread does all of it: [`pairs`] who may, [`connections`] what is told of them, [`kernel`] where both are kept.
mod command;
mod connections;
mod kernel;
mod pairs;

pub use command::{Command, Handle};

use crate::base::{log_error, Failure, Identity, OriginalDst, Refusal, Rng};
use crate::mesh::Mesh;
use crate::node::Shared;
use crate::sys::bpf::Places;
use crate::sys::diag::Diag;
use crate::sys::layout::Pair;
use crate::sys::panics::{self, spawn_vital};
use crate::sys::timer::Clock;
use crate::sys::PodInfo;
use connections::{Connections, Surroundings};
use kernel::Kernel;
use pairs::{Pairs, Pods};
use serde_json::{json, Value};
use std::cell::{Ref, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::{io, time::Duration};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::AbortHandle;

/// The thread wakes up once for all that the kernel tells within this time.
const GATHERING: Duration = Duration::from_millis(5);
/// Seconds between two looks at whether the agent has other maps, or another tunnel has left us the events.
const LOOK: u64 = 4;

/// The thread's own.
struct Direct {
    places: Places,
    shared: Arc<Shared>,
    generation: u64,
    state: RefCell<State>,
    listening: RefCell<Option<AbortHandle>>,
}

struct State {
    /// Whether the pairs may be ours.
    serving: bool,
    kernel: Option<Rc<Kernel>>,
    /// Why there is none.
    lacks: String,
    pods: Pods,
    /// Those of them that have left the mesh, by cookie: known as long as they have connections.
    draining: HashSet<u64>,
    pairs: Pairs,
    connections: Connections,
    /// Against which all pairs were held.
    reviewed: Option<Arc<Mesh>>,
    /// Whose own certificate is revoked: the tunnel would refuse them as well.
    revoked: HashSet<Identity>,
}

/// Starts the thread.
pub fn start(places: Places, shared: Arc<Shared>, commands: UnboundedReceiver<Command>) -> io::Result<()> {
    thread::Builder::new().name("warren-direct".into()).spawn(move || {
        if let Err(error) = run(places, shared, commands) {
            log_error("direct", &format!("cannot watch direct connections: {error}; ending"));
            std::process::abort();
        }
    })?;
    Ok(())
}

fn run(places: Places, shared: Arc<Shared>, mut commands: UnboundedReceiver<Command>) -> io::Result<()> {
    let _vital = panics::vital();
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let state = State {
            serving: false,
            kernel: None,
            lacks: "no pod yet".into(),
            pods: Pods::default(),
            draining: HashSet::new(),
            pairs: Pairs::default(),
            connections: Connections::new(shared.telemetry.worker()),
            reviewed: None,
            revoked: HashSet::new(),
        };
        let direct = Rc::new(Direct {
            places,
            shared,
            generation: Rng::from_entropy().draw() | 1,
            state: RefCell::new(state),
            listening: RefCell::default(),
        });
        let clock = Rc::new(Clock::new()?);
        let ticking = clock.clone();
        spawn_vital(async move { ticking.run().await });
        let looking = direct.clone();
        spawn_vital(async move {
            loop {
                clock.sleep(LOOK).await;
                looking.look_around();
            }
        });
        while let Some(command) = commands.recv().await {
            direct.handle(command);
        }
        Ok(())
    })
}

impl Direct {
    fn handle(self: &Rc<Self>, command: Command) {
        // Whoever asked may be gone; then nobody is interested in the answer.
        match command {
            Command::Serve => {
                self.state.borrow_mut().serving = true;
                self.look_around();
            }
            Command::Retire(done) => {
                self.retire();
                let _ = done.send(());
            }
            Command::Add(pod) => self.add(&pod),
            Command::Remove { uid, drain, done } => {
                self.with(|state, mesh| if drain { state.drain(&uid) } else { state.remove(mesh, &uid) });
                let _ = done.send(());
            }
            Command::Offer(pod, to) => self.with(|state, mesh| state.offer(mesh, &pod, to)),
            Command::Changed => self.review(),
            Command::Revoked => self.review_revoked(),
            Command::Look(answer) => _ = answer.send(self.looked().connections.records()),
            Command::Admitted(answer) => {
                let State { connections, pairs, .. } = &*self.looked();
                let _ = answer.send(connections.admitted(pairs));
            }
            Command::Describe(answer) => _ = answer.send(self.state.borrow().describe()),
        }
    }

    /// The state, with all that the kernel knows of open connections.
    fn looked(&self) -> Ref<'_, State> {
        self.with(|state, mesh| state.reconcile(mesh, state.pairs.sources()));
        self.state.borrow()
    }

    fn with(&self, action: impl FnOnce(&mut State, &Mesh)) {
        action(&mut self.state.borrow_mut(), &self.shared.mesh.load());
    }

    fn add(self: &Rc<Self>, pod: &Arc<PodInfo>) {
        let cookie = match pod.netns.cookie() {
            Ok(cookie) => cookie,
            Err(error) => return log_error("direct", &format!("pod {pod}: no direct connections: {error}")),
        };
        self.with(|state, _| {
            state.draining.remove(&cookie);
            state.pods.insert(cookie, pod);
        });
        if self.state.borrow().kernel.is_none() {
            return self.open();
        }
        self.with(|state, mesh| state.reconcile(mesh, [cookie]));
    }

    /// The successor learns of the kernel what is connected.
    fn retire(&self) {
        let mut state = self.state.borrow_mut();
        state.serving = false;
        state.lacks = "a newer tunnel has taken over".into();
        if let Some(kernel) = state.kernel.take() {
            kernel.release(); // what listened may hold it a little longer
        }
        if let Some(listening) = self.listening.borrow_mut().take() {
            listening.abort();
        }
    }

    /// Opens what the agent has pinned, if it is there, and learns what is connected already.
    fn open(self: &Rc<Self>) {
        if !self.state.borrow().serving {
            return;
        }
        let opened = self.usable().and_then(|()| Kernel::open(&self.places, self.generation));
        let kernel = match opened {
            Ok(kernel) => Rc::new(kernel),
            Err(error) => {
                let lacks = error.to_string();
                let state = &mut self.state.borrow_mut();
                if state.lacks != lacks && error.kind() != io::ErrorKind::NotFound {
                    log_error(
                        "direct",
                        &format!("connections between pods of this node go through the tunnel: {lacks}"),
                    );
                }
                state.lacks = lacks;
                return;
            }
        };
        {
            let mut state = self.state.borrow_mut();
            state.pairs.start_anew();
            state.kernel = Some(kernel);
        }
        self.drain_events();
        self.review_anew();
    }

    /// Whether connections could be ended, should they have to be.
    fn usable(&self) -> io::Result<()> {
        let state = self.state.borrow();
        let pod = state.pods.all().next().ok_or(io::ErrorKind::NotFound)?;
        Diag::open(&pod.netns)?.can_destroy().map_err(|error| {
            let lacks = match error.kind() {
                io::ErrorKind::PermissionDenied => "CAP_NET_ADMIN is needed to end one".to_owned(),
                _ => format!("the kernel cannot end one (CONFIG_INET_DIAG_DESTROY): {error}"),
            };
            io::Error::new(error.kind(), lacks)
        })
    }

    /// Takes the events from now on, if no other tunnel does.
    fn drain_events(self: &Rc<Self>) {
        let Some(kernel) = self.state.borrow().kernel.clone() else { return };
        if kernel.is_ours() || !kernel.claim() {
            return;
        }
        self.with(|state, mesh| {
            let sources: Vec<u64> = state.pods.cookies().collect();
            state.reconcile(mesh, sources);
        });
        self.review_anew();
        let direct = self.clone();
        let task = spawn_vital(async move {
            while let Ok(mut ready) = kernel.ring.readable().await {
                ready.clear_ready();
                thread::sleep(GATHERING);
                direct.with(|state, mesh| state.drain_events(mesh));
            }
        });
        if let Some(former) = self.listening.borrow_mut().replace(task.abort_handle()) {
            former.abort();
        }
    }

    fn look_around(self: &Rc<Self>) {
        let kernel = self.state.borrow().kernel.clone();
        match kernel {
            Some(kernel) if !kernel.is_replaced() => {
                self.drain_events();
                // A pod may have come whose connections nobody could make sense of without it.
                self.review_anew();
                self.state.borrow_mut().forget_drained();
            }
            _ => self.open(),
        }
    }

    /// Although the mesh may be the same.
    fn review_anew(&self) {
        self.state.borrow_mut().reviewed = None;
        self.review();
    }

    fn review_revoked(&self) {
        let revoked = self.shared.revoked();
        if self.state.borrow().revoked != revoked {
            self.state.borrow_mut().revoked = revoked;
            self.review_anew();
        }
    }

    fn review(&self) {
        let mesh = self.shared.mesh.load_full();
        self.state.borrow_mut().review(mesh);
    }
}

impl State {
    /// With a kernel, and all that goes with it.
    fn on<T>(
        &mut self,
        mesh: &Mesh,
        action: impl FnOnce(&Kernel, &mut Connections, &mut Surroundings<'_>) -> T,
    ) -> Option<T> {
        let kernel = self.kernel.clone()?;
        let mut around = Surroundings { mesh, pods: &self.pods, pairs: &mut self.pairs };
        Some(action(&kernel, &mut self.connections, &mut around))
    }

    fn drain_events(&mut self, mesh: &Mesh) {
        self.on(mesh, |kernel, connections, around| connections.drain_events(around, kernel));
    }

    fn reconcile(&mut self, mesh: &Mesh, sources: impl IntoIterator<Item = u64>) {
        self.on(mesh, |kernel, connections, around| connections.reconcile(around, kernel, sources));
    }

    fn offer(&mut self, mesh: &Mesh, pod: &PodInfo, to: OriginalDst) {
        let Some(cookie) = self.pods.cookie_of(&pod.uid) else { return };
        let pair = Pair::new(cookie, to.address());
        let revoked = self.revoked.clone();
        self.on(mesh, |kernel, _, around| around.pairs.offer(around.mesh, around.pods, pair, &revoked, kernel));
    }

    fn review(&mut self, mesh: Arc<Mesh>) {
        if self.reviewed.as_ref().is_some_and(|reviewed| Arc::ptr_eq(reviewed, &mesh)) {
            return;
        }
        let revoked = self.revoked.clone();
        let done = self.on(&mesh, |kernel, connections, around| {
            connections.discover(around, kernel);
            let refused = around.pairs.review(around.mesh, &revoked, kernel);
            let changed = |Failure { refusal, detail }: Failure| match refusal {
                Refusal::CertificateRevoked => Failure { refusal, detail },
                policy => Failure { refusal: Refusal::PolicyChanged, detail: policy.explain(&detail) },
            };
            let refused = refused.into_iter().map(|(pair, why)| (pair, changed(why))).collect();
            connections.destroy(around, kernel, &refused)
        });
        self.reviewed = (done != Some(false)).then_some(mesh);
    }

    /// Lets no further connections of a pod go straight.
    fn drain(&mut self, uid: &str) {
        let Some(cookie) = self.pods.cookie_of(uid) else { return };
        self.pairs.withdraw(cookie, self.kernel.as_deref());
        self.draining.insert(cookie);
    }

    fn forget_drained(&mut self) {
        let State { draining, pods, pairs, .. } = self;
        draining.retain(|cookie| {
            let open = pairs.are_open(*cookie);
            if !open {
                pods.remove(*cookie);
            }
            open
        });
    }

    fn remove(&mut self, mesh: &Mesh, uid: &str) {
        self.drain_events(mesh);
        let Some(cookie) = self.pods.cookie_of(uid) else { return };
        let pairs = self.pairs.forget(cookie, self.kernel.as_deref());
        let gone = |pair| (pair, Failure { refusal: Refusal::WorkloadGone, detail: String::new() });
        let doomed = pairs.into_iter().map(gone).collect();
        self.on(mesh, |kernel, connections, around| connections.destroy(around, kernel, &doomed));
        self.pods.remove(cookie);
    }

    fn describe(&self) -> Value {
        let pair = |(known, to): (&pairs::Known, std::net::SocketAddr)| {
            json!({
                "source": &*known.source.uid.0,
                "to": to.to_string(),
                "destination": &*known.way.destination.uid.0,
                "target": known.way.target.to_string(),
                "connections": known.open,
            })
        };
        match self.kernel {
            Some(_) => json!({ "pairs": self.pairs.allowed().map(pair).collect::<Vec<_>>() }),
            None => json!({ "lacks": self.lacks }),
        }
    }
}
