//! The record of one request, given to the node exactly once, whatever becomes of it.
use super::node::{Downstream, Flags, Node, Record};
use super::router::Router;
use super::{Request, Ticket};
use std::any::Any;
use std::rc::Rc;
use tokio::time::Instant;

pub struct Recording<N: Node> {
    router: Rc<Router<N>>,
    downstream: Rc<Downstream>,
    began: Instant,
    pub record: Record,
    /// What lasts as long as the request does.
    pub held: Vec<Box<dyn Any>>,
    sent: bool,
}

impl<N: Node> Recording<N> {
    pub fn new(router: Rc<Router<N>>, downstream: Rc<Downstream>, request: &Request) -> Self {
        let record = Record {
            method: request.method.clone(),
            authority: request.authority.clone(),
            path: request.path.clone(),
            route: Default::default(),
            status: None,
            flags: Flags::default(),
            attempts: 0,
            duration: Default::default(),
            upstream: None,
            destination: None,
            endpoint: None,
        };
        Recording { router, downstream, began: Instant::now(), record, held: Vec::new(), sent: false }
    }
}

impl<N: Node> Ticket for Recording<N> {
    fn sent(mut self: Box<Self>) {
        self.sent = true;
    }
}

impl<N: Node> Drop for Recording<N> {
    fn drop(&mut self) {
        if !self.sent {
            self.record.flags |= Flags::DOWNSTREAM_TERMINATION;
        }
        self.record.duration = self.began.elapsed();
        self.router.node.record(&self.downstream, &self.record);
    }
}
