//! The record of one request, given to the node exactly once, whatever becomes of it.
use super::answer::{is_grpc, Answer, Failure};
use super::deadline::Deadline;
use super::node::{Amount, Downstream, Flags, Node, Record};
use super::router::Router;
use super::sizes::{self, Size};
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
    request: Rc<Size>,
    response: Rc<Size>,
    // What lasts as long as the request does.
    pub counted: Option<Counted>,
    pub active: Option<Active<N::Io>>,
    pub deadline: Option<Rc<Deadline>>,
    end: Option<End>,
}

impl<N: Node> Recording<N> {
    pub fn new(router: Rc<Router<N>>, downstream: Rc<Downstream>, request: &mut Request) -> Self {
        let record = Record {
            sent: Amount { bytes: sizes::of_headers(&request.headers), messages: 0 },
            received: Amount::default(),
            grpc_status: None,
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
        let (began, response) = (Instant::now(), Rc::default());
        let request = Size::of(&mut request.body, record.grpc);
        Recording {
            router,
            downstream,
            began,
            record,
            request,
            response,
            counted: None,
            active: None,
            deadline: None,
            end: None,
        }
    }

    /// What the client is answered.
    pub fn answered(&mut self, response: &mut Response) {
        self.record.status = Some(response.status);
        self.record.received.bytes = sizes::of_headers(&response.headers);
        self.record.grpc_status = sizes::grpc_status(&response.headers);
        self.response = Size::of(&mut response.body, self.record.grpc);
    }

    fn measure(&mut self) {
        for (amount, size) in [(&mut self.record.sent, &self.request), (&mut self.record.received, &self.response)] {
            amount.bytes += size.bytes();
            amount.messages = size.messages();
        }
        self.record.grpc_status = self.response.status().or(self.record.grpc_status);
    }

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
        self.measure();
        self.router.node.record(&self.downstream, &self.record);
    }
}
