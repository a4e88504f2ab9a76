"""Envoy as the waypoint of a service, between two ztunnels: what ambient users have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import blocks
from bench.certificates import Identity, issue
from bench.envoy import TUNNEL_PORT, far_side, launch
from bench.l7 import envoy, route
from bench.l7.route import PORTS
from bench.pods import Pod
from bench.processes import Processes
from bench.tools import find_envoy

LABEL = "istio.io/use-waypoint"
"""Of a service, with the name of its waypoint."""
ROLE = "waypoint"
_NAMED = "gateway.networking.k8s.io/gateway-name"


def objects(name: str, namespace: str, node: str) -> list[dict[str, Any]]:
    """Pod, Service and Gateway of a waypoint; its process is started afterwards."""
    meta = {"name": name, "namespace": namespace}
    labels = {_NAMED: name, "istio.io/dataplane-mode": "none", "networking.istio.io/tunnel": "http"}
    managed = {"gateway.istio.io/managed": "istio.io-mesh-controller"}
    port = {"name": "mesh", "port": TUNNEL_PORT}
    return [
        *route.pod(name, namespace, node, labels),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**meta, "labels": managed},
            "spec": {"selector": {_NAMED: name}, "ports": [port]},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": meta,
            "spec": {"gatewayClassName": "istio-waypoint", "listeners": [{**port, "protocol": "HBONE"}]},
        },
    ]


def start(
    processes: Processes,
    place: Pod,
    *,
    service: str,
    client: str,
    servers: Mapping[str, Pod],
    namespace: str,
    authority: Path,
    folder: Path,
) -> dict[str, int]:
    """Start it in its pod: the pids by name.

    `service` is the address of the service before which it stands, `client` the service account that calls;
    pods have service accounts of their names. Its certificate is by the CA in the folder `authority`.
    """
    (me,) = issue(folder / place.name, [place.name], namespace, authority)
    prefix = me.spiffe.removesuffix(place.name)
    targets = {version: (pod.address, prefix + pod.name) for version, pod in servers.items()}
    configuration = terminating(me, prefix + client, place.address, service, targets)
    return launch(place.name, processes, find_envoy(), {ROLE: (place, configuration)}, folder)


def terminating(
    me: Identity, client: str, at: str, service: str, targets: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """HBONE ends at the address `at`; its requests are routed, and go on in HBONE to a version's pod.

    `client` is who may call; `targets` has address and SPIFFE ID by version.
    """
    far = far_side(me, client, at, [(service, port) for port in PORTS])["static_resources"]["listeners"]
    routed = [envoy.internal(f"main-{port}", envoy.routing(port)) for port in PORTS]
    places = [(version, port) for version in targets for port in PORTS]
    onward = [
        envoy.tunneling(envoy.name_of(version, port), f"{targets[version][0]}:{port}", f"hbone-{version}")
        for version, port in places
    ]
    clusters = [envoy.leading(f"{service}:{port}", f"main-{port}") for port in PORTS]
    clusters += map(envoy.inner, places)
    clusters += [
        blocks.cluster(f"hbone-{version}", address, TUNNEL_PORT)
        | blocks.HTTP2
        | {"transport_socket": blocks.tls("Upstream", me, spiffe)}
        for version, (address, spiffe) in targets.items()
    ]
    return envoy.bootstrap([*far, *routed, *onward], clusters)
