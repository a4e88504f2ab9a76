//! The pods of a node, as one thread has them.
use super::Pod;
use crate::base::PodKey;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Default)]
pub struct Pods {
    enrolled: RefCell<HashMap<Arc<str>, Rc<Pod>>>,
    /// Those that have left the mesh, as long as they have connections.
    draining: RefCell<Vec<Rc<Pod>>>,
}

impl Pods {
    pub fn get(&self, uid: &str) -> Option<Rc<Pod>> {
        self.enrolled.borrow().get(uid).cloned()
    }

    /// By the name under which the mesh knows it. Looks through all, which on a node are some hundred at most.
    pub fn named(&self, key: &PodKey) -> Option<Rc<Pod>> {
        self.enrolled.borrow().values().find(|pod| pod.key == *key).cloned()
    }

    /// Gives the one that had its uid before.
    pub fn insert(&self, pod: Rc<Pod>) -> Option<Rc<Pod>> {
        self.enrolled.borrow_mut().insert(pod.uid.clone(), pod)
    }

    pub fn remove(&self, uid: &str) -> Option<Rc<Pod>> {
        self.enrolled.borrow_mut().remove(uid)
    }

    pub fn begin_drain(&self, pod: &Rc<Pod>) {
        self.draining.borrow_mut().push(pod.clone());
    }

    pub fn end_drain(&self, pod: &Rc<Pod>) {
        self.draining.borrow_mut().retain(|draining| !Rc::ptr_eq(draining, pod));
    }

    /// Without those that drain.
    pub fn enrolled(&self) -> Vec<Rc<Pod>> {
        self.enrolled.borrow().values().cloned().collect()
    }

    /// Those that drain as well.
    pub fn all(&self) -> Vec<Rc<Pod>> {
        self.enrolled.borrow().values().chain(self.draining.borrow().iter()).cloned().collect()
    }
}
