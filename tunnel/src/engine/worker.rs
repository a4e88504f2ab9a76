//! One thread, one runtime: it owns its connections from accept to close. No lock, no channel, on the way of a byte.
use super::command::Command;
use super::exhaustion::turn_away;
use super::gateway::Gateway;
use super::listening::Accepting;
use crate::base::Refusal;
use crate::decision::HBONE_PORT;
use crate::node::{Context, Pod, Shared};
use crate::proxy::caller::Caller;
use crate::proxy::{gateway, inbound, outbound, Proxy};
use crate::relay::{Live, Thread};
use crate::sys::acceptor::Acceptor;
use crate::sys::panics::{self, spawn_vital};
use crate::sys::pieces;
use crate::sys::spare::is_exhausted;
use crate::sys::PodInfo;
use crate::{direct, http, pending};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_local;

/// A worker, as others have it.
pub struct WorkerHandle {
    pub commands: UnboundedSender<Command>,
    /// Tunnels that peers have opened to this worker.
    tunnels: AtomicUsize,
}

pub type Workers = Arc<[WorkerHandle]>;

impl WorkerHandle {
    pub fn new(commands: UnboundedSender<Command>) -> Self {
        WorkerHandle { commands, tunnels: AtomicUsize::new(0) }
    }
}

/// A tunnel of a peer's, as a worker's load counts it.
struct Load {
    workers: Workers,
    index: usize,
}

impl Load {
    fn new(worker: &Worker) -> Load {
        worker.workers[worker.index].tunnels.fetch_add(1, Ordering::Relaxed);
        Load { workers: worker.workers.clone(), index: worker.index }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.workers[self.index].tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a worker is made of. Cloned for each.
#[derive(Clone)]
pub struct Plan {
    pub shared: Arc<Shared>,
    pub workers: Workers,
    pub spin: Duration,
    pub direct: Option<direct::Handle>,
    pub pending: Option<Arc<pending::Handle>>,
    pub dns: Option<PathBuf>,
    pub http: http::Settings,
}

struct Worker {
    context: Rc<Context>,
    proxy: Rc<Proxy>,
    gateway: RefCell<Option<Gateway>>,
    workers: Workers,
    index: usize,
}

/// What the listeners of a pod are for.
#[derive(Clone, Copy)]
pub enum Role {
    Outbound,
    Plain,
    Tunnel,
    /// With the pod's own port.
    Gateway(u16),
}

/// A worker's thread. Ends when the core is gone.
pub fn run(plan: Plan, index: usize, mut commands: UnboundedReceiver<Command>) -> io::Result<()> {
    let _vital = panics::vital();
    let _keeping = pieces::keep();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let thread = Thread::new(plan.shared.telemetry.worker())?;
        thread.start(plan.spin);
        let worker = Worker::new(plan, index, thread);
        while let Some(command) = commands.recv().await {
            worker.handle(command);
        }
        Ok(())
    })
}

impl Worker {
    fn new(plan: Plan, index: usize, thread: Rc<Thread>) -> Rc<Worker> {
        let context = Context::new(plan.shared, thread);
        let proxy = Proxy::new(context.clone(), plan.direct, plan.pending, plan.dns, plan.http);
        Rc::new(Worker { context, proxy, gateway: RefCell::default(), workers: plan.workers, index })
    }

    fn handle(self: &Rc<Self>, command: Command) {
        // Whoever asked may be gone; then nobody is interested in the answer.
        match command {
            Command::Add(info, done) => {
                self.add(info);
                drop(done.send(Ok(())));
            }
            Command::Accept(uid, accepting) => self.listen(&uid, accepting),
            Command::AddGateway(info, done) => {
                let pod = Pod::new(info, &self.context.thread);
                self.context.pods.insert(pod.clone());
                *self.gateway.borrow_mut() = Some(Gateway::new(pod));
                self.follow_listeners();
                drop(done.send(Ok(())));
            }
            Command::Remove { uid, drain, done } => {
                let mut accepting = Vec::new();
                match self.context.pods.remove(&uid) {
                    Some(pod) if drain => drop(spawn_local(self.clone().drain(pod))),
                    Some(pod) => {
                        accepting = pod.stop_accepting();
                        self.close(&pod);
                    }
                    None => {}
                }
                spawn_local(async move {
                    for task in accepting {
                        drop(task.await); // aborted
                    }
                    drop(done.send(Ok(())));
                });
            }
            Command::Changed => {
                self.context.change();
                self.follow_listeners();
                let mesh = self.context.shared.mesh.load();
                self.context.pods.enrolled().iter().for_each(|pod| self.proxy.review_questions(pod, &mesh, vec![]));
            }
            Command::Resolved => self.context.wake(),
            Command::Revoked => {
                for pod in self.context.pods.all() {
                    pod.pool.forget_failures();
                    pod.review_peers();
                }
            }
            Command::Tunnel(uid, sock) => {
                let pod = self.context.pods.get(&uid);
                if let (Some(pod), Ok(sock)) = (pod, TcpStream::from_std(sock)) {
                    self.serve_tunnel(&pod, sock);
                }
            }
            Command::Pending(uid, call) => {
                if let Some(pod) = self.context.pods.get(&uid) {
                    let thread = self.context.thread.clone();
                    let connection = outbound::serve(self.proxy.clone(), pod.clone(), Caller::Pending(call));
                    let number = pod.info().number();
                    serve(&pod, async move {
                        thread.turns.begin(number).await;
                        connection.await;
                    });
                }
            }
            Command::Inspect(answer) => {
                let live = self.context.pods.all().iter().flat_map(|pod| pod.live()).collect::<Vec<_>>();
                let record = |one: &Rc<dyn Live>| Some(one.record()?.to_json_with(one.rtt()));
                drop(answer.send(live.iter().filter_map(record).collect()));
            }
            Command::Admitted(answer) => {
                let admitted = self.context.pods.all().iter().flat_map(|pod| pod.admitted()).collect();
                drop(answer.send(admitted));
            }
            Command::Destinations(answer) => {
                let pods = self.context.pods.enrolled();
                let _ = answer.send(pods.iter().flat_map(|pod| pod.pool.destinations()).collect());
            }
            Command::Retire => {
                self.context.pods.enrolled().iter().for_each(|pod| self.proxy.leave_questions(pod));
                self.context.pods.all().iter().for_each(|pod| pod.drain());
                self.proxy.routers.announce_end();
            }
            Command::Drain => {
                self.gateway.take(); // listens no more
                self.context.pods.all().iter().for_each(|pod| pod.drain());
                self.proxy.routers.drain(None);
            }
            Command::Count(answer) => {
                let _ = answer.send(self.context.pods.all().iter().map(|pod| pod.open()).sum());
            }
            Command::Cut => self.context.pods.all().iter().for_each(|pod| pod.close(Refusal::Drained)),
        }
    }

    fn add(self: &Rc<Self>, info: Arc<PodInfo>) {
        let pod = Pod::new(info, &self.context.thread);
        pod.review(&self.context.shared.mesh.load());
        if let Some(before) = self.context.pods.insert(pod) {
            self.close(&before);
        }
    }

    fn listen(self: &Rc<Self>, uid: &str, accepting: Accepting) {
        let Some(pod) = self.context.pods.get(uid) else { return };
        for (listener, role) in accepting.listeners {
            // Fails only where epoll has no room, which no kernel limits below what descriptors are.
            let Ok(listener) = Acceptor::new(listener) else { continue };
            let task = spawn_vital(self.clone().accept(pod.clone(), listener, role));
            pod.accepting.borrow_mut().push(task);
        }
        self.proxy.review_questions(&pod, &self.context.shared.mesh.load(), accepting.questions);
    }

    /// Serves a pod that leaves the mesh until its connections have ended, or its namespace has no network any more.
    async fn drain(self: Rc<Self>, pod: Rc<Pod>) {
        self.context.pods.begin_drain(&pod);
        pod.end_tunnels();
        self.context.thread.clock.sleep(0).await; // what was redirected before may still wait for accept
        pod.drain();
        self.proxy.routers.drain(Some(&pod));
        while pod.is_busy() && pod.netns.has_network() {
            self.context.thread.clock.sleep(0).await;
        }
        self.close(&pod);
        self.context.pods.end_drain(&pod);
    }

    /// A pod is gone.
    fn close(&self, pod: &Pod) {
        pod.close(Refusal::WorkloadGone);
        self.proxy.routers.forget(pod);
    }

    /// Has the gateway listen on the ports that it should by now.
    fn follow_listeners(self: &Rc<Self>) {
        let mesh = self.context.shared.mesh.load();
        if let (Some(gateway), Some(listeners)) = (&*self.gateway.borrow(), mesh.listeners()) {
            // Whatever a Gateway says of the tunnel's port: who is in the mesh comes there.
            let ports = listeners.all.iter().map(|listener| listener.bind).chain([HBONE_PORT]).collect();
            gateway.listen_on(ports, |listener, port| {
                let role = if port == HBONE_PORT { Role::Tunnel } else { Role::Gateway(port) };
                spawn_vital(self.clone().accept(gateway.pod.clone(), listener, role)).abort_handle()
            });
        }
    }

    async fn accept(self: Rc<Self>, pod: Rc<Pod>, listener: Acceptor, role: Role) {
        let thread = &self.context.thread;
        loop {
            let (sock, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_exhausted(&error) && turn_away(thread, &listener, role) => continue,
                Err(_) => {
                    thread.telemetry.accept_failed();
                    thread.clock.sleep(0).await;
                    continue;
                }
            };
            match role {
                Role::Outbound => {
                    let caller = Caller::Connected(sock, client);
                    serve(&pod, outbound::serve(self.proxy.clone(), pod.clone(), caller));
                }
                Role::Plain => serve(&pod, inbound::serve_plain(self.proxy.clone(), pod.clone(), sock, client)),
                Role::Tunnel => self.place(&pod, sock),
                Role::Gateway(port) => {
                    serve(&pod, gateway::serve(self.proxy.clone(), pod.clone(), sock, client, port));
                }
            }
            // Afterwards, so that nobody has been accepted who is dropped with this task.
            thread.turns.begin(pod.info().number()).await;
        }
    }

    /// The kernel spreads tunnels by a hash, so that two of them may meet in one worker: the least loaded one takes it.
    fn place(self: &Rc<Self>, pod: &Rc<Pod>, sock: TcpStream) {
        let load = |worker: &WorkerHandle| worker.tunnels.load(Ordering::Relaxed);
        let least = self.workers.iter().min_by_key(|worker| load(worker));
        match least {
            Some(other) if load(other) < load(&self.workers[self.index]) => {
                if let Ok(sock) = sock.into_std() {
                    drop(other.commands.send(Command::Tunnel(pod.uid.clone(), sock)));
                }
            }
            _ => self.serve_tunnel(pod, sock),
        }
    }

    fn serve_tunnel(self: &Rc<Self>, pod: &Rc<Pod>, sock: TcpStream) {
        let (proxy, pod) = (self.proxy.clone(), pod.clone());
        let load = Load::new(self);
        let is_gateway = self.gateway.borrow().is_some();
        spawn_local(async move {
            let _load = load;
            let (owner, served) = (proxy.clone(), pod.clone());
            let accept = move |stream, fields| {
                let (proxy, pod) = (owner.clone(), served.clone());
                match is_gateway {
                    true => drop(spawn_local(gateway::serve_stream(proxy, pod, stream, fields))),
                    false => drop(spawn_local(inbound::serve(proxy, pod, stream, fields))),
                }
            };
            inbound::serve_tunnel(&proxy, &pod, sock, accept).await;
        });
    }
}

/// A connection, from accept to close.
fn serve(pod: &Rc<Pod>, connection: impl Future<Output = ()> + 'static) {
    let serving = pod.serving();
    spawn_local(async move {
        let _serving = serving;
        connection.await;
    });
}
