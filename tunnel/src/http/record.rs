//! The record of one request, given to the node exactly once, whatever becomes of it.
use super::answer::{is_grpc, Answer, Failure};
use super::deadline::Deadline;
use super::node::{Downstream, Flags, Node, Record};
use super::router::Router;
use super::upstream::{Active, Counted};
use super::{Request, Response, Ticket};
use crate::telemetry::TracedTry;
use http::Version;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

enum End {
    Sent,
    Broken,
}

pub struct Recording<N: Node> {
    router: Rc<Router<N>>,
    downstream: Rc<Downstream>,
    began: Instant,
    pub record: Record,
    // What lasts as long as the request does.
    pub counted: Option<Counted>,
    pub active: Option<Active<N::Io>>,
    pub deadline: Option<Rc<Deadline>>,
    end: Option<End>,
}

impl<N: Node> Recording<N> {
    pub fn new(router: Rc<Router<N>>, downstream: Rc<Downstream>, request: &Request) -> Self {
        let record = Record {
            http2: request.version == Version::HTTP_2,
            grpc: is_grpc(&request.headers),
            method: request.method.clone(),
            authority: request.authority.clone(),
            path: request.path.clone(),
            route: Default::default(),
            status: None,
            flags: Flags::default(),
            reason: String::new(),
            attempts: 0,
            duration: Default::default(),
            upstream: None,
            destination: None,
            endpoint: None,
            failure: String::new(),
            observed: Default::default(),
        };
        let began = Instant::now();
        Recording { router, downstream, began, record, counted: None, active: None, deadline: None, end: None }
    }
}

impl<N: Node> Recording<N> {
    /// A try that took so long has ended.
    pub fn tried(&mut self, endpoint: SocketAddr, took: Duration, result: &Result<Response, Failure>) {
        let Some(trace) = self.record.observed.trace.as_mut().filter(|trace| trace.is_sampled()) else { return };
        let outcome = match result {
            Ok(response) => response.status.as_str().into(),
            Err(failure) => Answer::from(failure).flags.to_string().into(),
        };
        trace.tries.push(TracedTry { at: self.began.elapsed().saturating_sub(took), endpoint, outcome });
    }
}

impl<N: Node> Ticket for Recording<N> {
    fn sent(mut self: Box<Self>) {
        self.end = Some(End::Sent);
    }

    fn broken(mut self: Box<Self>) {
        self.end = Some(End::Broken);
    }
}

impl<N: Node> Drop for Recording<N> {
    fn drop(&mut self) {
        match self.end {
            Some(End::Sent) => {}
            Some(End::Broken) if self.deadline.as_ref().is_some_and(|deadline| deadline.has_cut()) => {
                self.record.flags |= Flags::UPSTREAM_TIMEOUT;
            }
            Some(End::Broken) => self.record.flags |= Flags::UPSTREAM_TERMINATION,
            None => self.record.flags |= Flags::DOWNSTREAM_TERMINATION,
        }
        self.record.duration = self.began.elapsed();
        self.router.node.record(&self.downstream, &self.record);
    }
}
