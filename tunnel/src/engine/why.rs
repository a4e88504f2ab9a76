//! Why a connection would go as it goes: each step of the decision, taken by the code that decides, and nothing is connected.
mod answer;
mod judge;

use super::question::{self, best, name, named, ports, Named, RequestQuestion};
use super::routing::{service_of, RouteQuestion};
use super::{lock, Core};
use crate::base::{Identity, PodKey};
use crate::http::Normalization;
use crate::mesh::{Mesh, Workload};
use answer::{Answer, Destination, Source};
use judge::Judge;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Of RFC 5737, nobody's: stands for any address outside of the mesh.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// `from`: a pod of this node (`namespace/name`, or a name in `default`; that of its Deployment will do). `to`: a Service, pod
/// or address, or a host as the pod would call it. `port`: None for each that is known. The rest: of a request.
pub struct WhyQuestion {
    pub from: String,
    pub to: String,
    pub port: Option<u16>,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// What there is of the node beside its mesh.
pub struct Node<'a> {
    /// Those that are served.
    pub pods: &'a [PodKey],
    pub name: &'a str,
    /// With the ends of their certificates, in Unix seconds.
    pub certificates: HashMap<Identity, i64>,
    pub now: i64,
    /// Whether connections between pods of this node may go past the tunnel.
    pub direct: bool,
    /// How its requests' paths are normalised.
    pub paths: Normalization,
}

/// Where to, before a port is chosen.
struct Asked {
    told: Destination,
    ports: BTreeSet<u16>,
}

impl Core {
    /// What would become of a connection, and why, as JSON. Errors say what to ask instead.
    pub fn why(&self, question: &WhyQuestion) -> Result<String, String> {
        let pods: Vec<PodKey> = lock(&self.pods).values().map(|pod| pod.key.clone()).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let node = Node {
            pods: &pods,
            name: &self.node,
            certificates: self.certificates().into_iter().collect(),
            now: now.as_secs() as i64,
            direct: self.direct.is_some(),
            paths: self.http.normalization,
        };
        question.answer(&self.mesh(), &node).map(|answer| answer.to_string())
    }
}

impl WhyQuestion {
    pub fn answer(&self, mesh: &Mesh, node: &Node<'_>) -> Result<Value, String> {
        let source = self.source(mesh, node)?;
        let served = node.pods.contains(&source.key());
        let Asked { told, ports } = self.destination(mesh, source)?;
        let judge = Judge { mesh, node, source, served, question: self, request: self.request()? };
        let ports = ports.into_iter().map(|port| judge.port(&told, port)).collect::<Result<_, _>>()?;
        let answer = Answer {
            source: Source {
                name: name(source),
                identity: source.identity.to_string(),
                addresses: source.addresses.to_vec(),
                served,
                certificate_until: node.certificates.get(&source.identity).copied(),
            },
            destination: told,
            ports,
        };
        serde_json::to_value(answer).map_err(|error| error.to_string())
    }

    /// One that is served, else one of this node that is not in the mesh.
    fn source<'a>(&self, mesh: &'a Mesh, node: &Node<'_>) -> Result<&'a Arc<Workload>, String> {
        let route = RouteQuestion { from: &self.from, method: "GET", url: "", headers: vec![] };
        let served = route.source(mesh, node.pods);
        if served.is_ok() {
            return served;
        }
        let all = best(mesh.workloads().filter(|one| one.is_pod()), |one| named(one, &self.from));
        match all {
            Some(found) if *found.node == *node.name => Ok(found),
            Some(found) => Err(format!("{} runs on {}: ask there", name(found), found.node)),
            None => served,
        }
    }

    /// Of several that go by a name the pod of just that name is meant, then what the source would reach by it.
    fn destination(&self, mesh: &Mesh, source: &Workload) -> Result<Asked, String> {
        let asked = self.to.clone();
        if let Ok(ip) = self.to.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            let told = match mesh.workload_at(&source.network, ip) {
                Some(workload) => Destination { asked, kind: "pod", name: name(workload), addresses: vec![ip] },
                None => Destination { asked, kind: "address", name: ip.to_string(), addresses: vec![ip] },
            };
            let of = |workload: &Arc<Workload>| self::ports(mesh, workload);
            let service = mesh.service_at(&source.network, ip, &source.identity.namespace);
            let known = service.map_or_else(
                || mesh.workload_at(&source.network, ip).map(of).unwrap_or_default(),
                |service| service.ports.iter().map(|port| port.service).collect(),
            );
            return Ok(Asked { told, ports: self.ports(known)? });
        }
        let pod = best(mesh.workloads(), |one| named(one, &self.to).filter(|how| *how == Named::Pod));
        let service = || {
            let exact = mesh.services().find(|one| one.is_named(&self.to) && self.to.contains('/'));
            exact.or_else(|| service_of(mesh, &source.network, &self.to, &source.identity.namespace))
        };
        if let (None, Some(service)) = (pod, service()) {
            let vips = service.vips.iter().filter(|vip| vip.network == source.network).map(|vip| vip.ip).collect();
            let known = service.ports.iter().map(|port| port.service).collect();
            let told = Destination { asked, kind: "service", name: service.key.text().to_string(), addresses: vips };
            return Ok(Asked { told, ports: self.ports(known)? });
        }
        let workload = pod.or_else(|| best(mesh.workloads(), |one| named(one, &self.to)));
        let (told, known) = match workload {
            Some(workload) => {
                let addresses = workload.addresses.to_vec();
                let told = Destination { asked, kind: "pod", name: name(workload), addresses };
                (told, ports(mesh, workload))
            }
            None => (Destination { asked, kind: "outside", name: self.to.clone(), addresses: vec![] }, BTreeSet::new()),
        };
        Ok(Asked { told, ports: self.ports(known)? })
    }

    /// As it leaves the pod.
    fn request(&self) -> Result<question::Asked, String> {
        let WhyQuestion { to, method, path, headers, .. } = self;
        let host = to.rsplit('/').next().unwrap_or(to);
        RequestQuestion { method: method.clone(), path: path.clone(), headers: headers.clone() }.checked(host)
    }

    fn ports(&self, known: BTreeSet<u16>) -> Result<BTreeSet<u16>, String> {
        let ports = self.port.map_or(known, |port| BTreeSet::from([port]));
        match ports.is_empty() {
            true => Err(format!("no port of {} is known: give one, {0}:PORT", self.to)),
            false => Ok(ports),
        }
    }
}

#[cfg(test)]
mod tests;
