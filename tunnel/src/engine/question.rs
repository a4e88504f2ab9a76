//! What somebody asks: may this one reach that one? Names and addresses are found in the mesh as it is in force.
use crate::base::{Identity, NotAnIdentity, PodKey};
use crate::http::Normalization;
use crate::mesh::{Mesh, Service, ServiceKey, TunnelProtocol, Workload};
use crate::policy::{Attempt, Port, Request};
use crate::routes::{self, Values, Variable, Weighted};
use ::http::header::{HeaderMap, HeaderName, HeaderValue, HOST};
use ::http::uri::PathAndQuery;
use ::http::Method;
use serde::Serialize;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Who asks is in plain text.
const PLAIN: &str = "plain";

/// `from`: a pod (`namespace/name`, or a name in `default`; that of its Deployment will do), an address, a SPIFFE identity, or
/// `plain`. `to`: a pod of this node, by name or address, or a Service of one. `address`: that of `from`, where it is an identity or `plain`.
pub struct Question<'a> {
    pub from: &'a str,
    pub to: &'a str,
    /// None: each that is known of the pod.
    pub port: Option<u16>,
    pub address: Option<&'a str>,
    pub request: Option<RequestQuestion>,
}

/// A request over the connection that is meant: method, path with its query, and header fields.
pub struct RequestQuestion {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// The same as policies see it.
#[derive(Clone)]
pub struct Asked {
    method: Method,
    host: String,
    path: PathAndQuery,
    headers: HeaderMap,
}

impl RequestQuestion {
    /// `host`: where no header names one.
    pub fn checked(&self, host: &str) -> Result<Asked, String> {
        let method = Method::from_bytes(self.method.as_bytes());
        let path = PathAndQuery::try_from(&*self.path).ok().filter(|path| path.as_str().starts_with('/'));
        let mut headers = fields(&self.headers)?;
        let named = headers.remove(HOST).and_then(|host| host.to_str().map(str::to_owned).ok());
        Ok(Asked {
            method: method.map_err(|_| format!("{:?} is no method, such as GET", self.method))?,
            path: path
                .and_then(|path| Normalization::default().of(&path))
                .ok_or_else(|| format!("{:?} is no path, such as /cart?item=1", self.path))?,
            host: named.unwrap_or_else(|| host.to_owned()),
            headers,
        })
    }
}

impl Asked {
    /// As a route sends it on: the new path is without the query.
    pub fn changed(&self, weighted: &Weighted, path: Option<&str>, port: u16) -> Asked {
        let mut sent = self.clone();
        for changes in &weighted.request {
            let before = sent.clone();
            changes.apply(&mut sent.headers, &Unconnected(before.routed(port)));
        }
        if let Some(path) = path.and_then(|path| PathAndQuery::try_from(path).ok()) {
            sent.path = path;
        }
        if let Some(authority) = &weighted.authority {
            sent.host = authority.to_string();
        }
        sent
    }

    /// As routes see it.
    fn routed(&self, port: u16) -> routes::Request<'_> {
        routes::Request {
            method: &self.method,
            scheme: "http",
            authority: &self.host,
            path: self.path.path(),
            query: self.path.query(),
            headers: &self.headers,
            port,
        }
    }

    /// `remote`: whose it is.
    pub fn request(&self, remote: IpAddr) -> Request<'_> {
        Request {
            method: self.method.as_str(),
            authority: &self.host,
            path: self.path.path(),
            headers: &self.headers,
            remote,
            token: None,
        }
    }
}

/// What headers may be set to of a request that nobody has sent: what a connection has is not known.
struct Unconnected<'a>(routes::Request<'a>);

impl Values for Unconnected<'_> {
    fn request(&self) -> routes::Request<'_> {
        self.0
    }

    fn response(&self) -> Option<&HeaderMap> {
        None
    }

    fn variable(&self, _: Variable) -> Option<String> {
        None
    }
}

/// Errors name what is no header.
pub fn fields(given: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("{value:?} is no value of a header"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Who is asked.
struct Destination {
    workload: Arc<Workload>,
    addresses: Vec<IpAddr>,
    /// The Service that was asked for, in whose place this workload stands.
    service: Option<String>,
}

/// Who asks.
struct Caller {
    name: Option<String>,
    identity: Option<Arc<Identity>>,
    addresses: Vec<IpAddr>,
    /// Nobody said from where; `addresses` match no rule.
    no_address: bool,
}

/// The answer's JSON, with the fields of protocols/admin.py.
#[derive(Serialize)]
struct Answer<'a> {
    source: Party,
    destination: Party,
    assumed: Assumed<'a>,
    ports: Vec<Port<'a>>,
}

#[derive(Serialize)]
struct Party {
    name: Option<String>,
    address: Option<String>,
    identity: Option<String>,
}

/// What was not said and is taken for given.
#[derive(Serialize)]
struct Assumed<'a> {
    default_namespace: Vec<&'a str>,
    service: Option<String>,
    no_address: bool,
}

impl Question<'_> {
    /// A JSON object: who asks and whom, what was assumed, and for each port what policies say and why. `pods` are those of
    /// this node. Errors say what to ask instead.
    pub fn answer(&self, mesh: &Mesh, pods: &[PodKey]) -> Result<Value, String> {
        let Destination { workload, addresses: asked, service } = self.destination(mesh, pods)?;
        let caller = self.caller(mesh, &workload)?;
        let (source, destination) = one_family(&caller.addresses, &asked).ok_or_else(|| {
            format!(
                "{} and {} have no addresses of one family: {:?}, {:?}",
                self.from, self.to, caller.addresses, asked
            )
        })?;
        let ports = self.port.map_or_else(|| ports(mesh, &workload), |port| BTreeSet::from([port]));
        if ports.is_empty() {
            return Err(format!("no Service leads to {}, so that no port of it is known: give --port", self.to));
        }
        let guard = mesh.guard(&workload.key()).ok_or_else(|| format!("{} is gone: ask again", self.to))?;
        let host = service.as_deref().map_or(self.to, |service| service.rsplit('/').next().unwrap_or(service));
        let asked = self.request.as_ref().map(|request| request.checked(host)).transpose()?;
        let request = asked.as_ref().map(|asked| asked.request(source));
        let attempts = ports.iter().map(|port| {
            let destination = SocketAddr::new(destination, *port);
            (*port, guard.explain(&Attempt { peer: caller.identity.clone(), source, destination, door: None }, request))
        });
        let explanations: Vec<_> = attempts.collect();
        let answer = Answer {
            source: Party {
                name: caller.name,
                address: (!caller.no_address).then(|| source.to_string()),
                identity: caller.identity.as_ref().map(ToString::to_string),
            },
            destination: Party { name: Some(name(&workload)), address: Some(destination.to_string()), identity: None },
            assumed: Assumed { default_namespace: self.bare_names(), service, no_address: caller.no_address },
            ports: explanations.iter().map(|(port, explanation)| explanation.of_port(*port)).collect(),
        };
        serde_json::to_value(answer).map_err(|error| error.to_string())
    }

    /// Those that are looked up in the namespace `default`.
    fn bare_names(&self) -> Vec<&str> {
        let bare = |text: &&str| !text.contains('/') && *text != PLAIN && text.parse::<IpAddr>().is_err();
        [self.from, self.to].into_iter().filter(bare).collect()
    }

    /// The pod of this node, and its addresses, or the one that was asked for.
    fn destination(&self, mesh: &Mesh, pods: &[PodKey]) -> Result<Destination, String> {
        let address = self.to.parse::<IpAddr>().map(|ip| ip.to_canonical()).ok();
        let local = || pods.iter().filter_map(|key| mesh.local(key));
        let meant = |workload: &Workload| match address {
            Some(ip) => workload.owns(ip).then_some(Named::Pod),
            None => named(workload, self.to),
        };
        if let Some(workload) = best(local(), meant) {
            let addresses = address.map_or_else(|| workload.addresses.to_vec(), |ip| vec![ip]);
            return Ok(Destination { workload: workload.clone(), addresses, service: None });
        }
        let behind = |key: &ServiceKey| best(local(), |one| one.is_of(key).then_some(()));
        let service = mesh.services().find(|one| one.is_named(self.to));
        if let Some((service, workload)) = service.and_then(|one| Some((one, behind(&one.key)?))) {
            let service = Some(format!("{}/{}", service.key.namespace(), service.name));
            return Ok(Destination { workload: workload.clone(), addresses: workload.addresses.to_vec(), service });
        }
        let named = best(mesh.workloads(), meant).filter(|workload| !workload.node.is_empty());
        let serving = |key: &ServiceKey| best(mesh.workloads(), |one| one.is_of(key).then_some(()));
        let elsewhere = named.or_else(|| serving(&service?.key));
        let node = elsewhere.map(|workload| format!("; ask on {}, where it runs", workload.node)).unwrap_or_default();
        let mut known: Vec<_> = local().map(|workload| name(workload)).collect();
        known.sort_unstable();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(format!("{} is no pod or Service of the mesh on this node{node}: pods are {known}", self.to))
    }

    fn caller(&self, mesh: &Mesh, local: &Workload) -> Result<Caller, String> {
        if self.from == PLAIN {
            return self.somewhere(None);
        }
        if self.from.starts_with("spiffe://") {
            let identity = self.from.parse().map_err(|error: NotAnIdentity| error.to_string())?;
            return self.somewhere(Some(Arc::new(identity)));
        }
        if self.address.is_some() {
            return Err(format!("--address is for an identity or \"{PLAIN}\"; {} has its own", self.from));
        }
        if let Ok(ip) = self.from.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            let found = mesh.workload_at(&local.network, ip);
            return Ok(Caller { addresses: vec![ip], ..found.map_or_else(Caller::stranger, |one| Caller::of(one)) });
        }
        let (namespace, wanted) = split(self.from);
        let found = best(mesh.workloads(), |one| named(one, self.from).map(|how| (how, one.is_pod())));
        found.map(|workload| Caller::of(workload)).ok_or_else(|| {
            format!(
                "{namespace}/{wanted} is not known to this node's tunnel; give its address, or its identity: \
                 spiffe://<trust domain>/ns/{namespace}/sa/<service account>"
            )
        })
    }

    /// Somebody of this identity, at the address that was given.
    fn somewhere(&self, identity: Option<Arc<Identity>>) -> Result<Caller, String> {
        let wrong =
            |_| format!("--address {:?} is no address, such as 10.0.0.1 or fd00::1", self.address.unwrap_or(""));
        let address = self.address.map(str::parse::<IpAddr>).transpose().map_err(wrong)?;
        let nowhere = || vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Ok(Caller {
            name: None,
            identity,
            addresses: address.map_or_else(nowhere, |ip| vec![ip.to_canonical()]),
            no_address: address.is_none(),
        })
    }
}

impl Caller {
    /// Through a tunnel it comes with its identity, else in plain text.
    fn of(workload: &Workload) -> Caller {
        Caller {
            name: Some(name(workload)),
            identity: (workload.tunnel == TunnelProtocol::Hbone).then(|| workload.identity.clone()),
            addresses: workload.addresses.to_vec(),
            no_address: false,
        }
    }

    fn stranger() -> Caller {
        Caller { name: None, identity: None, addresses: vec![], no_address: false }
    }
}

impl Workload {
    fn is_of(&self, service: &ServiceKey) -> bool {
        self.services.iter().any(|(key, _)| key == service)
    }
}

impl Service {
    /// Whether `namespace/name` is it, or a name in `default`, or a hostname.
    pub fn is_named(&self, text: &str) -> bool {
        let (namespace, wanted) = split(text);
        self.key.hostname() == text || (self.key.namespace() == namespace && *self.name == *wanted)
    }
}

pub fn name(workload: &Workload) -> String {
    format!("{}/{}", workload.identity.namespace, workload.name)
}

/// How a workload goes by a name; the better one is the greater one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// It is of the Deployment of that name.
    Of,
    Pod,
}

pub fn named(workload: &Workload, text: &str) -> Option<Named> {
    let (namespace, wanted) = split(text);
    match *workload.identity.namespace == *namespace {
        true if *workload.name == *wanted => Some(Named::Pod),
        true if *workload.app.workload == *wanted => Some(Named::Of),
        _ => None,
    }
}

/// The one that fits best, the first by its name.
pub fn best<'a, T: Ord>(
    workloads: impl Iterator<Item = &'a Arc<Workload>>,
    fits: impl Fn(&Workload) -> Option<T>,
) -> Option<&'a Arc<Workload>> {
    let fitting = workloads.filter_map(|one| Some((fits(one)?, Reverse(&one.name), one)));
    fitting.max_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1))).map(|(_, _, workload)| workload)
}

/// Namespace and name.
fn split(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("default", text))
}

/// An address of each, the first ones that fit.
pub fn one_family(sources: &[IpAddr], destinations: &[IpAddr]) -> Option<(IpAddr, IpAddr)> {
    let fitting = |to: &IpAddr| sources.iter().find(|from| from.is_ipv4() == to.is_ipv4()).map(|from| (*from, *to));
    destinations.iter().find_map(fitting)
}

/// To which its Services lead.
pub fn ports(mesh: &Mesh, workload: &Workload) -> BTreeSet<u16> {
    let services = workload.services.iter().filter_map(|(key, _)| mesh.service(key.text()));
    let targets =
        services.flat_map(|one| one.ports.iter().filter_map(move |port| workload.target_port(one, port.service)));
    targets.collect()
}

#[cfg(test)]
mod tests;
