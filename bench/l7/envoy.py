"""Two Envoys: the one beside the client routes requests, and sends each through HBONE to the other one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import blocks
from bench.certificates import Identity, issue
from bench.envoy import far_side, launch, local_listeners, tunnel
from bench.l7.route import CANARY, HEADER, PORTS, SHARES, VALUE, VERSIONS
from bench.path import DataPath
from bench.pods import Pod
from bench.processes import Processes
from bench.tools import find_envoy

_MANAGER = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TCP_PROXY = "extensions.filters.network.tcp_proxy.v3.TcpProxy"


def start(path: str, processes: Processes, client: Pod, servers: Mapping[str, Pod], folder: Path) -> DataPath:
    """Start an Envoy in the client's pod, and one in the first version's pod, which reaches both versions."""
    near, far = issue(folder / path, ["client", "server"], "bench")
    home = servers[VERSIONS[0]]
    targets = {(version, port): pod.address for version, pod in servers.items() for port in PORTS}
    reach = local_listeners(PORTS)
    places = [(address, port) for (_, port), address in targets.items()]
    configurations = {
        "near": (client, near_side(near, far.spiffe, home.address, targets, reach)),
        "far": (home, far_side(far, near.spiffe, home.address, places)),
    }
    pids = launch(path, processes, find_envoy(), configurations, folder)
    return DataPath(path, client, home, pids, reach)


def near_side(
    me: Identity,
    peer: str,
    far: str,
    targets: Mapping[tuple[str, int], str],
    reach: Mapping[int, tuple[str, int]],
) -> dict[str, Any]:
    """A routing listener a port; for each version and port an inner one that sends CONNECT to `far`."""
    listeners = [_routing(port, host, local) for port, (host, local) in reach.items()]
    listeners += [_tunneling(version, port, address) for (version, port), address in targets.items()]
    clusters = [_inner(version, port) for version, port in targets] + [tunnel(me, peer, far)]
    return {
        "bootstrap_extensions": [
            blocks.named(
                "envoy.bootstrap.internal_listener",
                "extensions.bootstrap.internal_listener.v3.InternalListener",
                {},
            )
        ],
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _routing(port: int, host: str, local: int) -> dict[str, Any]:
    header = {"name": HEADER, "string_match": {"exact": VALUE}}
    weights = [{"name": _name(version, port), "weight": weight} for version, weight in SHARES.items()]
    routes = [
        {"match": {"prefix": "/", "headers": [header]}, "route": {"cluster": _name(CANARY, port)}},
        {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weights}}},
    ]
    manager = {
        "stat_prefix": f"out{port}",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [blocks.named("router", "extensions.filters.http.router.v3.Router", {})],
    }
    return blocks.listener(f"out{port}", host, local, {"filters": [blocks.named("http", _MANAGER, manager)]})


def _tunneling(version: str, port: int, address: str) -> dict[str, Any]:
    name = _name(version, port)
    proxy = {"stat_prefix": name, "cluster": "tunnel", "tunneling_config": {"hostname": f"{address}:{port}"}}
    chain = {"filters": [blocks.named("tcp_proxy", _TCP_PROXY, proxy)]}
    return {"name": name, "internal_listener": {}, "filter_chains": [chain]}


def _inner(version: str, port: int) -> dict[str, Any]:
    """The cluster of a version whose connections go to the inner listener of its name."""
    name = _name(version, port)
    endpoint = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": name}}}}
    protocol = blocks.HTTP2 if PORTS[port] == "h2" else {}
    load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {
        "name": name,
        "type": "STATIC",
        "circuit_breakers": blocks.UNLIMITED,
        "load_assignment": load,
        **protocol,
    }


def _name(version: str, port: int) -> str:
    return f"{version}-{port}"
