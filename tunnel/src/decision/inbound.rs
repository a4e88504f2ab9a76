//! Whether a connection that arrives for a pod is for it, and where on it.

use crate::base::OriginalDst;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{is_own_port, Authority};
use crate::base::Refusal;
use crate::mesh::{Gateway, Mesh, Service, Workload};

/// What a CONNECT request says, as its headers say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectRequest<'a> {
    pub method: &'a [u8],
    pub authority: &'a [u8],
    pub forwarded: Option<&'a [u8]>,
}

/// A connection that is let in.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Where the application listens.
    pub target: SocketAddr,
    /// The service that the client meant, where it says so and the pod is of it.
    pub service: Option<Arc<Service>>,
    pub authority: Authority,
    /// The client's own port, where it says so; else 0.
    pub client_port: u16,
}

/// Decides for a request that came through a tunnel to `local` at `local_ip`.
pub fn inbound(
    mesh: &Mesh,
    local: &Workload,
    local_ip: IpAddr,
    request: &ConnectRequest<'_>,
) -> Result<Inbound, Refusal> {
    if request.method != b"CONNECT" {
        return Err(Refusal::MethodNotConnect);
    }
    let local_ip = local_ip.to_canonical();
    let authority = Authority::parse(request.authority)?;
    let (port, named) = match &authority {
        Authority::Address(address) => {
            is_for(mesh, local, local_ip, address.ip()).then_some(()).ok_or(Refusal::AddressMismatch)?;
            (address.port(), None)
        }
        Authority::Host { name, port } => {
            let found = mesh.service_named(name, &local.identity.namespace);
            let service = found.ok_or(Refusal::UnknownService)?;
            (local.target_port(service, *port).ok_or(Refusal::UnknownPort)?, Some(service))
        }
    };
    let target = SocketAddr::new(local_ip, application_port(local, port)?);
    let service = named.or_else(|| forwarded_service(mesh, local, request.forwarded?)).cloned();
    let client_port = request.forwarded.and_then(forwarded_port).unwrap_or(0);
    Ok(Inbound { target, service, authority, client_port })
}

/// Decides for a connection of another pod of this node that needs no tunnel.
pub fn inbound_local(local: &Workload, to: SocketAddr) -> Result<SocketAddr, Refusal> {
    if !local.owns(to.ip()) {
        return Err(Refusal::AddressMismatch);
    }
    Ok(SocketAddr::new(to.ip(), application_port(local, to.port())?))
}

/// Decides for a plain connection that came to a pod.
pub fn inbound_plain(local: &Workload, dst: OriginalDst) -> Result<SocketAddr, Refusal> {
    if is_own_port(dst.port()) {
        return Err(Refusal::IllegalPort);
    }
    if !local.owns(dst.ip()) {
        return Err(Refusal::AddressMismatch);
    }
    Ok(dst.address())
}

/// The port on the pod, after its application tunnel's word.
fn application_port(local: &Workload, port: u16) -> Result<u16, Refusal> {
    let tunnel = local.application_tunnel();
    if tunnel.is_some_and(|tunnel| tunnel.proxy_protocol) {
        return Err(Refusal::ProxyProtocol);
    }
    let port = tunnel.and_then(|tunnel| tunnel.port).unwrap_or(port);
    if is_own_port(port) {
        return Err(Refusal::IllegalPort);
    }
    Ok(port)
}

/// Whether an address is this workload's to answer for: its own, or one behind it as a waypoint.
fn is_for(mesh: &Mesh, local: &Workload, local_ip: IpAddr, ip: IpAddr) -> bool {
    ip == local_ip || local.application_tunnel().is_some() || is_waypoint_of(mesh, local, ip)
}

fn is_waypoint_of(mesh: &Mesh, local: &Workload, ip: IpAddr) -> bool {
    let is_local = |waypoint: &Gateway| waypoint.is_served_by(mesh, local);
    if let Some(workload) = mesh.workload_at(&local.network, ip) {
        return workload.waypoint().is_some_and(is_local);
    }
    let service = mesh.service_at(&local.network, ip, &local.identity.namespace);
    service.is_some_and(|service| {
        let weighted = service.weighted_waypoints.iter().map(|(waypoint, _)| waypoint);
        service.waypoint.iter().chain(weighted).any(is_local)
    })
}

/// The service of `forwarded: ...;host=<name>`, for telemetry only: the client chose it, and may say what it likes about
/// the services that this pod is of.
fn forwarded_service<'a>(mesh: &'a Mesh, local: &Workload, forwarded: &[u8]) -> Option<&'a Arc<Service>> {
    let host = forwarded_host(std::str::from_utf8(forwarded).ok()?)?;
    let (key, _) = local.services.iter().find(|(key, _)| key.hostname() == host)?;
    mesh.service(key.text())
}

fn forwarded_host(forwarded: &str) -> Option<&str> {
    element(forwarded, "host").filter(|host| !host.is_empty() && host.is_ascii())
}

/// What the application will see for the client's port. The client chose it anyway.
fn forwarded_port(forwarded: &[u8]) -> Option<u16> {
    let client = element(std::str::from_utf8(forwarded).ok()?, "for")?;
    client.parse::<SocketAddr>().ok().map(|client| client.port())
}

/// RFC 7239, one element: `for="10.0.0.1:1234";host=reviews.default.svc.cluster.local`, values quoted or not.
fn element<'a>(forwarded: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = forwarded.split(';').filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?.1;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_forwarded_is_found() {
        for (header, port) in [
            ("for=\"10.0.0.1:7\";host=a.b", Some(7)),
            ("host=a.b;For=\"[fd00::1]:65535\"", Some(65535)),
            ("for=10.0.0.1:7", Some(7)),
            ("for=\"10.0.0.1\"", None),
            ("for=\"10.0.0.1:65536\"", None),
            ("host=a.b", None),
        ] {
            assert_eq!(forwarded_port(header.as_bytes()), port, "{header:?}");
        }
    }

    #[test]
    fn the_host_of_forwarded_is_found() {
        for (header, host) in [
            ("for=\"10.0.0.1:1\";host=a.b", Some("a.b")),
            ("host=\"a.b\"", Some("a.b")),
            ("for=\"[fd00::1]:1\"; Host=a.b", Some("a.b")),
            ("for=x", None),
            ("host=", None),
            ("host=\"\"", None),
            ("host=\u{e9}", None),
            ("", None),
        ] {
            assert_eq!(forwarded_host(header), host, "{header:?}");
        }
    }
}
