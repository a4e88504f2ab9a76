"""Two Envoys that carry TCP as HBONE does: HTTP/2 CONNECT inside mutual TLS 1.3."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.blocks import HTTP2, WINDOWS, cluster, listener, named, tls
from bench.certificates import Identity, issue
from bench.path import PORTS, WORKERS, DataPath
from bench.pods import Pod
from bench.processes import Processes

TUNNEL_PORT = 15008
FIRST_LOCAL_PORT = 16001


def start(path: str, processes: Processes, envoy: Path, pods: tuple[Pod, Pod], folder: Path) -> DataPath:
    """Start an Envoy in the client's pod and one in the server's.

    Clients connect to the near one's listeners on loopback, one for each of the server's ports.
    """
    client, server = pods
    near, far = issue(folder / path, ["client", "server"], "bench")
    reach = local_listeners(PORTS)
    configurations = {
        "near": (client, near_side(near, far.spiffe, server.address, reach)),
        "far": (
            server,
            far_side(far, near.spiffe, server.address, [(server.address, port) for port in PORTS]),
        ),
    }
    pids = launch(path, processes, envoy, configurations, folder)
    return DataPath(path, client, server, pids, reach)


def local_listeners(ports: Iterable[int]) -> dict[int, tuple[str, int]]:
    """Where on loopback the client finds each of the server's ports."""
    return {port: ("127.0.0.1", FIRST_LOCAL_PORT + i) for i, port in enumerate(ports)}


def launch(
    path: str,
    processes: Processes,
    envoy: Path,
    configurations: Mapping[str, tuple[Pod, dict[str, Any]]],
    folder: Path,
) -> dict[str, int]:
    """Start an Envoy for each name, in its pod with its configuration; their pids."""
    pids = {}
    for name, (pod, configuration) in configurations.items():
        file = folder / path / f"{name}.json"
        file.write_text(json.dumps(configuration, indent=1))
        argv = [str(envoy), "-c", str(file), "--concurrency", str(WORKERS)]
        argv += ["--disable-hot-restart", "--log-level", "error"]
        pids[name] = processes.start(f"{path}-{name}", pod, argv)
    return pids


def near_side(me: Identity, peer: str, server: str, reach: dict[int, tuple[str, int]]) -> dict[str, Any]:
    """Configuration of the Envoy beside the client: one listener a port, all into one cluster."""
    listeners = []
    for port, (host, local) in reach.items():
        proxy = {
            "stat_prefix": f"out{port}",
            "cluster": "tunnel",
            "tunneling_config": {"hostname": f"{server}:{port}"},
        }
        filters = [named("tcp_proxy", "extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy)]
        listeners.append(listener(f"out{port}", host, local, {"filters": filters}))
    return {"static_resources": {"listeners": listeners, "clusters": [tunnel(me, peer, server)]}}


def tunnel(me: Identity, peer: str, server: str) -> dict[str, Any]:
    """The cluster that is the way to the far Envoy."""
    return cluster("tunnel", server, TUNNEL_PORT) | HTTP2 | {"transport_socket": tls("Upstream", me, peer)}


def far_side(me: Identity, peer: str, server: str, targets: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Configuration of the Envoy beside the server: ends the tunnel, connects to the target asked for."""
    hosts = []
    for host, port in targets:
        name = f"{host}:{port}"
        route = {
            "cluster": name,
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        }
        hosts.append(
            {
                "name": name,
                "domains": [name],
                "routes": [{"match": {"connect_matcher": {}}, "route": route}],
            }
        )
    manager = {
        "stat_prefix": "in",
        "http2_protocol_options": {"allow_connect": True, **WINDOWS},
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [named("router", "extensions.filters.http.router.v3.Router", {})],
    }
    kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    chain = {"transport_socket": tls("Downstream", me, peer), "filters": [named("http", kind, manager)]}
    clusters = [cluster(f"{host}:{port}", host, port) for host, port in targets]
    return {
        "static_resources": {"listeners": [listener("in", server, TUNNEL_PORT, chain)], "clusters": clusters}
    }
