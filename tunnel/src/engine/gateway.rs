//! A gateway's own ports, as one worker listens on them.
use crate::base::log_error;
use crate::node::Pod;
use crate::sys::acceptor::Acceptor;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use tokio::task::AbortHandle;

pub struct Gateway {
    pub pod: Rc<Pod>,
    /// The tasks that accept, by port.
    open: RefCell<HashMap<u16, AbortHandle>>,
}

impl Gateway {
    pub fn new(pod: Rc<Pod>) -> Gateway {
        Gateway { pod, open: RefCell::default() }
    }

    /// Listens on these ports and on no others. A port that cannot be had is told, and tried again with the next change.
    pub fn listen_on(&self, ports: HashSet<u16>, accept: impl Fn(Acceptor, u16) -> AbortHandle) {
        let mut open = self.open.borrow_mut();
        open.retain(|port, task| {
            let stays = ports.contains(port);
            if !stays {
                task.abort();
            }
            stays
        });
        for port in ports {
            if open.contains_key(&port) {
                continue;
            }
            match self.pod.netns.listen(port, None).and_then(Acceptor::new) {
                Ok(listener) => drop(open.insert(port, accept(listener, port))),
                Err(error) => log_error("gateway", &format!("cannot listen on port {port}: {error}")),
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.open.take().into_values().for_each(|task| task.abort());
    }
}
