"""Services for pods outside of the mesh: what kube-proxy does for them, by nftables in each pod's namespace.

Pods in the mesh need none of it: their tunnel knows Services. Nothing is written where they are, so that the
mesh is not measured with connection tracking.
"""

import itertools
import subprocess
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent.lab import dns, process
from agent.lab.cluster import Cluster, enrolled
from agent.lab.controllers import Body
from agent.lab.errors import LabError
from agent.lab.kernel import NETNS_DIRECTORY
from agent.lab.state import PodState, State, write_atomically
from agent.model.schema.objects import Key

_TABLE = "inet warren-lab"
_FILE = ".services.nft"  # beside what the pod sees of /etc: what was programmed last


class Port(NamedTuple):
    """One port of a Service at one of its addresses, and the endpoints behind it."""

    address: str
    port: int
    endpoints: tuple[tuple[str, int], ...]


def program(state: State, cluster: Cluster) -> None:
    """Have pods that are not in the mesh reach Services. Raises LabError, which says how."""
    rules = "".join(f"{line}\n" for line in ruleset([*_ports(cluster)]))
    for pod in state.pods:
        body = cluster.objects.get(Key("Pod", pod.namespace, pod.name))
        if body and pod.number and not (state.mesh and enrolled(cluster, body)):
            _load(state, pod, rules)


def ruleset(ports: Iterable[Port]) -> Iterator[str]:
    """The lines of nft's language that replace what was there."""
    all_ = [*ports]
    open_, closed = [port for port in all_ if port.endpoints], [port for port in all_ if not port.endpoints]
    yield from (f"table {_TABLE}", f"delete table {_TABLE}", f"table {_TABLE} {{")
    for number, port in enumerate(open_):
        for index, (address, target) in enumerate(port.endpoints):
            to = f"ip6 to [{address}]" if ":" in address else f"ip to {address}"
            yield f"chain endpoint-{number}-{index} {{ meta l4proto tcp dnat {to}:{target}; }}"
        choices = ", ".join(
            f"{index} : goto endpoint-{number}-{index}" for index in range(len(port.endpoints))
        )
        choice = f"numgen random mod {len(port.endpoints)} vmap {{ {choices} }}"
        yield f"chain service-{number} {{ {choice}; }}"
    yield "chain services { type nat hook output priority -100; policy accept;"
    yield from (f"{_matching(port)} jump service-{number};" for number, port in enumerate(open_))
    yield "}"
    yield "chain closed { type filter hook output priority filter; policy accept;"
    yield from (f"{_matching(port)} reject with tcp reset;" for port in closed)
    yield from ("}", "}")


def _matching(port: Port) -> str:
    return f"{'ip6' if ':' in port.address else 'ip'} daddr {port.address} tcp dport {port.port}"


def _ports(cluster: Cluster) -> Iterator[Port]:
    for service in cluster.of_kind("Service"):
        spec = service["spec"]
        if spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName":
            continue
        pods = [pod for pod in dns.endpoints(cluster, service) if _is_ready(pod)]
        for address, port in itertools.product(spec.get("clusterIPs", ()), spec.get("ports", ())):
            if port.get("protocol", "TCP") == "TCP":
                yield Port(address, port["port"], tuple(_behind(pods, address, port["targetPort"])))


def _behind(pods: Iterable[Body], address: str, target: int | str) -> Iterator[tuple[str, int]]:
    """The pods' addresses of the same family, with the port that is meant."""
    for pod in pods:
        number = target if isinstance(target, int) else _named(pod, target)
        own = next(
            (one["ip"] for one in pod["status"]["podIPs"] if (":" in one["ip"]) == (":" in address)), None
        )
        if own and number:
            yield own, number


def _named(pod: Body, name: str) -> int | None:
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports", ()))
    return next((int(port["containerPort"]) for port in ports if port.get("name") == name), None)


def _is_ready(pod: Body) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _load(state: State, pod: PodState, rules: str) -> None:
    file = state.run / "pods" / pod.slug / _FILE
    if file.exists() and file.read_text() == rules:
        return
    argv = process.in_network(NETNS_DIRECTORY / pod.netns, ["nft", "-f", "-"])
    done = subprocess.run(argv, input=rules, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().partition("\n")[0]
        raise LabError(
            f"pod {pod.namespace}/{pod.name}, outside of the mesh, does not reach Services: nft: {reason}"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, rules)
