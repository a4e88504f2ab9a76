"""`warren why` and the data path say the same of random meshes, pods, destinations and requests.

`make test-why` does the same with thousands.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from random import Random

import pytest

from agent.lab import kernel
from agent.lab.members import Node
from agent.model.schema.objects import Key
from tests.mesh.conftest import ON_FOLDER, Manifest, Mesh, is_current
from tests.support import agreeing, backend
from tests.support.agreeing import HTTP, OTHER, PODS, Case, Drawn, disagreement
from tests.support.backend import Answer
from tests.support.resident import Resident
from tests.support.wait import until

CASES = int(os.environ.get("WARREN_WHY_CASES", "300"))
ROUND = min(CASES // 10, 40)  # requests of one mesh
SETTLED = 5.0  # seconds: what is in force in the tunnel has reached the kernel and open connections

pytestmark = ON_FOLDER


@pytest.fixture(scope="module")
def addresses(mesh: Mesh) -> Iterator[dict[str, str]]:
    """Of the pods, and of a server on a node itself; all of them serve."""
    node = mesh.lab.node("node2")
    outside = Resident(mesh.lab.pod("outside").cgroup, node.netns)
    outside.call(backend.serve, HTTP, "node")
    for pod in PODS:
        for port in (HTTP, OTHER):
            mesh.inside(pod).call(backend.serve, port, pod)
    put(mesh, agreeing.services())
    try:
        yield {**{pod: mesh.address(pod, 4) for pod in PODS}, "node": str(node.ipv4)}
    finally:
        take_away(mesh, agreeing.services())
        outside.close()


def put(mesh: Mesh, manifests: list[Manifest]) -> None:
    """Put them in force, and wait until both tunnels have them."""
    mesh.lab.cluster.put(manifests)
    settle(mesh)


def take_away(mesh: Mesh, manifests: list[Manifest]) -> None:
    for one in manifests:
        mesh.lab.cluster.delete(Key(one["kind"], "default", one["metadata"]["name"]))


def settle(mesh: Mesh) -> None:
    """Waits until each tunnel has what its agent has, after the agent has heard of all objects."""
    number = next(_numbers)
    mesh.lab.cluster.put([agreeing.service("mark", 89, [{"name": "tcp", "port": number}])])
    for node in mesh.lab.nodes:
        until(partial(_is_current, node, number), what=f"{node.name} is current")


_numbers = iter(range(1, 60_000))


def _is_current(node: Node, number: int) -> bool:
    """Whether the tunnel has the mark of this number, and all else as the agent has it."""
    dump = json.loads(node.fetch(15000, "/config_dump"))
    marked = [one for one in dump["services"] if one["name"].startswith("mark")]
    return bool(marked) and [ports[0] for ports in marked[0]["ports"]] == [number] and is_current(node)


def both_sides(mesh: Mesh, cases: list[Case]) -> Iterator[tuple[Case, Manifest, Answer]]:
    """What each node's tunnel says, and what came back."""
    for pod in PODS:
        some = [one for one in cases if one.source == pod]
        node = mesh.lab.node(mesh.lab.pod(pod).node)
        said = kernel.in_netns(node.netns, partial(agreeing.ask_why, 15000, [one.question for one in some]))
        sent = [
            ((one.address or mesh.service(one.service, 4), one.port), one.request, one.method) for one in some
        ]
        yield from zip(some, said, mesh.inside(pod).call(agreeing.ask_all, sent), strict=True)


def differing(mesh: Mesh, cases: list[Case], seen: Counter[str]) -> list[Case]:
    """Those of which both sides do not say the same; the others are counted."""
    left = []
    for case, said, answer in both_sides(mesh, cases):
        if disagreement(said, answer):
            left.append(case)
        else:
            seen["served" if answer.status == 200 else "refused"] += 1
    return left


def report(mesh: Mesh, drawn: Drawn, cases: list[Case]) -> str:
    """Objects, and the first cases with both sides."""
    told = [
        f"{case}\n  {disagreement(said, answer)}: {answer}\n  {json.dumps(said)}"
        for case, said, answer in both_sides(mesh, cases[:3])
    ]
    return "\n".join([*map(json.dumps, drawn.manifests), f"{len(cases)} differ", *told])


def check(mesh: Mesh, drawn: Drawn, seen: Counter[str]) -> None:
    """Both sides say the same of all cases; `seen`: what became of them."""
    put(mesh, drawn.manifests)
    left = drawn.cases

    def agree() -> bool:
        nonlocal left
        left = differing(mesh, left, seen)
        return not left

    try:
        until(agree, SETTLED)
    except AssertionError:
        pytest.fail(report(mesh, drawn, left))
    finally:
        take_away(mesh, drawn.manifests)


def test_it_is_as_it_says(mesh: Mesh, addresses: dict[str, str]) -> None:
    seen = Counter[str]()
    for number in range(CASES // ROUND):
        check(mesh, agreeing.draw(Random(number), ROUND, addresses), seen)
    assert min(seen["served"], seen["refused"]) > CASES / 5, f"both must be met: {seen}"


def test_policies_judge_what_a_route_has_made_of_a_request(mesh: Mesh, addresses: dict[str, str]) -> None:
    """Its path and its headers; and of a share that goes nowhere nothing is sure."""
    solo = {"destination": {"host": "solo", "port": {"number": 80}}}
    nowhere = {"destination": {"host": "empty", "port": {"number": 80}}}
    rules = [
        {"match": [{"uri": {"prefix": "/old"}}], "rewrite": {"uri": "/admin"}, "route": [solo]},
        {
            "match": [{"uri": {"prefix": "/open"}}],
            "headers": {"request": {"set": {"x-user": "jason"}}},
            "route": [solo],
        },
        {"match": [{"uri": {"exact": "/admin"}}], "rewrite": {"uri": "/"}, "route": [solo]},
        {"route": [{**solo, "weight": 50}, {**nowhere, "weight": 50}]},
    ]
    to_admin = {"to": [{"operation": {"paths": ["/admin*"]}}]}
    of_jason = {"when": [{"key": "request.headers[x-user]", "values": ["jason"]}]}
    manifests = [
        agreeing.manifest("VirtualService", "solo", hosts=["solo"], http=rules),
        agreeing.manifest("AuthorizationPolicy", "deny", action="DENY", rules=[to_admin, of_jason]),
    ]
    paths = ("/old/open", "/open", "/admin", "/")
    cases = [Case("far", "solo", None, 80, "GET", path, ()) for path in paths for _ in range(4)]
    check(mesh, Drawn(manifests, cases), Counter())
