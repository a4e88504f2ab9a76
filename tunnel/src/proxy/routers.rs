//! The routers of a thread: a pod's requests share one, and with it the connections that it keeps.
use super::requests::Requests;
use super::Proxy;
use crate::http::{Drain, Router, Settings};
use crate::node::Pod;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The routers of a thread, by the uid of the pod that asks. A router keeps connections for the pod's next requests.
pub struct Routers {
    pub settings: Settings,
    routers: RefCell<HashMap<Arc<str>, Rc<Router<Requests>>>>,
    /// By number: whose they are, and how to end them.
    sessions: RefCell<HashMap<u64, (Arc<str>, Drain)>>,
    next: Cell<u64>,
    /// Clients are to ask elsewhere.
    ending: Cell<bool>,
}

/// Takes a session off the list.
pub struct Listed<'a>(&'a Routers, u64);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.sessions.borrow_mut().remove(&self.1);
        self.0.close_unused();
    }
}

impl Routers {
    pub fn new(settings: Settings) -> Routers {
        Routers {
            settings,
            routers: RefCell::default(),
            sessions: RefCell::default(),
            next: Cell::default(),
            ending: Cell::default(),
        }
    }

    pub fn of(&self, proxy: &Rc<Proxy>, pod: &Rc<Pod>) -> Rc<Router<Requests>> {
        let mut routers = self.routers.borrow_mut();
        let known = routers.get(&pod.uid).filter(|router| router.node.is_of(pod));
        if let Some(router) = known {
            return router.clone();
        }
        let router = Router::new(Requests::new(proxy, pod), self.settings);
        routers.insert(pod.uid.clone(), router.clone());
        router
    }

    pub fn list(&self, pod: &Pod, drain: Drain) -> Listed<'_> {
        let number = self.next.replace(self.next.get() + 1);
        if self.ending.get() {
            drain.announce();
        }
        self.sessions.borrow_mut().insert(number, (pod.uid.clone(), drain));
        Listed(self, number)
    }

    /// Ends the connections of clients, all or one pod's, in order: each after the request that is open.
    pub fn drain(&self, pod: Option<&Pod>) {
        let sessions = self.sessions.borrow();
        let meant = sessions.values().filter(|(uid, _)| pod.is_none_or(|pod| *uid == pod.uid));
        meant.for_each(|(_, drain)| drain.order());
    }

    /// Has clients ask elsewhere, each when it has asked for the last time here: nobody is cut off.
    pub fn announce_end(&self) {
        self.ending.set(true);
        self.sessions.borrow().values().for_each(|(_, drain)| drain.announce());
        self.close_unused();
    }

    /// Where nobody asks any more, connections that wait for further requests end.
    fn close_unused(&self) {
        if self.ending.get() && self.sessions.borrow().is_empty() {
            self.routers.borrow().values().for_each(|router| router.close());
        }
    }

    /// A pod is gone: what waits for its requests ends.
    pub fn forget(&self, pod: &Pod) {
        let mut routers = self.routers.borrow_mut();
        if routers.get(&pod.uid).is_some_and(|router| router.node.is_of(pod)) {
            routers.remove(&pod.uid);
        }
    }
}
