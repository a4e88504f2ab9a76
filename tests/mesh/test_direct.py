"""Pods of one node: the tunnel lets a first connection in, the kernel carries others by the same policies."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.lab import Lab
from agent.lab.members import Node
from agent.model.schema.objects import Key
from bpf.pins import Pins
from tests.mesh.conftest import ON_SERVER, PODS, Connection, Manifest, Mesh, in_force, revoke_all
from tests.mesh.test_policy import authentication, authorization
from tests.mesh.test_traffic import FAMILIES
from tests.support import sockets
from tests.support.wait import until

PORT, OTHER, BLOCKED, QUIET = 7100, 7101, 7102, 7103
Record = dict[str, Any]
Line = dict[str, str]


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Lab.up([PODS], name=f"wt-direct-{os.getpid()}") as lab:
        mesh = Mesh(lab, {})
        try:
            for pod in ("a", "near", "far"):
                for port in (PORT, OTHER, BLOCKED):
                    mesh.inside(pod).call(sockets.serve, port)
            yield mesh
        finally:
            mesh.close()


@pytest.fixture
def node(mesh: Mesh) -> Node:
    return mesh.lab.node("node1")


def ask(node: Node, path: str) -> str:
    """Of the tunnel."""
    text: str = node.run(["curl", "-s", f"http://127.0.0.1:{path}"]).stdout
    return text


def records(node: Node) -> list[Record]:
    """Of all open connections."""
    found: list[Record] = json.loads(ask(node, "15000/connections"))
    return found


def pairs(node: Node) -> set[str]:
    """What is allowed directly now, as `source to`."""
    told = json.loads(ask(node, "15000/config_dump"))["direct"]["pairs"]
    return {f"{one['source'].rpartition('/')[2]} {one['to']}" for one in told}


def logged(node: Node, *wanted: str) -> list[Line]:
    """The lines of the access log that hold all these words, taken apart."""
    lines = [line for line in node.log("tunnel").read_text().splitlines() if "\taccess\t" in line]
    fields = [dict(part.split("=", 1) for part in line.split("\t") if "=" in part) for line in lines]
    return [one for one, line in zip(fields, lines, strict=True) if all(word in line for word in wanted)]


def both_lines(node: Node, source: str) -> list[Line]:
    """What is logged of the connection that comes from there, at its source and at its destination."""

    def both() -> list[Line]:
        lines = logged(node, f"src.addr={source}")
        return lines if len(lines) == 2 else []

    return sorted(until(both, what="both ends are logged"), key=lambda line: line["direction"], reverse=True)


def are_direct(node: Node) -> int:
    """How many connections are open that go directly."""
    return len([one for one in records(node) if one.get("path") == "direct"]) // 2


def straighten(mesh: Mesh, source: str, target: str, port: int = PORT, family: int = 4) -> sockets.Address:
    """Have connections of this pair go directly; where to."""
    node, to = mesh.lab.node(mesh.lab.pod(source).node), (mesh.address(target, family), port)

    def is_direct() -> bool:
        before = node.verdicts()["inbound_direct"]
        [number] = mesh.inside(source).call(sockets.connect_many, to, 1)
        mesh.inside(source).call(sockets.close, number)
        return node.verdicts()["inbound_direct"] > before

    until(is_direct, what=f"{source} reaches {to} directly")
    return to


def applied(mesh: Mesh, *manifests: Manifest) -> AbstractContextManager[None]:
    """In force as long as this lasts; afterwards `near` reaches `a` again."""

    def over() -> bool:
        return not mesh.inside("near").call(sockets.is_turned_away, (mesh.address("a", 4), PORT))

    return in_force(mesh, manifests, over, "near reaches a again")


@FAMILIES
def test_after_the_first_connection_the_kernel_carries_them(mesh: Mesh, node: Node, family: int) -> None:
    to = (mesh.address("near", family), PORT)
    client = mesh.inside("a")
    [first] = client.call(sockets.connect_many, to, 1)
    until(lambda: any(f"a {address(to)}" == pair for pair in pairs(node)), what="the pair is allowed")
    [second] = client.call(sockets.connect_many, to, 1)
    port = client.call(sockets.port, second)
    told = [one for one in records(node) if one["src.addr"] == address((mesh.address("a", family), port))]
    assert {one["direction"] for one in told} == {"inbound", "outbound"}
    for one in told:
        assert (one["path"], one["dst.addr"]) == ("direct", address(to))
        assert one["src.identity"] == mesh.lab.pod("a").identity
        assert one["dst.identity"] == mesh.lab.pod("near").identity
        assert "dst.hbone_addr" not in one
    assert client.call(sockets.echoing, [first, second]) == 2
    assert client.call(sockets.peer, second) == to
    client.call(sockets.forget_all, [first, second])


def address(of: sockets.Address) -> str:
    return f"[{of[0]}]:{of[1]}" if ":" in of[0] else f"{of[0]}:{of[1]}"


@FAMILIES
def test_a_service_that_leaves_no_choice_is_direct(mesh: Mesh, node: Node, family: int) -> None:
    client, server = mesh.inside("a"), mesh.inside("near")
    listener = server.call(sockets.listen, 7000)
    virtual = (mesh.service("near", family), 80)

    def connect() -> tuple[int, str]:
        number = client.call(sockets.connect, virtual)
        served, seen = server.call(sockets.accept, listener)
        client.call(sockets.send, number, b"to a service")
        assert server.call(sockets.receive, served, 12) == b"to a service"
        server.call(sockets.close, served)
        return number, seen

    numbers = [connect()[0]]
    until(lambda: f"a {address(virtual)}" in pairs(node), what="the service is direct")
    number, seen = connect()
    assert seen == mesh.address("a", family)
    assert client.call(sockets.peer, number) == virtual
    port = client.call(sockets.port, number)
    told = [one for one in records(node) if one["src.addr"] == address((seen, port))]
    assert [one["path"] for one in told] == ["direct"] * 2
    assert {one["dst.service"] for one in told} == {"near.default.svc.cluster.local"}
    client.call(sockets.forget_all, [*numbers, number])
    server.call(sockets.forget, listener)


def test_a_service_with_a_choice_goes_through_the_tunnel(mesh: Mesh, node: Node, tmp_path: Path) -> None:
    """Of its two pods only one is near: chance has to stay fair."""
    spec = {"selector": {"role": "b"}, "ports": [{"port": 80, "targetPort": 7000}]}
    both = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "both"}, "spec": spec}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(both))
    mesh.lab.apply([tmp_path / "both.yaml"])
    virtual = (mesh.service("both", 4), 80)
    until(lambda: f'"{virtual[0]}"' in ask(node, "15000/config_dump"), what="the Service is known")
    listeners = {pod: mesh.inside(pod).call(sockets.listen, 7000) for pod in ("near", "far")}
    for _ in range(12):
        number = mesh.inside("a").call(sockets.connect, virtual)
        mesh.inside("a").call(sockets.send, number, b"x")
        mesh.inside("a").call(sockets.close, number)
    assert f"a {address(virtual)}" not in pairs(node)
    for pod, listener in listeners.items():
        mesh.inside(pod).call(sockets.forget, listener)


@pytest.fixture
def straight(mesh: Mesh, node: Node) -> Iterator[Connection]:
    """A direct connection of `a` to `near`, on which only the test speaks."""
    to = (mesh.address("near", 4), QUIET)
    client, server = mesh.inside("a"), mesh.inside("near")
    listener = server.call(sockets.listen, QUIET)
    first = client.call(sockets.connect, to)
    until(lambda: f"a {address(to)}" in pairs(node), what="the pair is allowed")
    near = client.call(sockets.connect, to)
    server.call(sockets.accept, listener)
    far, seen = server.call(sockets.accept, listener)
    yield Connection(client, server, near, far, seen)
    for resident, number in ((client, first), (client, near), (server, far), (server, listener)):
        resident.call(sockets.forget, number)


def test_bytes_time_and_ends_are_told_as_of_every_connection(node: Node, straight: Connection) -> None:
    client, server, near, far = straight.client, straight.server, straight.near, straight.far
    source = address((straight.seen, client.call(sockets.port, near)))
    client.call(sockets.send, near, bytes(1000))
    server.call(sockets.receive, far, 1000)
    server.call(sockets.send, far, bytes(300))
    client.call(sockets.receive, near, 300)

    def told() -> dict[str, tuple[int, int]]:
        mine = [one for one in records(node) if one["src.addr"] == source]
        return {one["direction"]: (one["bytes_sent"], one["bytes_recv"]) for one in mine}

    until(
        lambda: told() == {"outbound": (1000, 300), "inbound": (300, 1000)},
        what="bytes are told while it is open",
    )
    server.call(sockets.send, far, bytes(7))
    client.call(sockets.receive, near, 7)
    client.call(sockets.end, near)
    assert server.call(sockets.receive, far, 1) == b""
    server.call(sockets.close, far)
    client.call(sockets.close, near)
    outbound, inbound = both_lines(node, source)
    assert (outbound["bytes_sent"], outbound["bytes_recv"]) == ("1000", "307")
    assert (inbound["bytes_sent"], inbound["bytes_recv"]) == ("307", "1000")
    assert int(outbound["rtt_us"]) > 0
    assert outbound["retransmits"] == "0"
    assert "error" not in outbound


def sample(node: Node, name: str, **labels: str) -> float:
    """The sum of the samples with these labels, among them that of direct connections."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in ask(node, "15020/metrics").splitlines() if line.startswith(name + "{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(one in line for one in wanted))


def test_metrics_count_them_and_call_them_direct(mesh: Mesh, node: Node) -> None:
    to = straighten(mesh, "a", "near")
    direct = {"connection_security_policy": "direct", "source_workload": "a", "destination_workload": "near"}

    def counts() -> list[float]:
        names = ("istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total")
        both = [
            sample(node, name, reporter=end, **direct) for name in names for end in ("source", "destination")
        ]
        return [*both, sample(node, "warren_direct_rtt_seconds_count", **direct)]

    until(lambda: len(set(counts())) == 1, what="all that are open are closed")
    before = counts()
    numbers = mesh.inside("a").call(sockets.connect_many, to, 20)
    until(lambda: [now - old for now, old in zip(counts(), before, strict=True)] == [20, 20, 0, 0, 0])
    mesh.inside("a").call(sockets.forget_all, numbers)
    until(lambda: [now - old for now, old in zip(counts(), before, strict=True)] == [20] * 5)


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_reset_is_told_as_one(node: Node, straight: Connection, end: str) -> None:
    client, server, near, far = straight.client, straight.server, straight.near, straight.far
    source = address((straight.seen, client.call(sockets.port, near)))
    if end == "client":
        client.call(sockets.reset, near)
    else:
        server.call(sockets.reset, far)
    line, _ = both_lines(node, source)
    assert (line["path"], line["reason"]) == ("direct", "app_reset")


def test_an_application_that_does_not_listen_refuses(mesh: Mesh, node: Node) -> None:
    listener = mesh.inside("near").call(sockets.listen, QUIET)
    to = (mesh.address("near", 4), QUIET)
    mesh.inside("a").call(sockets.close, mesh.inside("a").call(sockets.connect, to))
    until(lambda: f"a {address(to)}" in pairs(node), what="the pair is allowed")
    mesh.inside("near").call(sockets.close, listener)
    assert mesh.inside("a").call(sockets.is_refused, to)
    lines = until(lambda: logged(node, f"dst.addr={address(to)}", "connect_failed"), what="it is told")
    assert lines[-1]["path"] == "direct"


def over(mesh: Mesh, pod: str, numbers: list[int]) -> int:
    count: int = mesh.inside(pod).call(sockets.broken, numbers)
    return count


def test_a_change_of_policy_closes_what_it_denies_and_nothing_else(mesh: Mesh, node: Node) -> None:
    """A thousand direct connections, of which policy denies seven hundred."""
    client = mesh.inside("near")
    denied = client.call(sockets.connect_many, straighten(mesh, "near", "a"), 700)
    allowed = client.call(sockets.connect_many, straighten(mesh, "near", "a", OTHER), 300)
    assert are_direct(node) == 1000
    before = sample(node, "warren_policy_verdicts_total", policy="default/cut", verdict="denied")
    rule = {"to": [{"operation": {"ports": [str(PORT)]}}]}
    item = authorization("cut", selector={"matchLabels": {"app": "a"}}, action="DENY", rules=[rule])
    with applied(mesh, item):
        until(lambda: over(mesh, "near", denied) == 700, what="all that are denied are closed")
        assert over(mesh, "near", allowed) == 0
        assert client.call(sockets.echoing, allowed) == 300
        assert client.call(sockets.is_turned_away, (mesh.address("a", 4), PORT))
        assert f"near {address((mesh.address('a', 4), PORT))}" not in pairs(node)
        lines = until(lambda: logged(node, "reason=policy_changed", "path=direct", "direction=inbound"))
        assert "default/cut" in lines[0]["error"]
        assert (
            sample(node, "warren_policy_verdicts_total", policy="default/cut", verdict="denied")
            >= before + 700
        )
    straighten(mesh, "near", "a")  # again, when it is allowed
    client.call(sockets.forget_all, [*denied, *allowed])


def test_what_is_strict_takes_them_for_authenticated(mesh: Mesh, node: Node) -> None:
    """And by who they are it is decided whether they may."""
    to = straighten(mesh, "a", "near")
    rule = {"from": [{"source": {"principals": ["cluster.local/ns/default/sa/a"]}}]}
    with applied(
        mesh, authentication("strict", mtls={"mode": "STRICT"}), authorization("only-a", rules=[rule])
    ):
        until(lambda: mesh.inside("far").call(sockets.is_turned_away, to), what="the policy is in force")
        straighten(mesh, "a", "near")
        # Which the kernel carried before: it hears of the policy after the tunnel.
        back = mesh.address("a", 4), PORT
        until(
            lambda: mesh.inside("near").call(sockets.is_turned_away, back), what="and for pairs of the node"
        )


def test_a_policy_that_labels_attach_closes_them_too(mesh: Mesh) -> None:
    [number] = mesh.inside("near").call(sockets.connect_many, straighten(mesh, "near", "a"), 1)
    rule = {"from": [{"source": {"namespaces": ["default"]}}]}
    item = authorization("closed", selector={"matchLabels": {"closed": "yes"}}, action="DENY", rules=[rule])
    with applied(mesh, item):
        assert mesh.inside("near").call(sockets.echoing, [number]) == 1
        relabel(mesh, "a", {"app": "a", "closed": "yes"})
        until(lambda: over(mesh, "near", [number]), what="it is closed")
        relabel(mesh, "a", {"app": "a"})
    mesh.inside("near").call(sockets.forget, number)


def relabel(mesh: Mesh, pod: str, labels: dict[str, str]) -> None:
    body = mesh.lab.cluster.objects[Key("Pod", "default", pod)]
    mesh.lab.cluster.put([{**body, "metadata": {**body["metadata"], "labels": labels}}])


def test_a_revoked_certificate_closes_them_until_there_is_another(mesh: Mesh, node: Node) -> None:
    """Nothing is proven by it here, but the tunnel would refuse who has it: no way leads past that."""
    to = straighten(mesh, "a", "near")
    [number] = mesh.inside("a").call(sockets.connect_many, to, 1)
    source = address((mesh.address("a", 4), mesh.inside("a").call(sockets.port, number)))
    revoke_all(mesh, mesh.lab.pod("a").identity)
    assert {line["reason"] for line in both_lines(node, source)} == {"certificate_revoked"}
    mesh.inside("a").call(sockets.forget, number)
    straighten(mesh, "a", "near")


def test_what_policies_in_dry_run_would_refuse_is_told(mesh: Mesh, node: Node) -> None:
    rule = {"to": [{"operation": {"ports": [str(PORT)]}}]}
    item = authorization("would", action="DENY", rules=[rule])
    item["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    with applied(mesh, item):
        told = {"policy": "default/would", "verdict": "dry_run"}
        to = (mesh.address("a", 4), PORT)

        def says_so() -> float:
            mesh.inside("near").call(sockets.is_turned_away, to)
            return sample(node, "warren_policy_verdicts_total", **told)

        until(says_so, what="the policy is in force")
        straighten(mesh, "near", "a")
        before = sample(node, "warren_policy_verdicts_total", **told)
        numbers = mesh.inside("near").call(sockets.connect_many, to, 10)
        until(
            lambda: sample(node, "warren_policy_verdicts_total", **told) == before + 10,
            what="each is counted",
        )
        mesh.inside("near").call(sockets.forget_all, numbers)


def test_a_tunnel_that_dies_leaves_them_and_its_successor_ends_them(mesh: Mesh, node: Node) -> None:
    """Meanwhile nobody could look after new ones: they are refused."""
    to = straighten(mesh, "near", "a")
    client = mesh.inside("near")
    numbers = client.call(sockets.connect_many, to, 10)
    node.stop("tunnel", within=0)
    assert client.call(sockets.echoing, numbers) == 10
    until(lambda: client.call(sockets.is_refused, to), what="new ones are refused")
    node.start("tunnel")
    until(lambda: are_direct(node) == 10, what="they are known again")
    assert client.call(sockets.echoing, numbers) == 10
    rule = {"from": [{"source": {"namespaces": ["default"]}}]}
    with applied(
        mesh, authorization("none", selector={"matchLabels": {"app": "a"}}, action="DENY", rules=[rule])
    ):
        until(lambda: over(mesh, "near", numbers) == 10, what="they are closed")
    client.call(sockets.forget_all, numbers)


def test_an_agent_that_comes_back_disturbs_nobody(mesh: Mesh, node: Node) -> None:
    to = straighten(mesh, "a", "near")
    numbers = mesh.inside("a").call(sockets.connect_many, to, 10)
    node.stop("agent", within=0)
    numbers += mesh.inside("a").call(sockets.connect_many, to, 10)
    node.start("agent")
    straighten(mesh, "a", "near")
    assert mesh.inside("a").call(sockets.echoing, numbers) == 20
    mesh.inside("a").call(sockets.forget_all, numbers)


def test_a_way_that_is_blocked_is_given_up(mesh: Mesh, node: Node) -> None:
    """As a NetworkPolicy would block it, which lets the tunnels' port through."""
    to = straighten(mesh, "a", "near", BLOCKED)
    ends = ["from", mesh.address("a", 4), "to", mesh.address("near", 4)]
    node.run(["ip", "rule", "add", "pref", "1", *ends, "ipproto", "tcp", "dport", str(BLOCKED), "blackhole"])
    attempt = mesh.inside("a").call(sockets.begin, to)
    until(lambda: f"a {address(to)}" not in pairs(node), what="the pair needs the tunnel again")
    [number] = mesh.inside("a").call(sockets.connect_many, to, 1)
    assert f"a {address(to)}" not in pairs(node)
    assert node.verdicts()["direct_not_seen"] >= 1
    mesh.inside("a").call(sockets.close, attempt)
    lines = until(lambda: logged(node, "reason=direct_not_seen"), what="it is told")
    assert lines[0]["dst.addr"] == address(to)
    node.run(["ip", "rule", "del", "pref", "1"])
    mesh.inside("a").call(sockets.forget, number)


def test_ten_thousand_short_connections_leave_nothing(mesh: Mesh, node: Node) -> None:
    client, to = mesh.inside("a"), straighten(mesh, "a", "near")
    before = node.verdicts()["inbound_direct"]
    # As many at a time as there is room for what is told of them, however late the tunnel reads it.
    for _ in range(10):
        client.call(sockets.forget_all, client.call(sockets.connect_many, to, 1000))
        until(lambda: not are_direct(node), what="none is open")
    assert node.verdicts()["inbound_direct"] >= before + 10_000
    announced = Pins(node.bpffs).map("announced")
    assert announced is not None
    assert list(announced) == []
    assert node.verdicts()["direct_not_told"] == 0


def test_a_pod_that_leaves_the_mesh_keeps_its_own_and_makes_no_more(mesh: Mesh, node: Node) -> None:
    numbers = mesh.inside("near").call(sockets.connect_many, straighten(mesh, "near", "a"), 5)
    relabel(mesh, "near", {"app": "near", "istio.io/dataplane-mode": "none"})
    until(lambda: not [pair for pair in pairs(node) if pair.startswith("near ")], what="it may make no more")
    assert over(mesh, "near", numbers) == 0
    relabel(mesh, "near", {"app": "near", "role": "b"})
    until(lambda: mesh.lab.pod("near").captured(), what="near is captured again")
    straighten(mesh, "near", "a")
    mesh.inside("near").call(sockets.forget_all, numbers)


def test_an_address_that_another_pod_has_taken_over_is_not_taken_for_the_old_one(
    mesh: Mesh, node: Node, tmp_path: Path
) -> None:
    to = straighten(mesh, "a", "near")
    mesh.leave("near")
    mesh.lab.delete(mesh.lab.pod("near"))
    assert f"a {address(to)}" not in pairs(node)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stranger"}}
    spec = {"nodeName": "node1", "serviceAccountName": "stranger", "containers": [{"name": "c"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}
    (tmp_path / "stranger.yaml").write_text(yaml.safe_dump_all([account, pod]))
    [stranger] = mesh.lab.apply([tmp_path / "stranger.yaml"])
    assert str(stranger.ipv4) == to[0]
    mesh.inside("stranger").call(sockets.serve, PORT)
    before = node.verdicts()["inbound_direct"]
    numbers = mesh.inside("a").call(sockets.connect_many, to, 1)
    assert node.verdicts()["inbound_direct"] == before
    straighten(mesh, "a", "stranger")
    numbers += mesh.inside("a").call(sockets.connect_many, to, 1)
    assert {one["dst.identity"] for one in records(node) if one["src.workload"] == "a"} == {stranger.identity}
    mesh.inside("a").call(sockets.forget_all, numbers)


@ON_SERVER
def test_it_can_be_switched_off(shared_lab: Lab) -> None:
    """As it is in that lab: a connection within its first node goes through the tunnel, and always has."""
    mesh, node = Mesh(shared_lab, {}), shared_lab.node("node1")
    mesh.inside("near").call(sockets.serve, PORT)
    numbers = mesh.inside("a").call(sockets.connect_many, (mesh.address("near", 4), PORT), 5)
    assert json.loads(ask(node, "15000/config_dump"))["direct"] is None
    assert not [name for name, count in node.verdicts().items() if "direct" in name and count]
    until(lambda: len(records(node)) == 10, what="each is told at both ends")
    mesh.inside("a").call(sockets.forget_all, numbers)
    mesh.close()
