//! Meshes for tests, made as they are on the wire.

use std::net::IpAddr;

use prost::Message;

use super::*;

/// An address as it is sent.
pub fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A pod of namespace `default` in the mesh, on node `node-1`.
pub fn pod(name: &str, ips: &[&str]) -> proto::Workload {
    proto::Workload {
        uid: format!("Kubernetes//Pod/default/{name}"),
        name: name.into(),
        namespace: "default".into(),
        addresses: ips.iter().map(|ip| bytes(ip)).collect(),
        tunnel_protocol: proto::TunnelProtocol::Hbone as i32,
        service_account: name.split('-').next().unwrap().into(),
        node: "node-1".into(),
        canonical_name: name.split('-').next().unwrap().into(),
        canonical_revision: "v1".into(),
        workload_name: name.into(),
        ..Default::default()
    }
}

/// A policy of namespace `default`, of all its pods, with one rule: about what is so.
pub fn policy(action: proto::Action, matches: proto::Match) -> Resource {
    let clause = proto::Clause { matches: vec![matches] };
    let policy = proto::Authorization {
        name: "p".into(),
        namespace: "default".into(),
        scope: proto::PolicyScope::Namespace as i32,
        action: action as i32,
        rules: vec![proto::Rule { clauses: vec![clause], ..proto::Rule::default() }],
        ..Default::default()
    };
    sent(proto::AUTHORIZATION, "default/p", &policy)
}

/// A service of namespace `default` with port 80, which is 8080 on its endpoints.
pub fn service(name: &str, vips: &[&str]) -> proto::Service {
    proto::Service {
        name: name.into(),
        namespace: "default".into(),
        hostname: format!("{name}.default.svc.cluster.local"),
        addresses: vips.iter().map(|vip| vip_address("", vip)).collect(),
        ports: vec![proto::Port { service_port: 80, target_port: 8080, ..Default::default() }],
        ..Default::default()
    }
}

/// `10.0.0.1` or `10.0.0.0/24`.
pub fn vip_address(network: &str, vip: &str) -> proto::NetworkAddress {
    let (ip, length) = vip.split_once('/').map_or((vip, None), |(ip, length)| (ip, Some(length.parse().unwrap())));
    proto::NetworkAddress { network: network.into(), address: bytes(ip), length }
}

pub fn key(service: &proto::Service) -> String {
    format!("{}/{}", service.namespace, service.hostname)
}

/// The same service in another namespace.
pub fn in_namespace(mut service: proto::Service, namespace: &str) -> proto::Service {
    service.namespace = namespace.into();
    service
}

impl proto::Workload {
    /// As an endpoint of a service, with ports of its own.
    pub fn of(mut self, service: &proto::Service, ports: &[(u32, u32)]) -> Self {
        let ports = ports.iter().map(|(service_port, target_port)| proto::Port {
            service_port: *service_port,
            target_port: *target_port,
            ..Default::default()
        });
        self.services.insert(key(service), proto::PortList { ports: ports.collect() });
        self
    }

    pub fn unhealthy(mut self) -> Self {
        self.status = proto::WorkloadStatus::Unhealthy as i32;
        self
    }

    /// Being deleted, but still serving.
    pub fn draining(mut self) -> Self {
        self.draining = true;
        self.unhealthy()
    }

    pub fn plain(mut self) -> Self {
        self.tunnel_protocol = proto::TunnelProtocol::None as i32;
        self
    }
}

/// A waypoint at a service of this key, or at an address.
pub fn waypoint(at: &str, port: u32) -> proto::GatewayAddress {
    let destination = match at.split_once('/') {
        Some((namespace, hostname)) => proto::GatewayDestination::Hostname(proto::NamespacedHostname {
            namespace: namespace.into(),
            hostname: hostname.into(),
        }),
        None => proto::GatewayDestination::Address(vip_address("", at)),
    };
    proto::GatewayAddress { destination: Some(destination), hbone_mtls_port: port }
}

impl From<proto::Workload> for proto::Address {
    fn from(workload: proto::Workload) -> Self {
        proto::Address { r#type: Some(proto::AddressType::Workload(Box::new(workload))) }
    }
}

impl From<proto::Service> for proto::Address {
    fn from(service: proto::Service) -> Self {
        proto::Address { r#type: Some(proto::AddressType::Service(Box::new(service))) }
    }
}

/// As a push has it.
pub fn resource(address: impl Into<proto::Address>) -> Resource {
    let address = address.into();
    let name = match address.r#type.as_ref().unwrap() {
        proto::AddressType::Workload(workload) => workload.uid.clone(),
        proto::AddressType::Service(service) => key(service),
    };
    sent(proto::ADDRESS, &name, &address)
}

/// What may leave a namespace; of the mesh where it is empty.
pub fn traffic(namespace: &str, outbound: proto::OutboundTrafficPolicy) -> Resource {
    let outbound_traffic_policy = outbound as i32;
    sent(proto::TRAFFIC, namespace, &proto::Traffic { namespace: namespace.into(), outbound_traffic_policy })
}

/// A message under a name.
pub fn sent(type_url: &str, name: &str, message: &impl Message) -> Resource {
    let body = message.encode_to_vec().into();
    Resource { name: name.into(), version: "1".into(), type_url: type_url.into(), body }
}

/// A mesh after one push that has to be good.
pub fn mesh<const N: usize>(resources: [Resource; N]) -> Mesh {
    Mesh::new("node-1").and(resources)
}

impl Mesh {
    pub fn and<const N: usize>(&self, resources: [Resource; N]) -> Mesh {
        let (mesh, rejected) = self.apply(proto::ADDRESS, resources, &[]);
        assert_eq!(rejected, []);
        mesh
    }

    pub fn without(&self, names: &[&str]) -> Mesh {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        self.apply(proto::ADDRESS, [], &names).0
    }

    /// The workload of a pod of namespace `default`.
    pub fn pod(&self, name: &str) -> Arc<Workload> {
        self.workload(&format!("Kubernetes//Pod/default/{name}")).unwrap().clone()
    }

    pub fn at(&self, ip: &str) -> Option<&str> {
        Some(&self.workload_at("", ip.parse().unwrap())?.name)
    }

    /// Key of the service that a namespace means by an address.
    pub fn vip(&self, ip: &str, namespace: &str) -> Option<&str> {
        Some(self.service_at("", ip.parse().unwrap(), namespace)?.key.text())
    }

    /// Interners of a service's endpoints, healthy ones first.
    pub fn endpoint_names(&self, service: &proto::Service) -> Vec<String> {
        let key = ServiceKey::parse(&key(service), &mut Interners::default()).unwrap();
        let endpoints = self.endpoints(&key).into_iter().flat_map(|endpoints| endpoints.all.iter());
        endpoints.map(|endpoint| endpoint.workload.name.to_string()).collect()
    }
}
