//! gRPC as a client, by its PROTOCOL-HTTP2: how the control side asks the agent, the authority and collectors. All calls run in
//! one thread of their own, so that a push of a whole mesh is in the way of no connection.
mod call;
mod message;
mod server;
mod status;

pub use call::{Call, Event};
pub use message::{framed, PREFIX};
pub use status::Status;

use bytes::Bytes;
use call::within;
use h2::client::SendRequest;
use http::header::{HeaderMap, HeaderName, HeaderValue, CONTENT_TYPE, TE, USER_AGENT};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Version};
use server::Server;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

/// For a connection and its TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// A server, with the connection that there is to it.
pub struct Channel {
    server: Server,
    /// None until the first call, and after one that went wrong.
    connection: tokio::sync::Mutex<Option<SendRequest<Bytes>>>,
}

impl Channel {
    /// `url`: `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`, where `roots` (PEM; None: the system's) vouch for the
    /// server. Errors: what cannot be used.
    pub fn new(url: &str, roots: Option<&[u8]>) -> Result<Arc<Channel>, String> {
        Ok(Arc::new(Channel { server: Server::new(url, roots)?, connection: Default::default() }))
    }

    /// Connects, where there is no connection: the call ends when there is one.
    pub fn connect(self: &Arc<Self>, deadline: Option<Duration>) -> io::Result<Call> {
        let channel = self.clone();
        let connected = async move { channel.ready().await.map(drop) };
        Call::spawn(&runtime()?, None, |_, _| within(deadline, connected))
    }

    /// Calls a method (`/package.Service/Method`). With a `message` that is the whole request, else there are some to be sent.
    pub fn call(
        self: &Arc<Self>,
        method: &str,
        metadata: &[(String, String)],
        deadline: Option<Duration>,
        message: Option<&[u8]>,
    ) -> io::Result<Call> {
        let (channel, head) = (self.clone(), self.head(method, metadata, deadline));
        Call::spawn(&runtime()?, message, |requests, answers| async move {
            let work = async { call::run(channel.ready().await?, head?, requests, &answers).await };
            let ended = within(deadline, work).await;
            if ended.as_ref().is_err_and(Status::is_of_connection) {
                // Locked: another call is about to connect.
                drop(channel.connection.try_lock().map(|mut connection| connection.take()));
            }
            ended
        })
    }

    /// The connection, with room for one more call.
    async fn ready(&self) -> Result<SendRequest<Bytes>, Status> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.take() {
            // It fails where the server has closed it, or said that it will.
            if let Ok(sender) = sender.ready().await {
                return Ok(connection.insert(sender).clone());
            }
        }
        let late = |_| Err(Status::unavailable("no connection within 10 s"));
        let sender = timeout(CONNECT, self.server.connect()).await.unwrap_or_else(late)?;
        Ok(connection.insert(sender).clone())
    }

    fn head(
        &self,
        method: &str,
        metadata: &[(String, String)],
        deadline: Option<Duration>,
    ) -> Result<Request<()>, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("warren/", env!("CARGO_PKG_VERSION"))));
        if let Some(deadline) = deadline {
            // Its number has at most eight digits: a day in milliseconds.
            let text = format!("{}m", deadline.as_millis().clamp(1, 86_400_000));
            headers.insert("grpc-timeout", text.try_into().expect("digits and a letter are a value"));
        }
        for (name, value) in metadata {
            let field = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            let (name, value) = field.ok_or_else(|| Status::cannot_send(name))?;
            headers.append(name, value);
        }
        let mut uri = http::uri::Parts::default();
        (uri.scheme, uri.authority) = (Some(self.server.scheme()), Some(self.server.authority.clone()));
        uri.path_and_query = Some(PathAndQuery::try_from(method).map_err(|_| Status::cannot_send(method))?);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Status::cannot_send(method))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Where calls run: begins with the first one, and goes on until the process ends.
fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);
    let mut known = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*known {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = known.insert(runtime.handle().clone()).clone();
    thread::Builder::new().name("warren-grpc".into()).spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}
