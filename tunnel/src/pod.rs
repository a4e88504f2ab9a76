//! An enrolled pod as one worker has it: its namespace, its tunnels and its connections.
use crate::headers::Block;
use crate::mesh::{Identity, PodKey, Workload};
use crate::outbound;
use crate::pool::Pool;
use crate::refusal::Refusal;
use crate::sockets::{NetNs, Stash};
use crate::telemetry::Connection;
use crate::tunnel::Tunnel;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// What all workers know of a pod.
pub struct PodInfo {
    pub uid: Arc<str>,
    /// Under which the mesh knows it.
    pub key: PodKey,
    pub identity: Identity,
    pub netns: NetNs,
}

/// A connection that carries bytes.
pub trait Live {
    /// Ends it; both ends see a reset.
    fn cancel(&self, why: Refusal);
    /// None before it is known what it is.
    fn record(&self) -> Option<&Connection>;
}

pub struct Pod {
    info: Arc<PodInfo>,
    pub stash: Stash,
    pub pool: Pool,
    pub accepting: RefCell<Vec<AbortHandle>>,
    served: RefCell<Vec<Weak<Tunnel>>>,
    live: RefCell<HashMap<u64, Rc<dyn Live>>>,
    next: Cell<u64>,
    /// What the pod says of itself, and of which version of its workload that was made.
    baggage: RefCell<Option<(Arc<Workload>, Rc<Block>)>>,
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
    pub fn new(info: Arc<PodInfo>) -> Rc<Self> {
        Rc::new(Pod {
            info,
            stash: Stash::default(),
            pool: Pool::default(),
            accepting: RefCell::default(),
            served: RefCell::default(),
            live: RefCell::default(),
            next: Cell::new(0),
            baggage: RefCell::default(),
        })
    }

    /// Puts a connection on the list, for as long as the result lives.
    pub fn list(self: &Rc<Self>, connection: Rc<dyn Live>) -> Listed {
        let id = self.next.replace(self.next.get() + 1);
        self.live.borrow_mut().insert(id, connection);
        Listed { pod: self.clone(), id }
    }

    pub fn live(&self) -> Vec<Rc<dyn Live>> {
        self.live.borrow().values().cloned().collect()
    }

    /// The header that says who this pod is, `workload` being the pod.
    pub fn baggage(&self, workload: &Arc<Workload>) -> Rc<Block> {
        let mut baggage = self.baggage.borrow_mut();
        match &*baggage {
            Some((of, block)) if Arc::ptr_eq(of, workload) => block.clone(),
            _ => baggage.insert((workload.clone(), Rc::new(outbound::baggage(workload)))).1.clone(),
        }
    }

    /// Remembers a tunnel that a peer has opened.
    pub fn serves(&self, tunnel: &Rc<Tunnel>) {
        let mut served = self.served.borrow_mut();
        if served.len() == served.capacity() {
            served.retain(|tunnel| tunnel.strong_count() > 0);
        }
        served.push(Rc::downgrade(tunnel));
    }

    fn served(&self) -> Vec<Rc<Tunnel>> {
        self.served.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// No new connections; peers are told to ask elsewhere.
    pub fn drain(&self) {
        self.stop_accepting();
        for tunnel in self.served() {
            tunnel.drain();
        }
    }

    /// Ends everything.
    pub fn close(&self, why: Refusal) {
        self.stop_accepting();
        for connection in self.live() {
            connection.cancel(why);
        }
        for tunnel in self.pool.all().into_iter().chain(self.served()) {
            tunnel.kill(why, "the pod is gone");
        }
    }

    fn stop_accepting(&self) {
        for task in self.accepting.borrow_mut().drain(..) {
            task.abort();
        }
    }
}
