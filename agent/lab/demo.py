"""The demonstration: what the mesh promises, seen to hold in a running lab.

Each check gives an `Evidence`, with what was seen; `demonstrate` runs them all, on the pods of the default
manifests. A lab without them has them for so long, in a namespace of their own.
"""

import json
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.lab import client as client_program
from agent.lab import manifests
from agent.lab.capture import Capture, Traffic
from agent.lab.errors import LabError
from agent.lab.lab import DEFAULT_MANIFEST, Lab
from agent.lab.members import Node, Pod
from agent.lab.waiting import wait
from agent.model.schema.objects import Key

NAMESPACE = "warren-demo"
_PORT = 8080
_HBONE = 15008
_FIELD = re.compile(r'([\w.]+)="?([^"\t\n ]*)"?')
_SOON = 5.0  # seconds
_CALLS = 5


@dataclass(frozen=True)
class Evidence:
    """One promise, whether it holds, and what was seen."""

    claim: str
    holds: bool
    seen: list[str]


@dataclass(frozen=True)
class Cast:
    """The pods that play: `server` (in the mesh) and `outside` are on another node than `client`.

    `neighbour` is as `server`, on the client's node.
    """

    lab: Lab
    namespace: str
    client: Pod
    server: Pod
    outside: Pod
    neighbour: Pod

    @property
    def near(self) -> Node:
        return self.lab.node(self.client.node)

    @property
    def far(self) -> Node:
        return self.lab.node(self.server.node)

    def ask(self, url: str, body: str = "") -> dict[str, Any]:
        """A request from the client, as `agent.lab.client` tells of it."""
        program = [sys.executable, "-I", str(Path(client_program.__file__)), url, *([body] if body else [])]
        answer: dict[str, Any] = json.loads(self.client.run(program, timeout=30).stdout)
        return answer


def demonstrate(lab: Lab) -> Iterator[Evidence]:
    """Gather all evidence, one by one. Raises LabError when the lab cannot show it."""
    check(lab)
    own = [] if _has_defaults(lab) else [Key("Namespace", "", NAMESPACE)]
    try:
        yield from _evidence(make_cast(lab, NAMESPACE if own else "default"))
    finally:
        lab.withdraw(own)


def _evidence(cast: Cast) -> Iterator[Evidence]:
    checks: list[Callable[[Cast], Evidence]] = [
        names_resolve, addresses_are_kept, identities_meet, link_carries_tls_only, outside_is_reached_plainly,
        one_node_needs_no_tunnel, no_tunnel_no_connection,
    ]  # fmt: skip
    if not cast.lab.state.direct or cast.near.name in cast.lab.state.ztunnels:
        checks.remove(one_node_needs_no_tunnel)
    for one in checks:
        yield one(cast)


def check(lab: Lab) -> None:
    """Raises LabError for one node only, no mesh, or no access log."""
    if not lab.state.mesh or len(lab.nodes) < 2 or lab.state.access_log != "all":
        raise LabError("the demonstration needs a lab with the mesh and two nodes: `warren lab up --again`")


def _has_defaults(lab: Lab) -> bool:
    """Whether the default manifests' workloads are there, and are not somebody's own of the same names."""
    defaults = (one for one in manifests.read([DEFAULT_MANIFEST])[0] if one.key.kind in manifests.TEMPLATED)
    return all(lab.workloads.objects.get(one.key) == one.body for one in defaults)


def make_cast(lab: Lab, namespace: str = "default") -> Cast:
    """Find the pods, or add them in that namespace."""
    if not all(lab.pods_of(f"{namespace}/deploy/{name}") for name in ("client", "web", "outside")):
        lab.put([one.within(namespace) for one in manifests.read([DEFAULT_MANIFEST])[0]])
    client = lab.pod(f"{namespace}/deploy/client")

    def find(name: str, near: bool) -> Pod:
        pods = lab.pods_of(f"{namespace}/deploy/{name}")
        return next(pod for pod in pods if (pod.node == client.node) == near)

    return Cast(lab, namespace, client, find("web", False), find("outside", False), find("web", True))


def names_resolve(cast: Cast) -> Evidence:
    names = ("web", f"web.{cast.namespace}", f"web.{cast.namespace}.svc.cluster.local")
    found = {}
    for name in names:
        lines = cast.client.run(["getent", "ahosts", name], check=False).stdout.splitlines()
        found[name] = sorted({line.split()[0] for line in lines})
    same = len({tuple(addresses) for addresses in found.values()}) == 1
    seen = [f"{name}: {' '.join(addresses) or 'not found'}" for name, addresses in found.items()]
    return Evidence("names resolve as in a cluster", same and bool(found["web"]), seen)


def addresses_are_kept(cast: Cast) -> Evidence:
    """By Service and by pod address, IPv4 and IPv6: each end sees the other as if there were no mesh."""
    seen, right = [], True
    service = cast.lab.cluster.objects[Key("Service", cast.namespace, "web")]
    targets = [(address, 80) for address in service["spec"]["clusterIPs"]]
    targets += [(str(address), _PORT) for address in (cast.server.ipv4, cast.server.ipv6)]
    for address, port in targets:
        host = f"[{address}]" if ":" in address else address
        reply = cast.ask(f"http://{host}:{port}/")
        if "error" in reply:
            seen.append(f"client to {host}:{port}: {reply['error']}")
            right = False
            continue
        server_saw = reply["answer"]["request"]["from"].rpartition(":")[0].strip("[]")
        own = str(cast.client.ipv6 if ":" in address else cast.client.ipv4)
        seen.append(f"client {own} saw {reply['peer']}; {reply['answer']['pod']} saw {server_saw}")
        right = right and reply["peer"] == address and server_saw == own
    return Evidence("each end sees the other's own address", right, seen)


def identities_meet(cast: Cast) -> Evidence:
    """Both tunnels log the connection with both identities, as verified in the TLS handshake."""
    expected = {"src.identity": cast.client.identity, "dst.identity": cast.server.identity}
    logs = {"outbound": cast.near.log("tunnel"), "inbound": cast.far.log("tunnel")}
    starts = {direction: log.stat().st_size for direction, log in logs.items()}
    cast.ask(f"http://{cast.server.ipv4}:{_PORT}/")

    def lines(direction: str) -> list[dict[str, str]]:
        with logs[direction].open(errors="replace") as log:
            log.seek(starts[direction])
            fields = [dict(_FIELD.findall(line)) for line in log]
        return [line for line in fields if line.get("direction") == direction]

    def met(direction: str) -> bool:
        return any(expected.items() <= line.items() for line in lines(direction))

    holds = wait(lambda: met("outbound") and met("inbound"), _SOON)
    seen = [
        f"{log.stem}: {line.get('src.identity', 'nobody')} -> {line.get('dst.identity', 'nobody')}"
        for direction, log in logs.items()
        for line in lines(direction)[-1:] or [{}]
    ]
    return Evidence("two identities met, each verified by the other's tunnel", holds, seen)


def link_carries_tls_only(cast: Cast) -> Evidence:
    marker = _marker()
    with Capture(cast.near.netns, cast.near.link_to(cast.far)) as capture:
        replies = [cast.ask(f"http://{host}:{_PORT}/", marker) for host in _hosts(cast.server)]
    traffic = capture.traffic
    found = traffic.records()
    hbone = [flow for flow in traffic.streams if _HBONE in (flow.source_port, flow.destination_port)]
    holds = (
        all(reply.get("status") == 200 for reply in replies)
        and found.get("application_data", 0) > 0
        and bool(hbone)
        and not traffic.plain()
        and not traffic.containing(marker[:40].encode())
    )
    return Evidence(
        f"the link {cast.near.name} - {cast.far.name} carries nothing but TLS",
        holds,
        [
            *(f"request refused: {reply['error']}" for reply in replies if "error" in reply),
            f"TLS records: {', '.join(f'{count} {name}' for name, count in found.items()) or 'none'}",
            *_of(traffic, marker),
        ],
    )


def outside_is_reached_plainly(cast: Cast) -> Evidence:
    """The control for the capture: the same text to a pod that is not in the mesh is there to read."""
    marker = _marker()
    with Capture(cast.near.netns, cast.near.link_to(cast.far)) as capture:
        replies = [cast.ask(f"http://{host}:{_PORT}/", marker) for host in _hosts(cast.outside)]
    traffic = capture.traffic
    holds = all(reply.get("status") == 200 for reply in replies) and bool(
        traffic.containing(marker[:40].encode())
    )
    errors = [f"request refused: {reply['error']}" for reply in replies if "error" in reply]
    return Evidence("a pod outside the mesh is reached plainly", holds, [*errors, *_of(traffic, marker)])


def one_node_needs_no_tunnel(cast: Cast) -> Evidence:
    """What the tunnel has let in once the kernel carries from then on, and tells with both identities."""
    log, before = cast.near.log("tunnel"), _direct(cast)
    start = log.stat().st_size if log.exists() else 0
    identities = {"src.identity": cast.client.identity, "dst.identity": cast.neighbour.identity}
    url = f"http://{cast.neighbour.ipv4}:{_PORT}/"
    right = all(cast.ask(url).get("status") == 200 for _ in range(_CALLS))
    direct = _direct(cast) - before

    def told() -> list[dict[str, str]]:
        with log.open(errors="replace") as lines:
            lines.seek(start)
            fields = [dict(_FIELD.findall(line)) for line in lines]
        return [
            line for line in fields if line.get("path") == "direct" and identities.items() <= line.items()
        ]

    holds = right and direct > 0 and wait(lambda: len(told()) == 2 * direct, _SOON)
    seen = [f"{_CALLS} requests to {cast.neighbour.name}: {direct} connections went straight to it"]
    seen += [
        f"{line['src.identity']} -> {line['dst.identity']}, round trip {line['rtt_us']} us"
        for line in (told() if direct else [])
        if "rtt_us" in line
    ][:1]
    return Evidence(f"two pods of {cast.near.name} need the tunnel once", holds, seen)


def _direct(cast: Cast) -> int:
    """Connections that have gone straight from pod to pod of the client's node."""
    return cast.near.verdicts().get("inbound_direct", 0)


def no_tunnel_no_connection(cast: Cast) -> Evidence:
    """Fail closed: without its node's tunnel a pod reaches nothing, rather than something in the clear."""
    urls = [f"http://{host}:{_PORT}/" for pod in (cast.server, cast.outside) for host in _hosts(pod)]
    cast.near.stop("tunnel", within=0)
    try:
        without = [cast.ask(url).get("error", "connected") for url in urls]
    finally:
        cast.near.start("tunnel")
    enrolled = [pod for pod in cast.lab.pods if pod.node == cast.client.node and cast.lab.enrolled(pod)]
    back = wait(lambda: all(pod.captured() for pod in enrolled), _SOON)
    after = [cast.ask(url).get("status", "refused") for url in urls]
    return Evidence(
        "with its tunnel stopped a pod's new connections are refused",
        back and set(without) == {"ECONNREFUSED"} and set(after) == {200},
        [f"tunnel of {cast.near.name} stopped: {', '.join(without)}",
         f"started again: {', '.join(map(str, after))}"],
    )  # fmt: skip


def _marker() -> str:
    """Text that is nowhere else, several times over."""
    return f"warren-{secrets.token_hex(20)}-" * 50


def _hosts(pod: Pod) -> list[str]:
    return [str(pod.ipv4), f"[{pod.ipv6}]"]


def _of(traffic: Traffic, marker: str) -> list[str]:
    size = sum(map(len, traffic.streams.values()))
    count = sum(stream.count(marker[:40].encode()) for stream in traffic.streams.values())
    return [f"{size} bytes of TCP payload captured; the request's own text is in it {count} times"]
