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
    listeners = [
        blocks.listener(f"out{port}", host, local, {"filters": [routing(port)]})
        for port, (host, local) in reach.items()
    ]
    listeners += [
        tunneling(name_of(version, port), f"{address}:{port}", "tunnel")
        for (version, port), address in targets.items()
    ]
    return bootstrap(listeners, [*map(inner, targets), tunnel(me, peer, far)])


def bootstrap(listeners: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """The configuration of an Envoy of which some listeners are its own clusters'."""
    kind = "extensions.bootstrap.internal_listener.v3.InternalListener"
    return {
        "bootstrap_extensions": [blocks.named("envoy.bootstrap.internal_listener", kind, {})],
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def routing(port: int) -> dict[str, Any]:
    """The filter that routes the requests of a port to the clusters of both versions."""
    header = {"name": HEADER, "string_match": {"exact": VALUE}}
    weights = [{"name": name_of(version, port), "weight": weight} for version, weight in SHARES.items()]
    routes = [
        {"match": {"prefix": "/", "headers": [header]}, "route": {"cluster": name_of(CANARY, port)}},
        {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weights}}},
    ]
    manager = {
        "stat_prefix": f"out{port}",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [blocks.named("router", "extensions.filters.http.router.v3.Router", {})],
    }
    return blocks.named("http", _MANAGER, manager)


def internal(name: str, network_filter: dict[str, Any]) -> dict[str, Any]:
    """A listener of that name for clusters of the same Envoy."""
    return {"name": name, "internal_listener": {}, "filter_chains": [{"filters": [network_filter]}]}


def tunneling(name: str, to: str, by: str) -> dict[str, Any]:
    """An inner listener whose connections go on as CONNECT to an address, in tunnels of the cluster `by`."""
    proxy = {"stat_prefix": name, "cluster": by, "tunneling_config": {"hostname": to}}
    return internal(name, blocks.named("tcp_proxy", _TCP_PROXY, proxy))


def leading(name: str, to: str) -> dict[str, Any]:
    """The cluster `name` whose connections go to the internal listener `to`."""
    endpoint = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": to}}}}
    load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {
        "name": name,
        "type": "STATIC",
        "circuit_breakers": blocks.UNLIMITED,
        "load_assignment": load,
    }


def inner(target: tuple[str, int]) -> dict[str, Any]:
    """The cluster of a version's port, which leads to the internal listener of its name."""
    version, port = target
    name = name_of(version, port)
    return leading(name, name) | (blocks.HTTP2 if PORTS[port] == "h2" else {})


def name_of(version: str, port: int) -> str:
    """Of a version's cluster and of the listener to which that leads."""
    return f"{version}-{port}"
