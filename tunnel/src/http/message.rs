//! A request and a response, the same for both versions of HTTP. What belongs to one hop only (RFC 9110 section 7.6.1)
//! is not in their fields: codecs take it away, and write what their own hop needs.
use super::body::Body;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Takes interim responses (1xx) to the client.
pub trait Interim {
    fn send(&self, status: StatusCode, headers: &HeaderMap);
}

/// A connection that carries no more HTTP: behind a 101, or a 2xx to CONNECT.
pub trait Tunnel: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Tunnel for T {}

/// Without `Host`, which is the authority.
pub struct Request {
    pub method: Method,
    pub scheme: Scheme,
    pub authority: Authority,
    /// `/` for CONNECT, which has none; `*` for OPTIONS of a whole server.
    pub path: PathAndQuery,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Body,
    /// The protocol to which the client would switch: `Upgrade`, or `:protocol` of an extended CONNECT.
    pub upgrade: Option<HeaderValue>,
    pub interim: Option<Rc<dyn Interim>>,
}

impl Request {
    /// Whether a success makes a tunnel of the connection.
    pub fn wants_tunnel(&self) -> bool {
        self.upgrade.is_some() || self.method == Method::CONNECT
    }
}

pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
    /// Instead of a body, where the server has switched.
    pub tunnel: Option<Box<dyn Tunnel>>,
    /// Told what became of it; dropped untold when the client was gone before its end.
    pub ticket: Option<Box<dyn Ticket>>,
}

pub trait Ticket {
    fn sent(self: Box<Self>);

    /// Its body broke off.
    fn broken(self: Box<Self>);
}

impl Response {
    pub fn new(status: StatusCode, body: impl Into<Body>) -> Response {
        Response { status, headers: HeaderMap::new(), body: body.into(), tunnel: None, ticket: None }
    }
}
