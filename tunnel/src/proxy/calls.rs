//! Calls that the tunnel makes itself: of services that policies ask, on behalf of the pod whose policies they are, with its
//! identity and over its connections.
use super::Proxy;
use crate::external::{Reply, LONGEST};
use crate::http::{ClientPod, Downstream, Drain, Frame, Request, Response, Session};
use crate::node::Pod;
use crate::policy::Remote;
use crate::routes::{Labels, Scope};
use bytes::BytesMut;
use http::uri::Authority;
use http::HeaderMap;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::timeout;

/// How services are called, once they were.
#[derive(Default)]
pub struct Called(RefCell<HashMap<Key, Arc<Scope>>>);

/// The service's name, its port, and whether it is called by HTTP/2.
type Key = (Arc<str>, u16, bool);

impl Called {
    fn scope(&self, remote: &Remote, http2: bool) -> Arc<Scope> {
        let key = (remote.service.clone(), remote.port, http2);
        let new = || {
            let namespace = remote.service.split_once('/').map_or("", |(namespace, _)| namespace);
            Arc::new(Scope::calling(namespace, &remote.hostname, remote.port, http2))
        };
        self.0.borrow_mut().entry(key).or_insert_with(new).clone()
    }
}

/// As it is called.
pub fn authority(remote: &Remote) -> Result<Authority, String> {
    if !remote.problem.is_empty() {
        return Err(remote.problem.to_string());
    }
    format!("{}:{}", remote.hostname, remote.port).parse().map_err(|_| format!("{} is no host name", remote.hostname))
}

/// Sends a request, and reads the answer, within the time that there is. Errors: why there is none.
pub async fn call(proxy: &Rc<Proxy>, pod: &Rc<Pod>, remote: &Remote, request: Request) -> Result<Reply, String> {
    if !remote.problem.is_empty() {
        return Err(remote.problem.to_string());
    }
    if serves(proxy, pod, &remote.service) {
        return Err(format!("{}: it would be asked about questions to itself", remote.hostname));
    }
    let scope = proxy.called.scope(remote, request.version == http::Version::HTTP_2);
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, remote.port));
    let downstream = Downstream {
        pod: Arc::new(ClientPod {
            namespace: pod.identity.namespace.as_ref().into(),
            labels: Arc::new(Labels::default()),
        }),
        service: Arc::default(), // of which no routes are known: the scope holds
        port: remote.port,
        source: nobody,
        original: nobody,
        edge: None,
    };
    let session = Session::new(downstream, scope, Drain::default());
    let router = proxy.routers.of(proxy, pod);
    // A gateway's own requests call as well: without the box its future would hold itself.
    let handled: Pin<Box<dyn Future<Output = Response> + '_>> = Box::pin(router.handle(&session, request));
    let answered = async {
        proxy.service_on_demand(&remote.service).await;
        whole(handled.await).await
    };
    let late = |_| Err(format!("no answer within {} ms", remote.timeout.as_millis()));
    let answered = timeout(remote.timeout, answered).await.unwrap_or_else(late);
    answered.map_err(|why| format!("{}:{}: {why}", remote.hostname, remote.port))
}

fn serves(proxy: &Proxy, pod: &Pod, service: &str) -> bool {
    let mesh = proxy.shared.mesh.load();
    mesh.local(&pod.key).is_some_and(|own| own.services.iter().any(|(key, _)| **key.text() == *service))
}

async fn whole(response: Response) -> Result<Reply, String> {
    let Response { status, headers, mut body, ticket, .. } = response;
    let (mut read, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(Frame::Data(bytes)) if read.len() + bytes.len() > LONGEST => {
                return Err(format!("its answer has more than {LONGEST} bytes"));
            }
            Ok(Frame::Data(bytes)) => read.extend_from_slice(&bytes),
            Ok(Frame::Trailers(fields)) => trailers = fields,
            Err(error) => {
                ticket.into_iter().for_each(|ticket| ticket.broken());
                return Err(format!("its answer broke off: {error:?}"));
            }
        }
    }
    ticket.into_iter().for_each(|ticket| ticket.sent());
    Ok(Reply { status, headers, body: read.freeze(), trailers })
}
