"""Envoy in the configuration of one of Istio's waypoints, as far as it matters to who sends through it.

HBONE ends at its port, and what is asked for there goes on over an internal listener to routes for
requests, and from there in HBONE with its own identity to an endpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.certificates import Certificate
from tests.support.envoy import HBONE, Address, Envoy, cluster, listener, named, typed

MARK = "x-waypoint"  # what requests that have passed it carry
_MANAGER = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "extensions.filters.http.router.v3.Router"
_TUNNEL = "extensions.filters.network.tcp_proxy.v3.TcpProxy"
_HTTP = "extensions.upstreams.http.v3.HttpProtocolOptions"
_INTERNAL = "extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport"
_RAW = "extensions.transport_sockets.raw_buffer.v3.RawBuffer"
_FILE = "extensions.access_loggers.file.v3.FileAccessLog"
Behind = Mapping[Address, Address]  # an endpoint by a service's own address


def start(netns: str, folder: Path, at: str, me: Certificate, behind: Behind) -> Envoy:
    """At an address of a pod's. `callers` tells who has asked it for what."""
    hosts, listeners, clusters = [], [], []
    for number, (service, endpoint) in enumerate(behind.items()):
        hosts.append(_terminated(_text(service), f"main-{number}"))
        listeners += [_main(f"main-{number}", f"out-{number}"), _out(f"out-{number}", endpoint)]
        clusters += [
            _inside(f"main-{number}"),
            _inside(f"out-{number}"),
            _hbone(f"out-{number}", endpoint, me),
        ]
    log = {
        "path": str(folder / "callers"),
        "log_format": _format("%DOWNSTREAM_PEER_URI_SAN% %REQ(:AUTHORITY)%\n"),
    }
    manager = {
        "stat_prefix": "terminate",
        "http2_protocol_options": {"allow_connect": True},
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [named("router", _ROUTER, {})],
        "access_log": [named("file", _FILE, log)],
    }
    chain = {"transport_socket": _tls("Downstream", me), "filters": [named("http", _MANAGER, manager)]}
    return Envoy("waypoint", netns, folder, [listener((at, HBONE), chain), *listeners], clusters)


def callers(folder: Path) -> set[tuple[str, str]]:
    """Who has asked it for which service's address, of tunnels that have ended."""
    lines = (folder / "callers").read_text().splitlines()
    return {(identity, authority) for identity, authority in (line.split(" ") for line in lines)}


def _format(text: str) -> Any:
    return {"text_format_source": {"inline_string": text}}


def _text(address: Address) -> str:
    host, port = address
    return f"{host}:{port}"


def _terminated(authority: str, to: str) -> Any:
    connect = {"upgrade_type": "CONNECT", "connect_config": {}}
    route = {"cluster": to, "timeout": "0s", "upgrade_configs": [connect]}
    routes = [{"match": {"connect_matcher": {}}, "route": route}]
    return {"name": authority, "domains": [authority], "routes": routes}


def _main(name: str, to: str) -> Any:
    """Requests of a service."""
    added = {"header": {"key": MARK, "value": "envoy"}}
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": to}}]
    host = {"name": "all", "domains": ["*"], "routes": routes, "request_headers_to_add": [added]}
    manager = {
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [named("router", _ROUTER, {})],
    }
    return _internal(name, named("http", _MANAGER, manager))


def _out(name: str, endpoint: Address) -> Any:
    tunnelling = {"hostname": _text(endpoint)}
    proxy = {"stat_prefix": name, "cluster": f"hbone-{name}", "tunneling_config": tunnelling}
    return _internal(name, named("tcp_proxy", _TUNNEL, proxy))


def _internal(name: str, network_filter: Any) -> Any:
    return {"name": name, "internal_listener": {}, "filter_chains": [{"filters": [network_filter]}]}


def _inside(name: str) -> Any:
    address = {"envoy_internal_address": {"server_listener_name": name}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        "transport_socket": named("internal", _INTERNAL, {"transport_socket": named("raw", _RAW, {})}),
    }


def _hbone(name: str, endpoint: Address, me: Certificate) -> Any:
    options: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
    return cluster(f"hbone-{name}", (endpoint[0], HBONE)) | {
        "typed_extension_protocol_options": {f"envoy.{_HTTP}": typed(_HTTP, options)},
        "transport_socket": _tls("Upstream", me),
    }


def _tls(side: str, me: Certificate) -> Any:
    """With whoever is of the mesh."""
    version = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    names = [{"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}]
    own = {"certificate_chain": {"filename": str(me.chain)}, "private_key": {"filename": str(me.key)}}
    common = {
        "alpn_protocols": ["h2"],
        "tls_params": version,
        "tls_certificates": [own],
        "validation_context": {
            "trusted_ca": {"filename": str(me.root)},
            "match_typed_subject_alt_names": names,
        },
    }
    required = {"require_client_certificate": True} if side == "Downstream" else {}
    kind = f"extensions.transport_sockets.tls.v3.{side}TlsContext"
    return named("tls", kind, {"common_tls_context": common, **required})
