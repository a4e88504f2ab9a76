"""Nothing is left over: of many short connections, of a pod that is gone when another takes its address."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from agent.lab.lab import Lab
from agent.lab.members import Node
from bpf.pins import Pins
from tests.mesh.conftest import PORT, Connector, Mesh, open_connections
from tests.support import sockets
from tests.support.wait import until

CONNECTIONS = 10_000
WARMING = 8_500  # of the allocator's pools, and more than the records that `warren flows` keeps


def descriptors(node: Node) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in node.pids("tunnel"))


def resident_kb(node: Node) -> int:
    """Memory of a node's tunnel."""
    *_, pid = node.pids("tunnel")  # the keeper is first
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS:")]
    return int(line.split()[1])


def originals(node: Node) -> int:
    """Destinations that the kernel keeps for the tunnel."""
    present = Pins(node.bpffs).map("original")
    assert present
    return len(list(present))


def ports_in_use(mesh: Mesh, pod: str) -> int:
    """TCP sockets in a pod that are not listening."""
    lines = mesh.inside(pod).call(established)
    return lines


def established() -> int:
    tables = [Path("/proc/thread-self/net") / name for name in ("tcp", "tcp6")]
    listening, time_wait = "0A", "06"
    states = [line.split()[3] for table in tables for line in table.read_text().splitlines()[1:]]
    return sum(state not in (listening, time_wait) for state in states)


def test_ten_thousand_short_connections_leave_nothing(mesh: Mesh, listening: dict[str, int]) -> None:
    client, server = mesh.inside("a"), mesh.inside("far")
    nodes = mesh.lab.nodes
    to = (mesh.address("far", 4), PORT)

    def round_of(count: int) -> None:
        with ThreadPoolExecutor() as pool:
            served = pool.submit(server.call, sockets.serve_echoes, listening["far"], count)
            assert client.call(sockets.short_connections, to, count) == count
            assert served.result() == count

    round_of(100)  # tunnels are open now, sockets made ahead
    until(lambda: open_connections(nodes) == 0)
    before = [descriptors(node) for node in nodes], [ports_in_use(mesh, pod) for pod in ("a", "far")]
    round_of(WARMING)
    resident = [resident_kb(node) for node in nodes]
    round_of(CONNECTIONS)
    until(lambda: open_connections(nodes) == 0)
    # The next sockets are made ahead, eight at a time in each of two workers.
    until(lambda: all(descriptors(n) <= b + 32 for n, b in zip(nodes, before[0], strict=True)))
    until(lambda: all(ports_in_use(mesh, p) <= b + 8 for p, b in zip(("a", "far"), before[1], strict=True)))
    until(lambda: [originals(node) for node in nodes] == [0, 0], what="the kernel keeps no destination")
    # Nothing that each connection leaves, not even for a while: 0.3 kB of it would be seen.
    assert all(resident_kb(node) < kb + 3000 for node, kb in zip(nodes, resident, strict=True))


@pytest.fixture
def replacement(mesh: Mesh, tmp_path: Path) -> Iterator[Path]:
    """A pod of another identity for the place of `far`, which is back after the test."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stranger"}}
    spec = {"nodeName": "node2", "serviceAccountName": "stranger", "containers": [{"name": "c"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}
    manifest = tmp_path / "stranger.yaml"
    manifest.write_text(yaml.safe_dump_all([account, pod]))
    yield manifest
    mesh.restore("stranger")


def test_an_address_that_another_pod_has_taken_over_leads_to_that_pod(
    mesh: Mesh, connect: Connector, replacement: Path
) -> None:
    """The tunnel to the pod that is gone is not used for the new one, and its connections end."""
    lab: Lab = mesh.lab
    old = connect("a", "far")
    address = mesh.address("far", 4)
    client = mesh.inside("a")
    connect.made.remove(old)
    stranger = mesh.replace("far", replacement)
    assert client.call(sockets.receive, old.near, 1) == b""  # its process was ended, which closes its sockets
    client.call(sockets.forget, old.near)
    assert str(stranger.ipv4) == address
    server = mesh.inside("stranger")
    listener = server.call(sockets.listen, PORT)
    near = client.call(sockets.connect, (address, PORT))
    far, seen = server.call(sockets.accept, listener)
    assert seen == mesh.address("a", 4)
    client.call(sockets.send, near, b"who?")
    assert server.call(sockets.receive, far, 4) == b"who?"
    records = json.loads(lab.node("node1").run(["curl", "-s", "http://127.0.0.1:15000/connections"]).stdout)
    assert [r["dst.identity"] for r in records] == [stranger.identity]
    client.call(sockets.forget, near)
