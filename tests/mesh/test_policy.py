"""Who may talk to whom: real connections, HBONE and plain text, from both nodes and from outside the mesh."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from agent.model.schema.objects import Key
from tests.mesh.conftest import Manifest, Mesh, in_force
from tests.mesh.test_traffic import FAMILIES
from tests.support import sockets
from tests.support.resident import Resident
from tests.support.wait import until

PORT, OTHER = 7100, 7101
PODS = ("a", "near", "far", "outside")


@pytest.fixture(scope="module", autouse=True)
def serving(mesh: Mesh) -> None:
    """In every pod, servers on `PORT` and `OTHER`."""
    for pod in PODS:
        for port in (PORT, OTHER):
            mesh.inside(pod).call(sockets.serve, port)


@pytest.fixture(scope="module")
def hosts(mesh: Mesh) -> Iterator[dict[str, Resident]]:
    """A process on each node itself, in no pod."""
    with ExitStack() as exits:
        residents = {}
        for node in mesh.lab.nodes:
            residents[node.name] = Resident(mesh.lab.pod("outside").cgroup, node.netns)
            exits.callback(residents[node.name].close)
        yield residents


def authorization(name: str, **spec: Any) -> Manifest:
    return _manifest("AuthorizationPolicy", name, spec)


def authentication(name: str, **spec: Any) -> Manifest:
    return _manifest("PeerAuthentication", name, spec)


def _manifest(kind: str, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def applied(mesh: Mesh, *manifests: Manifest) -> AbstractContextManager[None]:
    return in_force(mesh, manifests, lambda: reaching(mesh, "a") == set(PODS), "everybody reaches a again")


def reaches(mesh: Mesh, source: str, target: str, port: int = PORT, family: int = 4) -> bool:
    to = (mesh.address(target, family), port)
    return not mesh.inside(source).call(sockets.is_turned_away, to)


def reaching(mesh: Mesh, target: str, port: int = PORT, family: int = 4) -> set[str]:
    """The pods whose connections are let in: its own always are, for they do not leave the pod."""
    return {source for source in PODS if reaches(mesh, source, target, port, family)}


def becomes(check: Callable[[], set[str]], expected: set[str]) -> None:
    until(lambda: check() == expected, what=f"{expected} are let in, and nobody else ({check()})")


def principal(account: str) -> str:
    return f"cluster.local/ns/default/sa/{account}"


@FAMILIES
def test_by_identity(mesh: Mesh, family: int) -> None:
    """`near` and `far` are of one service account; who speaks plainly has no identity."""
    rule = {"from": [{"source": {"principals": [principal("b")]}}]}
    of_a = {"matchLabels": {"app": "a"}}
    with applied(mesh, authorization("only-b", selector=of_a, rules=[rule])):
        becomes(lambda: reaching(mesh, "a", family=family), {"a", "near", "far"})
        assert reaching(mesh, "far", family=family) == set(PODS), "it is for a alone"
    with applied(mesh, authorization("no-b", selector=of_a, action="DENY", rules=[rule])):
        becomes(lambda: reaching(mesh, "a", family=family), {"a", "outside"})


@FAMILIES
def test_by_address(mesh: Mesh, family: int) -> None:
    """Of who comes through a tunnel and of who comes plainly."""
    blocks = [mesh.address(pod, family) for pod in ("far", "outside")]
    rule = {"from": [{"source": {"ipBlocks": blocks}}]}
    with applied(mesh, authorization("blocks", selector={"matchLabels": {"app": "a"}}, rules=[rule])):
        becomes(lambda: reaching(mesh, "a", family=family), {"a", "far", "outside"})


@FAMILIES
def test_by_port(mesh: Mesh, family: int) -> None:
    rule = {"to": [{"operation": {"ports": [str(PORT)]}}]}
    with applied(mesh, authorization("port", action="DENY", rules=[rule])):
        becomes(lambda: reaching(mesh, "a", family=family), {"a"})
        assert reaching(mesh, "a", OTHER, family) == set(PODS)


def test_a_policy_without_rules_lets_nobody_in(mesh: Mesh) -> None:
    with applied(mesh, authorization("nobody")):
        for target in ("a", "near", "far"):
            becomes(lambda: reaching(mesh, target), {target})  # noqa: B023
        assert reaching(mesh, "outside") == set(PODS), "who is not in the mesh has no policies"


@FAMILIES
@pytest.mark.parametrize("target", ["a", "far"])
def test_a_strict_pod_is_reached_in_no_other_way(
    mesh: Mesh, hosts: dict[str, Resident], target: str, family: int
) -> None:
    """Neither from outside of the mesh nor from a node's own network, its own node or the other one."""
    attackers = {**hosts, "outside": mesh.inside("outside")}
    with applied(mesh, authentication("strict", mtls={"mode": "STRICT"})):
        becomes(lambda: reaching(mesh, target, family=family), {"a", "near", "far"})
        for name, attacker in attackers.items():
            for port in (PORT, 15006, 15008):
                before = refused(mesh, target)
                to = (mesh.address(target, family), port)
                assert attacker.call(sockets.is_turned_away, to), f"{name} reaches {to}"
                until(lambda: refused(mesh, target) > before, what=f"{name} to {to} is counted")  # noqa: B023


@FAMILIES
@pytest.mark.parametrize("target", ["near", "far"])
def test_a_strict_pod_is_reached_whatever_names_its_address(mesh: Mesh, target: str, family: int) -> None:
    """Who owns an address decides how it is reached: a ServiceEntry names that of an enrolled pod."""
    virtual = "192.0.2.9" if family == 4 else "2001:db8::9"
    spec = {
        "hosts": ["alias.example"],
        "addresses": [virtual],
        "ports": [{"number": 80, "name": "tcp", "protocol": "TCP", "targetPort": PORT}],
        "resolution": "STATIC",
        "endpoints": [{"address": mesh.address(target, family)}],
    }
    metadata = {"name": "alias", "namespace": "default"}
    alias = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": metadata,
        "spec": spec,
    }
    with applied(mesh, alias, authentication("strict", mtls={"mode": "STRICT"})):
        becomes(lambda: reaching(mesh, target, family=family), {"a", "near", "far"})
        a = mesh.inside("a")
        until(lambda: not a.call(sockets.is_turned_away, (virtual, 80)), what=f"alias.example is {target}")


def test_a_strict_pod_may_make_an_exception_of_a_port(mesh: Mesh) -> None:
    modes = {"mtls": {"mode": "STRICT"}, "portLevelMtls": {str(OTHER): {"mode": "DISABLE"}}}
    item = authentication("a", selector={"matchLabels": {"app": "a"}}, **modes)
    with applied(mesh, item):
        becomes(lambda: reaching(mesh, "a"), {"a", "near", "far"})
        assert reaching(mesh, "a", OTHER) == set(PODS)


def test_a_change_closes_what_it_denies_and_nothing_else(mesh: Mesh) -> None:
    """Among a thousand connections, of both kinds."""
    to = (mesh.address("a", 4), PORT)
    counts = {"far": 400, "outside": 300, "near": 300}
    open_ = {pod: mesh.inside(pod).call(sockets.connect_many, to, count) for pod, count in counts.items()}

    def over(pod: str) -> int:
        return mesh.inside(pod).call(sockets.broken, open_[pod])

    blocks = [mesh.address(pod, 4) for pod in ("far", "outside")]
    rule = {"from": [{"source": {"ipBlocks": blocks}}]}
    before = verdicts(mesh, "default/cut")
    with applied(
        mesh, authorization("cut", selector={"matchLabels": {"app": "a"}}, action="DENY", rules=[rule])
    ):
        for pod in ("far", "outside"):
            until(lambda: over(pod) == counts[pod], what=f"all of {pod} are closed")  # noqa: B023
        assert over("near") == 0
        assert mesh.inside("near").call(sockets.echoing, open_["near"]) == counts["near"]
        until(lambda: verdicts(mesh, "default/cut") >= before + 700, what="they are counted")
    for pod, numbers in open_.items():
        mesh.inside(pod).call(sockets.forget_all, numbers)


def test_a_policy_that_labels_attach_closes_what_it_denies(mesh: Mesh) -> None:
    """The policy is there all the time: it is the pod that changes."""
    [number] = mesh.inside("far").call(sockets.connect_many, (mesh.address("a", 4), PORT), 1)
    rule = {"from": [{"source": {"namespaces": ["default"]}}]}
    item = authorization("closed", selector={"matchLabels": {"closed": "yes"}}, action="DENY", rules=[rule])
    with applied(mesh, item):
        assert mesh.inside("far").call(sockets.echoing, [number]) == 1
        body = mesh.lab.cluster.objects[Key("Pod", "default", "a")]
        labels = {**body["metadata"]["labels"], "closed": "yes"}
        mesh.lab.cluster.put([{**body, "metadata": {**body["metadata"], "labels": labels}}])
        until(lambda: mesh.inside("far").call(sockets.broken, [number]), what="it is closed")
        becomes(lambda: reaching(mesh, "a"), {"a", "outside"})
        mesh.lab.cluster.put(
            [{**body, "metadata": {**body["metadata"], "labels": {"app": "a", "closed": "no"}}}]
        )
        becomes(lambda: reaching(mesh, "a"), set(PODS))
    mesh.inside("far").call(sockets.forget, number)


def refused(mesh: Mesh, target: str) -> int:
    """Connections that the tunnel of a pod's node has refused."""
    found = re.findall(
        r"^warren_connections_refused_total\{.*\} (\d+)$", _metrics(mesh, target), re.MULTILINE
    )
    return sum(map(int, found))


def verdicts(mesh: Mesh, policy: str) -> int:
    """Connections to `a` that a policy has denied."""
    sample = rf'^warren_policy_verdicts_total\{{policy="{policy}",verdict="denied"\}} (\d+)$'
    return sum(map(int, re.findall(sample, _metrics(mesh, "a"), re.MULTILINE)))


def _metrics(mesh: Mesh, pod: str) -> str:
    node = mesh.lab.node(mesh.lab.pod(pod).node)
    return node.run(["curl", "-s", "http://127.0.0.1:15020/metrics"]).stdout
