"""Two Envoys that carry TCP as HBONE does: HTTP/2 CONNECT inside mutual TLS 1.3."""

import json
from pathlib import Path
from typing import Any

from bench.certificates import Identity, issue
from bench.path import PORTS, WORKERS, DataPath
from bench.pods import Pod
from bench.processes import Processes

TUNNEL_PORT = 15008
FIRST_LOCAL_PORT = 16001
# ztunnel's windows, so that no peer is held back by a smaller one.
WINDOWS = {"initial_stream_window_size": 4 << 20, "initial_connection_window_size": 16 << 20}
# Envoy admits 1,024 connections and requests to a cluster unless told otherwise.
UNLIMITED = {
    "thresholds": [{f"max_{what}": 1_000_000 for what in ("connections", "requests", "pending_requests")}]
}


def start(path: str, processes: Processes, envoy: Path, pods: tuple[Pod, Pod], folder: Path) -> DataPath:
    """Start an Envoy in the client's pod and one in the server's.

    Clients connect to the near one's listeners on loopback, one for each of the server's ports.
    """
    client, server = pods
    near, far = issue(folder / path, ["client", "server"], "bench")
    reach = {port: ("127.0.0.1", FIRST_LOCAL_PORT + i) for i, port in enumerate(PORTS)}
    configurations = {
        "near": (client, near_side(near, far.spiffe, server.address, reach)),
        "far": (server, far_side(far, near.spiffe, server.address)),
    }
    pids = {}
    for name, (pod, configuration) in configurations.items():
        file = folder / path / f"{name}.json"
        file.write_text(json.dumps(configuration, indent=1))
        argv = [str(envoy), "-c", str(file), "--concurrency", str(WORKERS)]
        argv += ["--disable-hot-restart", "--log-level", "error"]
        pids[name] = processes.start(f"{path}-{name}", pod, argv)
    return DataPath(path, client, server, pids, reach)


def near_side(me: Identity, peer: str, server: str, reach: dict[int, tuple[str, int]]) -> dict[str, Any]:
    """Configuration of the Envoy beside the client: one listener a port, all into one cluster."""
    http2 = {"explicit_http_config": {"http2_protocol_options": WINDOWS}}
    cluster = _cluster("tunnel", server, TUNNEL_PORT) | {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions", http2
            )
        },
        "transport_socket": _tls("Upstream", me, peer),
    }
    listeners = []
    for port, (host, local) in reach.items():
        proxy = {
            "stat_prefix": f"out{port}",
            "cluster": "tunnel",
            "tunneling_config": {"hostname": f"{server}:{port}"},
        }
        filters = [_filter("tcp_proxy", "extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy)]
        listeners.append(_listener(f"out{port}", host, local, {"filters": filters}))
    return {"static_resources": {"listeners": listeners, "clusters": [cluster]}}


def far_side(me: Identity, peer: str, server: str) -> dict[str, Any]:
    """Configuration of the Envoy beside the server: ends the tunnel and connects to the port asked for."""
    hosts = []
    for port in PORTS:
        route = {
            "cluster": f"app{port}",
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        }
        hosts.append(
            {
                "name": f"app{port}",
                "domains": [f"{server}:{port}"],
                "routes": [{"match": {"connect_matcher": {}}, "route": route}],
            }
        )
    manager = {
        "stat_prefix": "in",
        "http2_protocol_options": {"allow_connect": True, **WINDOWS},
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [_filter("router", "extensions.filters.http.router.v3.Router", {})],
    }
    kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    chain = {"transport_socket": _tls("Downstream", me, peer), "filters": [_filter("http", kind, manager)]}
    clusters = [_cluster(f"app{port}", server, port) for port in PORTS]
    listener = _listener("in", server, TUNNEL_PORT, chain)
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _typed(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **value}


def _filter(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": _typed(kind, value)}


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(name: str, host: str, port: int, chain: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "address": _socket(host, port), "filter_chains": [chain]}


def _cluster(name: str, host: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _socket(host, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": UNLIMITED,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _tls(side: str, me: Identity, peer: str) -> dict[str, Any]:
    """Mutual TLS 1.3 with a check of the peer's SPIFFE ID; `side` is Upstream or Downstream."""
    common = {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {"certificate_chain": {"filename": str(me.chain)}, "private_key": {"filename": str(me.key)}}
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(me.roots)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    }
    context: dict[str, Any] = {"common_tls_context": common}
    if side == "Downstream":
        context["require_client_certificate"] = True
    return _filter("tls", f"extensions.transport_sockets.tls.v3.{side}TlsContext", context)
