//! Why a connection ended before both of its sides had.
use crate::base::{Failure, Refusal};
use crate::h2::frame::{Code, Violation};
use crate::telemetry::ConnectionRecord;
use std::io;
use std::rc::Rc;

/// Why a stream ended before both sides had.
#[derive(Clone, Debug)]
pub enum CloseReason {
    /// The peer reset it: the application there did, or is gone.
    Reset(Code),
    /// The tunnel is gone.
    Tunnel(Failure),
    /// We do not want it any more; the text says more, if anything.
    Cancelled(Refusal, Box<str>),
    /// The application's socket said so.
    App(Rc<io::Error>),
    /// The socket of the other end, which is in no tunnel, said so.
    Peer(Rc<io::Error>),
    /// The peer broke HTTP/2's rules on this stream alone.
    Violation(Violation),
}

impl CloseReason {
    /// What a socket said: the application's, or that of the other end.
    pub fn of_socket(of_app: bool, error: io::Error) -> CloseReason {
        match of_app {
            true => CloseReason::App(Rc::new(error)),
            false => CloseReason::Peer(Rc::new(error)),
        }
    }

    /// What the peer is told, None where it knows or is gone.
    pub fn code(&self) -> Option<Code> {
        match self {
            CloseReason::Reset(_) | CloseReason::Tunnel(_) => None,
            CloseReason::Cancelled(..) => Some(Code::CANCEL),
            CloseReason::App(_) | CloseReason::Peer(_) => Some(Code::CONNECT_ERROR),
            CloseReason::Violation(violation) => Some(violation.code),
        }
    }

    /// Ends the record of a connection. A reset once one side had ended (`half_closed`) is an end like others: a server
    /// that exits when the client says goodbye leaves TLS's close_notify unread, for which the kernel sends a reset.
    pub fn record(&self, record: &ConnectionRecord, half_closed: bool) {
        if half_closed && self.is_reset() {
            return record.finish();
        }
        record.fail(self.refusal(), &self.to_string());
    }

    fn is_reset(&self) -> bool {
        match self {
            CloseReason::Reset(code) => matches!(*code, Code::CANCEL | Code::CONNECT_ERROR),
            CloseReason::App(error) | CloseReason::Peer(error) => {
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            }
            CloseReason::Tunnel(_) | CloseReason::Cancelled(..) | CloseReason::Violation(_) => false,
        }
    }

    /// The name under which it is counted.
    pub fn refusal(&self) -> Refusal {
        match self {
            CloseReason::Reset(_) | CloseReason::Peer(_) => Refusal::PeerReset,
            CloseReason::Tunnel(failure) => failure.refusal,
            CloseReason::Cancelled(why, _) => *why,
            CloseReason::App(_) => Refusal::AppReset,
            CloseReason::Violation(_) => Refusal::StreamViolation,
        }
    }
}

/// What there is to say beyond the reason's name.
impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            CloseReason::Reset(code) => write!(f, "HTTP/2 error {}", code.0),
            CloseReason::Tunnel(failure) => failure.fmt(f),
            CloseReason::Cancelled(_, detail) => f.write_str(detail),
            CloseReason::App(error) | CloseReason::Peer(error) => error.fmt(f),
            CloseReason::Violation(violation) => violation.fmt(f),
        }
    }
}
