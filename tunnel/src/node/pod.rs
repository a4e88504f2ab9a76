//! An enrolled pod as one worker has it: its namespace, its tunnels and its connections.
use super::served::{Known, Served};
use crate::base::{OriginalDst, Refusal};
use crate::decision;
use crate::h2::headers::Block;
use crate::hbone::pool::Pool;
use crate::hbone::tunnel::Tunnel;
use crate::mesh::{Mesh, OutboundTraffic, Workload};
use crate::policy::{Admission, Admitted, Attempt, Guard, Permits};
use crate::relay::{Live, Thread};
use crate::sys::stash::Stash;
use crate::sys::PodInfo;
use crate::telemetry::Baggage;
use arc_swap::ArcSwap;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

pub struct Pod {
    info: Arc<PodInfo>,
    pub stash: Rc<Stash>,
    pub pool: Rc<Pool>,
    pub accepting: RefCell<Vec<JoinHandle<()>>>,
    /// Answers its applications' questions for names.
    pub answering: RefCell<Vec<(Rc<UdpSocket>, JoinHandle<()>)>>,
    served: Rc<Served>,
    live: RefCell<HashMap<u64, Open>>,
    /// One for each accepted connection, and one of its own.
    serving: Rc<()>,
    next: Cell<u64>,
    /// By which the connections that are open are allowed.
    guard: RefCell<Option<Arc<Guard>>>,
    /// By which those that leave the mesh are.
    outbound: Cell<OutboundTraffic>,
    /// What the pod says of itself, and of which version of its workload that was made.
    baggage: RefCell<Option<(Arc<Workload>, Rc<Block>)>>,
}

/// A connection, and what has to allow it for as long as it is open.
struct Open(Rc<dyn Live>, Terms);

enum Terms {
    None,
    /// Policies, which look at this; `requests`: and at each of its requests.
    Admitted {
        attempt: Attempt,
        requests: bool,
        _permits: Permits,
    },
    /// The policy of outbound traffic: it leaves the mesh, to there.
    Leaving(OriginalDst),
}

impl Deref for Pod {
    type Target = PodInfo;

    fn deref(&self) -> &PodInfo {
        &self.info
    }
}

/// Takes a connection off its pod's list.
pub struct Listed {
    pod: Rc<Pod>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.pod.live.borrow_mut().remove(&self.id);
    }
}

impl Pod {
    pub fn new(info: Arc<PodInfo>, thread: &Rc<Thread>) -> Rc<Self> {
        let stash = Rc::<Stash>::default();
        Rc::new(Pod {
            pool: Pool::new(thread, &info, &stash),
            stash,
            info,
            accepting: RefCell::default(),
            answering: RefCell::default(),
            served: Rc::default(),
            live: RefCell::default(),
            serving: Rc::default(),
            next: Cell::new(0),
            guard: RefCell::default(),
            outbound: Cell::default(),
            baggage: RefCell::default(),
        })
    }

    pub fn info(&self) -> &Arc<PodInfo> {
        &self.info
    }

    /// Puts a connection on the list, for as long as the result lives.
    pub fn list(self: &Rc<Self>, connection: Rc<dyn Live>) -> Listed {
        self.put(Open(connection, Terms::None))
    }

    /// As `list`, for a connection that is open as long as policies allow it.
    pub fn list_admitted(self: &Rc<Self>, connection: Rc<dyn Live>, by: Admission, mesh: &ArcSwap<Mesh>) -> Listed {
        let Admission { attempt, guard, requests, permits } = by;
        let open = Open(connection, Terms::Admitted { attempt, requests, _permits: permits });
        // While the application was connected to, a review may have missed it.
        if !open.policies().is_empty() || !self.is_guarded_by(&guard) {
            if let Some(guard) = mesh.load().guard_at(&self.key, open.policies()) {
                open.review(guard);
            }
        }
        self.put(open)
    }

    /// As `list`, for a connection that is open as long as it may leave the mesh.
    pub fn list_leaving(self: &Rc<Self>, connection: Rc<dyn Live>, to: OriginalDst, mesh: &ArcSwap<Mesh>) -> Listed {
        let open = Open(connection, Terms::Leaving(to));
        // While the destination was connected to, a review may have missed it.
        let mesh = mesh.load();
        if let Some(source) = mesh.local(&self.key) {
            open.review_leaving(&mesh, source);
        }
        self.put(open)
    }

    fn put(self: &Rc<Self>, open: Open) -> Listed {
        let id = self.next.replace(self.next.get() + 1);
        self.live.borrow_mut().insert(id, open);
        Listed { pod: self.clone(), id }
    }

    pub fn live(&self) -> Vec<Rc<dyn Live>> {
        self.live.borrow().values().map(|Open(connection, _)| connection.clone()).collect()
    }

    /// The mesh or the credentials are new.
    pub fn change(&self, mesh: &Mesh) {
        self.pool.prune(|destination, ip| mesh.workload(destination).is_some_and(|workload| workload.owns(ip)));
        self.pool.forget_failures();
        self.review(mesh);
    }

    /// The connections that `review` judges.
    pub fn admitted(&self) -> Vec<Admitted> {
        let live = self.live.borrow();
        let admitted = live.values().filter_map(|Open(connection, terms)| {
            let Terms::Admitted { attempt, requests, .. } = terms else { return None };
            let record = connection.record()?.to_json();
            Some(Admitted { pod: self.key.clone(), attempt: attempt.clone(), requests: *requests, record })
        });
        admitted.collect()
    }

    /// Ends the connections that policies no longer allow, where there are others than at the last review. What a listener
    /// adds to them is looked at each time: only gateways have that.
    pub fn review(&self, mesh: &Mesh) {
        self.review_leaving(mesh);
        let Some(guard) = mesh.guard(&self.key) else { return };
        let changed = !self.is_guarded_by(guard);
        *self.guard.borrow_mut() = Some(guard.clone());
        for open in self.live.borrow().values() {
            match open.policies() {
                [] if changed => open.review(guard),
                [] => {}
                further => mesh.guard_at(&self.key, further).into_iter().for_each(|guard| open.review(guard)),
            }
        }
    }

    /// The same for those that leave the mesh.
    fn review_leaving(&self, mesh: &Mesh) {
        let Some(source) = mesh.local(&self.key) else { return };
        let outbound = mesh.outbound_traffic(source);
        if self.outbound.replace(outbound) != outbound {
            self.live.borrow().values().for_each(|open| open.review_leaving(mesh, source));
        }
    }

    fn is_guarded_by(&self, guard: &Arc<Guard>) -> bool {
        self.guard.borrow().as_ref().is_some_and(|known| Arc::ptr_eq(known, guard))
    }

    /// The header that says who this pod is, `workload` being the pod.
    pub fn baggage(&self, workload: &Arc<Workload>) -> Rc<Block> {
        let mut baggage = self.baggage.borrow_mut();
        match &*baggage {
            Some((of, block)) if Arc::ptr_eq(of, workload) => block.clone(),
            _ => baggage.insert((workload.clone(), Rc::new(described(workload)))).1.clone(),
        }
    }

    /// Remembers a tunnel that a peer has opened, for as long as the result lives.
    pub fn serves(&self, tunnel: &Rc<Tunnel>) -> Known {
        self.served.add(tunnel)
    }

    /// Both those that it has dialled and those that it serves.
    fn tunnels(&self) -> impl Iterator<Item = Rc<Tunnel>> {
        self.pool.all().into_iter().chain(self.served.all())
    }

    /// Ends the tunnels whose peers are revoked.
    pub fn review_peers(&self) {
        self.tunnels().for_each(|tunnel| tunnel.review_peer());
    }

    /// Counts an accepted connection, for as long as the result lives.
    pub fn serving(&self) -> Rc<()> {
        self.serving.clone()
    }

    /// Whether a connection is open, or about to be.
    pub fn is_busy(&self) -> bool {
        Rc::strong_count(&self.serving) > 1 || self.tunnels().any(|tunnel| tunnel.is_busy())
    }

    /// How many connections are open; those that are about to be count together as one.
    pub fn open(&self) -> usize {
        let live = self.live.borrow().len();
        live.max(self.is_busy().into())
    }

    /// No new connections; peers are told to ask elsewhere.
    pub fn drain(&self) {
        drop(self.stop_accepting());
        self.end_tunnels();
    }

    /// Has peers ask elsewhere.
    pub fn end_tunnels(&self) {
        for tunnel in self.served.all() {
            tunnel.drain();
        }
    }

    /// Ends everything.
    pub fn close(&self, why: Refusal) {
        drop(self.stop_accepting());
        for connection in self.live() {
            connection.cancel(why, "");
        }
        for tunnel in self.tunnels() {
            tunnel.kill(why, "the pod is gone");
        }
    }

    /// Whether it takes new connections.
    pub fn is_accepting(&self) -> bool {
        !self.accepting.borrow().is_empty()
    }

    /// No new connections, no new questions. Each listener is closed when the task that had it has ended.
    pub fn stop_accepting(&self) -> Vec<JoinHandle<()>> {
        let answering = self.answering.take().into_iter().map(|(_, task)| task);
        let tasks: Vec<_> = self.accepting.take().into_iter().chain(answering).collect();
        tasks.iter().for_each(JoinHandle::abort);
        tasks
    }
}

/// What a pod says of itself to its peers.
fn described(workload: &Workload) -> Block {
    let mut block = Block::default();
    block.field("baggage", &Baggage::of(workload).to_string());
    block
}

impl Open {
    /// Those of the gateway's listener that it came in by.
    fn policies(&self) -> &[Arc<str>] {
        match &self.1 {
            Terms::Admitted { attempt, .. } => attempt.door.as_ref().map_or(&[], |door| &door.policies),
            Terms::None | Terms::Leaving(_) => &[],
        }
    }

    /// What cannot be decided yet stays as it was decided before.
    fn review(&self, guard: &Guard) {
        let Open(connection, Terms::Admitted { attempt, requests, .. }) = self else { return };
        let judgement = guard.judge(attempt);
        if judgement.verdict.keeps(*requests) {
            return;
        }
        if let Some(record) = connection.record() {
            record.judged(&judgement);
        }
        let why = judgement.outcome().err().map(|why| why.refusal.explain(&why.detail));
        connection.cancel(Refusal::PolicyChanged, &why.unwrap_or_else(|| "its requests are judged now".to_owned()));
    }

    fn review_leaving(&self, mesh: &Mesh, source: &Workload) {
        let Open(connection, Terms::Leaving(to)) = self else { return };
        if let Err(why) = decision::leave(mesh, source, *to) {
            connection.cancel(Refusal::PolicyChanged, &why.to_string());
        }
    }
}
