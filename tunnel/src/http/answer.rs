//! Answers of our own, in the words that users know from Envoy.
use super::node::{ConnectError, Denied, Flags};
use super::{BodyError, Response};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, CONTENT_TYPE};
use http::StatusCode;

const CONNECT_ERROR: &str = "upstream connect error or disconnect/reset before headers. reset reason:";
/// Of gRPC (its statuscodes).
const RESOURCE_EXHAUSTED: u32 = 8;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
    pub flags: Flags,
}

/// Why a try gave no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Connect(ConnectError),
    /// The connection ended before the response began.
    Closed,
    /// HTTP/2's RST_STREAM; refused: the server has done nothing for it.
    Reset {
        refused: bool,
    },
    Protocol,
    /// No response in time.
    Timeout,
    Overflow,
    NoHealthyHost,
    /// The client's own body.
    Body(BodyError),
}

impl ConnectError {
    /// For the record.
    pub fn reason(&self) -> String {
        match self {
            ConnectError::Tls(reason) | ConnectError::Failed(reason) => reason.clone(),
            ConnectError::Timeout => "no connection in time".to_owned(),
        }
    }
}

pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.strip_prefix(b"application/grpc").is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
}

impl Answer {
    pub fn new(status: StatusCode, body: &'static str, flags: Flags) -> Answer {
        Answer { status, body: Bytes::from_static(body.as_bytes()), flags }
    }

    /// For a client of gRPC with its status in place of HTTP's.
    pub fn response(self, grpc: bool) -> Response {
        let mut response =
            if grpc { grpc_response(grpc_status(self.status), &self.body) } else { text(self.status, self.body) };
        if self.flags.has(Flags::UPSTREAM_OVERFLOW) {
            let overloaded = HeaderName::from_static("x-envoy-overloaded");
            response.headers.insert(overloaded, HeaderValue::from_static("true"));
        }
        response
    }
}

/// It has a type where it has a body.
pub fn text(status: StatusCode, body: Bytes) -> Response {
    let typed = !body.is_empty();
    let mut response = Response::new(status, body);
    if typed {
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

/// Of a request that policies keep out.
pub fn denied(denied: Denied, grpc: bool) -> Response {
    let Denied { status, body, headers, flags, .. } = denied;
    let mut response = match grpc && flags.has(Flags::RATE_LIMITED) {
        true => grpc_response(RESOURCE_EXHAUSTED, &body),
        false => Answer { status, body, flags }.response(grpc),
    };
    response.headers.extend(headers);
    response
}

/// A whole answer in one head ("trailers only").
pub fn grpc_response(status: u32, message: &[u8]) -> Response {
    let mut response = Response::new(StatusCode::OK, "");
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers.insert("grpc-status", HeaderValue::from(status));
    if let Some(message) = HeaderValue::from_bytes(message).ok().filter(|message| !message.is_empty()) {
        response.headers.insert("grpc-message", message);
    }
    response
}

/// As gRPC maps HTTP's (its http-grpc-status-mapping).
fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

impl From<&Failure> for Answer {
    fn from(failure: &Failure) -> Answer {
        use StatusCode as S;
        let unavailable = |body, flags| Answer::new(S::SERVICE_UNAVAILABLE, body, flags);
        match failure {
            Failure::Connect(ConnectError::Tls(reason)) => Answer {
                body: format!("{CONNECT_ERROR} connection failure, transport failure reason: TLS error: {reason}")
                    .into(),
                ..unavailable("", Flags::UPSTREAM_CONNECTION_FAILURE)
            },
            Failure::Connect(ConnectError::Failed(_)) => unavailable(
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
                Flags::UPSTREAM_CONNECTION_FAILURE,
            ),
            Failure::Connect(ConnectError::Timeout) => unavailable(
                "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
                Flags::UPSTREAM_CONNECTION_FAILURE,
            ),
            Failure::Closed => unavailable(
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
                Flags::UPSTREAM_TERMINATION,
            ),
            Failure::Reset { .. } => unavailable(
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset",
                Flags::UPSTREAM_RESET,
            ),
            Failure::Overflow => unavailable(
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                Flags::UPSTREAM_OVERFLOW,
            ),
            Failure::NoHealthyHost => unavailable("no healthy upstream", Flags::NO_HEALTHY_UPSTREAM),
            Failure::Protocol => Answer::new(
                S::BAD_GATEWAY,
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
                Flags::UPSTREAM_PROTOCOL_ERROR,
            ),
            Failure::Timeout => Answer::new(S::GATEWAY_TIMEOUT, "upstream request timeout", Flags::UPSTREAM_TIMEOUT),
            Failure::Body(BodyError::Malformed) => Answer::new(S::BAD_REQUEST, "", Flags::DOWNSTREAM_PROTOCOL_ERROR),
            Failure::Body(_) => Answer::new(S::BAD_REQUEST, "", Flags::DOWNSTREAM_TERMINATION),
        }
    }
}
