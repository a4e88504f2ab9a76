//! What happens to requests, for those who ask: the routes in force, and why a request is routed as it is.
use super::question::{self, best, fields, name, named};
use super::{lock, Core};
use crate::base::PodKey;
use crate::decision::Routed;
use crate::http::Normalization;
use crate::mesh::{Mesh, Service, Workload};
use crate::routes::{Action, Balancing, Client, Connection, Decision, Destination, MILLION};
use crate::routes::{PortRoutes, Request, Scope, Target};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method};
use serde_json::{json, Value};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A request that somebody might send. `from`: a pod of this node (`namespace/name`, or a name in `default`; that of its Deployment
/// will do).
pub struct RouteQuestion<'a> {
    pub from: &'a str,
    pub method: &'a str,
    /// `http://host[:port]/path?query`; the host as the pod would call it, or an address.
    pub url: &'a str,
    pub headers: Vec<(String, String)>,
}

impl Core {
    /// The routes in force, as a JSON array; of one service (a name as a pod would call it, or `namespace/hostname`), or of all.
    pub fn routes(&self, service: Option<&str>) -> Result<String, String> {
        let mesh = self.mesh();
        let mut all = vec![];
        mesh.all_routes(|routes| all.push(routes.clone()));
        all.sort_unstable_by(|one, other| one.service.cmp(&other.service));
        if let Some(wanted) = service {
            let (namespace, host) = wanted.split_once('/').unwrap_or(("default", wanted));
            let found = service_of(&mesh, "", host, namespace).ok_or_else(|| unknown_service(wanted))?;
            all.retain(|routes| *routes.service == **found.key.text());
        }
        Ok(Value::from_iter(all.iter().map(|routes| routes.json())).to_string())
    }

    /// What this gateway listens on, as a JSON object. Errors: it is none, or has not been told yet.
    pub fn gateway_listeners(&self) -> Result<String, String> {
        let mesh = self.mesh();
        let listeners =
            mesh.listeners().ok_or("this process is no gateway, or its agent has told it of no listeners")?;
        Ok(listeners.json().to_string())
    }

    /// Which rule decides about a request, and why no earlier one does, as JSON. Errors say what to ask instead.
    pub fn explain_route(&self, question: &RouteQuestion<'_>) -> Result<String, String> {
        let pods: Vec<PodKey> = lock(&self.pods).values().map(|pod| pod.key.clone()).collect();
        question.answer(&self.mesh(), &pods, self.http.normalization).map(|answer| answer.to_string())
    }
}

impl RouteQuestion<'_> {
    fn answer(&self, mesh: &Mesh, pods: &[PodKey], paths: Normalization) -> Result<Value, String> {
        let source = self.source(mesh, pods)?;
        Ok(self.asked(mesh, source, paths)?.explain(mesh, source))
    }

    /// What `source` asks for.
    pub(super) fn asked<'m>(
        &self,
        mesh: &'m Mesh,
        source: &Workload,
        paths: Normalization,
    ) -> Result<Asked<'m>, String> {
        let uri: Uri = self.url.parse().map_err(|_| self.wrong_url())?;
        let absolute = uri.scheme().and(uri.host().zip(uri.authority()));
        let (host, authority) = absolute.ok_or_else(|| self.wrong_url())?;
        let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let namespace = &source.identity.namespace;
        let service = service_of(mesh, &source.network, bare, namespace).ok_or_else(|| unknown_service(host))?;
        let target = uri.path_and_query().and_then(|path| paths.of(path)).ok_or_else(|| self.wrong_url())?;
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| format!("{:?} is no method, such as GET", self.method))?;
        let (authority, headers) = (authority.to_string(), fields(&self.headers)?);
        let (scheme, routes) = (uri.scheme_str().unwrap_or("http").to_owned(), mesh.routes(service.key.text(), port));
        Ok(Asked { service, routes, method, scheme, authority, target, headers, port })
    }

    pub(super) fn source<'a>(&self, mesh: &'a Mesh, pods: &[PodKey]) -> Result<&'a Arc<Workload>, String> {
        let local = || pods.iter().filter_map(|key| mesh.local(key));
        best(local(), |workload| named(workload, self.from)).ok_or_else(|| {
            let mut known: Vec<_> = local().map(|workload| name(workload)).collect();
            known.sort_unstable();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!(
                "{} is no pod of the mesh on this node, whose tunnel routes what its pods send: pods are {known}",
                self.from
            )
        })
    }

    fn wrong_url(&self) -> String {
        format!("{:?} is no URL, such as http://reviews:9080/ratings?page=1", self.url)
    }
}

/// A request for a service, and the routes of its port.
pub(super) struct Asked<'m> {
    service: &'m Arc<Service>,
    routes: Option<&'m Arc<PortRoutes>>,
    method: Method,
    scheme: String,
    authority: String,
    target: PathAndQuery,
    headers: HeaderMap,
    port: u16,
}

impl Asked<'_> {
    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: self.target.path(),
            query: self.target.query(),
            headers: &self.headers,
            port: self.port,
        }
    }

    /// Which rule decides, and where it leads.
    pub fn explain(&self, mesh: &Mesh, source: &Workload) -> Value {
        let (service, port) = (self.service, self.port);
        let told = match self.routes {
            Some(routes) => routed(mesh, source, routes, service, &self.request()),
            None => {
                json!({ "destinations": [endpoints(mesh, source, service, &of_itself(service, port), MILLION.into())] })
            }
        };
        json!({
            "from": name(source),
            "service": &**service.key.text(),
            "port": port,
            "routes": told,
            "routed": self.routes.is_some(),
        })
    }

    /// Where it may go, and as what `request` gets there: nowhere where no rule forwards it.
    pub fn targets(&self, source: &Workload, request: &question::Asked) -> Vec<(Target, question::Asked)> {
        let Some(port) = self.routes else { return vec![(of_itself(self.service, self.port), request.clone())] };
        let client = Routed::client(source);
        let scope = scope(port, &client, &self.request());
        if !port.is_http() {
            let shares = shares(port, scope, &client, self.service, &self.request());
            return shares.into_iter().map(|(target, _)| (target.clone(), request.clone())).collect();
        }
        let Decision::Forward(forwarded) = scope.decide(&client, &self.request(), |_| 0) else { return vec![] };
        let path = forwarded.path.as_deref();
        let shares = forwarded.forward.split.shares().iter();
        shares.map(|share| (share.what.target.clone(), request.changed(&share.what, path, self.port))).collect()
    }
}

fn unknown_service(name: &str) -> String {
    format!("no Service or ServiceEntry {name} is known to this node's tunnel")
}

/// The service that a client in `namespace` means: by its hostname or the beginning of it that Kubernetes' DNS takes, by a wildcard
/// over it, or by an address.
pub(super) fn service_of<'a>(mesh: &'a Mesh, network: &str, host: &str, namespace: &str) -> Option<&'a Arc<Service>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return mesh.service_at(network, ip.to_canonical(), namespace);
    }
    let begins = |beginning: String| mesh.services().find(|service| service.key.hostname().starts_with(&beginning));
    mesh.service_named(host, namespace)
        .or_else(|| begins(format!("{host}.{namespace}.svc.")))
        .or_else(|| begins(format!("{host}.svc.")))
        .or_else(|| begins(format!("{host}.")).filter(|_| host.ends_with(".svc")))
        .or_else(|| mesh.named(&host.to_ascii_lowercase(), namespace))
}

/// Without routes.
fn of_itself(service: &Service, port: u16) -> Target {
    Target::Destination(Arc::new(Destination::of(service.key.text().clone(), port)))
}

fn routed(mesh: &Mesh, source: &Workload, port: &PortRoutes, service: &Service, request: &Request<'_>) -> Value {
    let client = Routed::client(source);
    let scope = scope(port, &client, request);
    let mut told = match port.is_http() {
        true => scope.explain(&client, request),
        false => scope.explain_connection(&client, &connection(service, request)),
    };
    let told_of = |(target, parts): (&Target, u64)| endpoints(mesh, source, service, target, parts);
    let shares = shares(port, scope, &client, service, request);
    told["destinations"] = shares.into_iter().map(told_of).collect::<Vec<_>>().into();
    told["protocol"] = format!("{:?}", port.protocol).to_uppercase().into();
    told["clients"] = scope.clients();
    told
}

fn scope<'a>(port: &'a PortRoutes, client: &Client<'_>, request: &Request<'_>) -> &'a Scope {
    match port.is_http() {
        true => port.scope_of(client, host(request)),
        false => port.scope(client),
    }
}

fn host<'a>(request: &Request<'a>) -> &'a str {
    request.authority.split(':').next().unwrap_or_default()
}

fn connection<'a>(service: &Service, request: &Request<'a>) -> Connection<'a> {
    let destination = service.vips.first().map_or_else(|| IpAddr::from([0, 0, 0, 0]), |vip| vip.ip);
    Connection { destination, port: request.port, sni: Some(host(request)) }
}

/// Where requests that the same rule takes go, with the parts of a million that do.
fn shares<'a>(
    port: &PortRoutes,
    scope: &'a Scope,
    client: &Client<'_>,
    service: &Service,
    request: &Request<'_>,
) -> Vec<(&'a Target, u64)> {
    if !port.is_http() {
        let rule = scope.connections.iter().find(|rule| rule.holds(client, &connection(service, request)));
        let split = rule.into_iter().flat_map(|rule| rule.split.shares().iter().map(|share| (share, &rule.split)));
        return split.map(|(share, split)| (&share.what, split.parts(share))).collect();
    }
    match scope.find(client, request).map(|(rule, _)| &scope.http[rule].action) {
        Some(Action::Forward(forward)) => {
            let split = &forward.split;
            split.shares().iter().map(|share| (&share.what.target, split.parts(share))).collect()
        }
        _ => vec![],
    }
}

/// A destination with the endpoints that it may use, or why there are none.
fn endpoints(mesh: &Mesh, source: &Workload, service: &Service, target: &Target, parts: u64) -> Value {
    let mut told = target.json();
    told["percent"] = (parts as f64 * 100.0 / f64::from(MILLION)).into();
    let Target::Destination(destination) = target else { return told };
    told["policy"] = destination.json();
    let unknown = match destination.policy.balancing {
        Balancing::Passthrough => Some("PASSTHROUGH: the address that the client calls"),
        Balancing::DynamicDns => Some("DYNAMIC_DNS: the addresses of the host that the client names"),
        _ => None,
    };
    if let Some(unknown) = unknown {
        told["endpoints"] = json!([]);
        told["missing"] = unknown.into();
        return told;
    }
    let ip = service.vips.first().map_or_else(|| source.addresses[0], |vip| vip.ip);
    match mesh.eligible(source, destination, SocketAddr::new(ip, destination.port)) {
        Ok(eligible) => {
            let endpoint = |one: &crate::mesh::Eligible<'_>| {
                json!({
                    "pod": name(one.chosen.workload),
                    "address": SocketAddr::new(one.chosen.ip, one.chosen.port).to_string(),
                    "weight": one.weight,
                    "priority": one.priority,
                })
            };
            told["endpoints"] = eligible.iter().map(endpoint).collect::<Vec<_>>().into();
        }
        Err(missing) => {
            told["endpoints"] = json!([]);
            told["missing"] = missing.to_string().into();
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::proto;
    use crate::mesh::testing::*;
    use crate::routes::proto::SERVICE_ROUTES;
    use crate::routes::testing::{rule, scope};

    fn a_mesh() -> Mesh {
        let web = service("web", &["10.1.0.1"]);
        let labels = [("version".to_owned(), "v1".to_owned())].into();
        let one = proto::Workload { labels, ..pod("one", &["10.0.0.2"]) }.of(&web, &[]);
        let mesh = mesh([resource(web.clone()), resource(pod("client-1", &["10.0.0.1"])), resource(one)]);
        let to = |subset: &str| crate::routes::proto::Destination {
            namespace: "default".into(),
            hostname: web.hostname.clone(),
            port: 80,
            subset: subset.into(),
            labels: [("version".into(), subset.into())].into(),
            ..Default::default()
        };
        let jason = rule("jason", &["h:end-user=jason"]);
        let normal = rule("normal", &["exact:/normal"]);
        let rest = crate::routes::proto::HttpRule {
            origin: "VirtualService default/web".into(),
            action: Some(crate::routes::testing::to(&[(0, 90), (1, 10)])),
            ..rule("rest", &["prefix:/"])
        };
        let sent =
            crate::routes::proto::Scope { destinations: vec![to("v1"), to("v2")], ..scope(vec![jason, normal, rest]) };
        let protocol = crate::routes::proto::Protocol::Http.into();
        let ports = vec![crate::routes::proto::PortRoutes { port: 80, protocol, scopes: vec![sent], hosts: vec![] }];
        let (namespace, hostname) = ("default".into(), web.hostname.clone());
        let routes = crate::routes::proto::ServiceRoutes { namespace, hostname, ports };
        mesh.apply(SERVICE_ROUTES, [self::sent(SERVICE_ROUTES, &key(&web), &routes)], &[]).0
    }

    fn asked(url: &str, headers: &[(&str, &str)]) -> Result<Value, String> {
        let mesh = a_mesh();
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let pods = [mesh.pod("client-1").key()];
        RouteQuestion { from: "client-1", method: "GET", url, headers }.answer(&mesh, &pods, Normalization::default())
    }

    #[test]
    fn the_rule_and_the_reasons_of_the_earlier_ones_are_told() {
        let told = asked("http://web/x", &[]).unwrap();
        assert_eq!(
            (&told["routed"], &told["service"]),
            (&true.into(), &"default/web.default.svc.cluster.local".into())
        );
        let routes = &told["routes"];
        assert_eq!(routes["rule"]["told"]["origin"], "VirtualService default/web");
        assert_eq!(routes["rule"]["told"]["matches"], json!([["path is '/...'"]]));
        assert_eq!(
            routes["earlier"],
            json!([
                { "name": "jason", "origin": "", "mismatches": ["header end-user is missing"] },
                { "name": "normal", "origin": "", "mismatches": ["path is not '/normal'"] },
            ])
        );
        let [one, other] = [0, 1].map(|place| &routes["destinations"][place]);
        assert_eq!((&one["percent"], &one["endpoints"][0]["address"]), (&90.0.into(), &"10.0.0.2:8080".into()));
        assert_eq!(
            (&other["endpoints"], &other["missing"]),
            (&json!([]), &"the service has no healthy endpoint".into())
        );
    }

    #[test]
    fn headers_and_names_of_hosts_count() {
        let told = asked("http://web/a/../normal", &[]).unwrap();
        assert_eq!(told["routes"]["rule"]["route"], "normal", "the path is normalised as that of a request");
        for host in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "10.1.0.1"] {
            let told = asked(&format!("http://{host}:80/x"), &[("end-user", "jason")]).unwrap();
            assert_eq!(told["routes"]["rule"]["route"], "jason", "{host}");
        }
        let told = asked("http://web:81/", &[]).unwrap();
        assert_eq!(
            (&told["routed"], &told["routes"]["destinations"][0]["missing"]),
            (&false.into(), &"the service has no such port".into())
        );
    }

    #[test]
    fn what_cannot_be_answered_is_told_with_a_remedy() {
        for (url, reason) in [("x", "no URL"), ("http://nobody/", "no Service or ServiceEntry nobody"), ("", "no URL")]
        {
            let error = asked(url, &[]).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(asked("http://web/", &[("a b", "c")]).unwrap_err().contains("no name of a header"));
        let mesh = a_mesh();
        let question = RouteQuestion { from: "far", method: "GET", url: "http://web/", headers: vec![] };
        let error = question.answer(&mesh, &[mesh.pod("client-1").key()], Normalization::default()).unwrap_err();
        assert!(error.contains("pods are default/client-1"), "{error}");
    }
}
