"""Agents and tunnels are replaced while pods are busy: no connection is refused, none is cut short.

`make test-upgrade` has the whole: a thousand connections through ten upgrades of each; with OTHER=CHECKOUT
every second one is to that version, built there, and the next one back.
"""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.lab import Lab, LabError, upgrade
from agent.lab import mesh as mesh_of_lab
from agent.lab.members import Node
from tests.mesh.conftest import PODS, Mesh, in_force, revoke_all, serving
from tests.support import longlived
from tests.support.wait import until
from tunnel import handover

ROUTED = Path(__file__).with_name("upgrade.yaml")
RAW, WEB, GRPC, PLAIN = 7400, 7401, 7402, 7403
CONNECTIONS = int(os.environ.get("WARREN_UPGRADE_CONNECTIONS", "60"))
ROUNDS = int(os.environ.get("WARREN_UPGRADE_ROUNDS", "2"))
OTHER = os.environ.get("WARREN_UPGRADE_OTHER")
EVERY = 0.01  # seconds between two new connections
# Seconds from a tunnel's end until connections are served again; the whole test has the machine to itself.
SERVED = 0.5 if CONNECTIONS >= 1000 else 5.0
PAUSE = 0.05 if CONNECTIONS < 100 else 1.0  # seconds between two blocks of one connection


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Lab.up([PODS, ROUTED], name=f"wt-upgrade-{os.getpid()}") as lab:
        found = Mesh(lab, {})
        for pod in ("near", "far"):
            found.inside(pod).call(longlived.serve, RAW)
            found.inside(pod).call(longlived.serve, PLAIN)
        found.inside("far").call(longlived.serve, WEB, True)
        found.inside("far").call(longlived.serve_grpc, GRPC)
        yield found
        found.close()


@pytest.fixture
def talks(mesh: Mesh) -> Iterator[dict[str, int]]:
    """Connections of each kind, by the kind's name, and new ones beside."""
    client = mesh.inside("a")
    far, near, web = mesh.address("far", 4), mesh.address("near", 4), mesh.service("web", 4)
    count = CONNECTIONS // 4
    client.call(longlived.account, client.call(longlived.talk, (near, RAW), 1, 0.01))  # from now on, directly
    yield {
        "tunnel": client.call(longlived.talk, (far, RAW), count, PAUSE),
        "direct": client.call(longlived.talk, (near, RAW), count, PAUSE),
        "websocket": client.call(longlived.talk_websocket, (web, WEB), "web", count, PAUSE),
        "grpc": client.call(longlived.talk_grpc, (web, GRPC), "web", count, PAUSE),
    }


def settle(mesh: Mesh, talks: dict[str, int]) -> dict[str, longlived.Account]:
    """End them: none of them has met an error."""
    accounts = {kind: mesh.inside("a").call(longlived.account, number) for kind, number in talks.items()}
    for kind, account in accounts.items():
        assert account.errors == [], kind
        assert account.blocks > 0, kind
    return accounts


def numbers(node: Node) -> set[int]:
    """Of the generations that carry connections."""
    return {one["number"] for one in upgrade.generations(node)}


def alone(node: Node) -> int:
    """The number of the generation that serves, when it is the only one."""
    until(lambda: len(upgrade.generations(node)) == 1, what="the retired generations end")
    return int(serving(node)["number"])


@pytest.fixture
def calls(mesh: Mesh) -> Callable[[], list[tuple[int, list[str], float]]]:
    """New connections all the time; what became of them, when it is called."""
    client = mesh.inside("a")
    begun = [client.call(longlived.call, (mesh.address(pod, 4), PLAIN), EVERY) for pod in ("near", "far")]
    return lambda: [client.call(longlived.called, number) for number in begun]


def test_upgrades_break_nothing(
    mesh: Mesh, talks: dict[str, int], calls: Callable[[], list[tuple[int, list[str], float]]]
) -> None:
    before = {node.name: serving(node)["number"] for node in mesh.lab.nodes}
    other = Path(OTHER) if OTHER else None
    for checkout in itertools.islice(itertools.cycle((other, None)), ROUNDS):
        for node in mesh.lab.nodes:
            upgrade.upgrade(node, checkout)
    for made, errors, slowest in calls():
        assert errors == []
        assert made > 100
        print(f"{made} new connections, the slowest took {slowest * 1e3:.0f} ms")
    for node in mesh.lab.nodes:
        assert serving(node)["number"] == before[node.name] + ROUNDS
    for kind, account in settle(mesh, talks).items():
        waits = sorted(account.waits)
        p50, p99 = (waits[len(waits) * rank // 100] * 1e3 for rank in (50, 99))
        print(f"{kind}: {account.blocks} blocks; ms: p50 {p50:.1f}, p99 {p99:.1f}, max {waits[-1] * 1e3:.1f}")
    for node in mesh.lab.nodes:
        alone(node)


def test_a_tunnel_that_is_killed_refuses_nobody(mesh: Mesh) -> None:
    """Once on each node: the keeper takes its time with one that is killed again within seconds."""
    client = mesh.inside("a")
    for node in mesh.lab.nodes:
        killed, at = serving(node)["pid"], time.monotonic()
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in node.pids("tunnel"), what="it is gone")  # noqa: B023
        gone = time.monotonic() - at
        begun = [client.call(longlived.call, (mesh.address(pod, 4), PLAIN), EVERY) for pod in ("near", "far")]
        until(lambda: serving(node)["pid"] != killed, what="another one serves")  # noqa: B023
        for number in begun:
            made, errors, slowest = client.call(longlived.called, number)
            assert errors == []
            assert made > 0
            assert gone + slowest < SERVED
            print(f"{made} new connections, the slowest took {slowest * 1e3:.0f} ms")


def test_generations_end_with_their_last_connections(mesh: Mesh) -> None:
    """Three of them, each with a connection; they end in any order."""
    client, node = mesh.inside("a"), mesh.lab.node("node1")
    first = alone(node)
    talks = []
    for _ in range(3):
        talks.append(client.call(longlived.talk, (mesh.address("far", 4), RAW), 1, PAUSE))
        upgrade.upgrade_tunnel(node)
    assert numbers(node) == {first, first + 1, first + 2, first + 3}
    status = [sys.executable, "-P", "-m", "agent.cli.main", "status", "--run-dir", str(node.run_dir)]
    said = node.run(status, check=False).stdout
    assert said.count(": 1 connections left") == 3, said
    for left, number in ((2, talks[1]), (1, talks[0]), (0, talks[2])):
        assert client.call(longlived.account, number).errors == []
        until(lambda: len(numbers(node)) == left + 1, what="the generation ends")  # noqa: B023
    assert numbers(node) == {first + 3}


def test_a_generation_ends_at_its_age(mesh: Mesh) -> None:
    client, node = mesh.inside("a"), mesh.lab.node("node1")
    upgrade.upgrade_tunnel(node, "--drain-age=0.1", "--drain-deadline=0")
    talk = client.call(longlived.talk, (mesh.address("far", 4), RAW), 1, PAUSE)
    assert client.call(longlived.errors, talk) == []
    upgrade.upgrade_tunnel(node)
    until(lambda: client.call(longlived.errors, talk), what="the connection ends")
    client.call(longlived.account, talk)
    alone(node)


def test_what_is_no_longer_allowed_ends_in_an_old_generation(mesh: Mesh) -> None:
    client, node = mesh.inside("a"), mesh.lab.node("node2")
    talk = client.call(longlived.talk, (mesh.address("far", 4), RAW), 1, PAUSE)
    upgrade.upgrade_tunnel(node)
    retired = numbers(node) - {serving(node)["number"]}
    assert len(retired) == 1
    deny = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "far"}}, "action": "DENY", "rules": [{}]},
    }

    def over() -> bool:
        return client.call(longlived.answers, (mesh.address("far", 4), PLAIN))

    with in_force(mesh, [deny], over, "connections are allowed again"):
        until(lambda: client.call(longlived.errors, talk), what="the connection ends")
        client.call(longlived.account, talk)
        alone(node)


def test_a_peer_that_is_revoked_is_cut_off_in_an_old_generation(mesh: Mesh) -> None:
    client, node = mesh.inside("a"), mesh.lab.node("node2")
    talk = client.call(longlived.talk, (mesh.address("far", 4), RAW), 1, PAUSE)
    upgrade.upgrade_tunnel(node)
    revoke_all(mesh, mesh.lab.pod("a").identity)
    until(lambda: client.call(longlived.errors, talk), what="the connection ends")
    client.call(longlived.account, talk)
    alone(node)


def test_a_successor_that_never_gets_ready_leaves_all_to_the_one_before(
    mesh: Mesh, calls: Callable[[], list[tuple[int, list[str], float]]]
) -> None:
    node = mesh.lab.node("node1")
    before = alone(node)
    with pytest.raises(LabError, match="does not serve"):
        upgrade.upgrade_tunnel(node, "--ca=https://127.0.0.1:1", within=3)
    assert alone(node) == before
    os.kill(serving(node)["pid"], signal.SIGKILL)  # by which it is seen who keeps
    until(lambda: serving(node)["number"] > before, what="the keeper starts another one")
    for made, _, _ in calls():
        assert made > 0


@pytest.fixture
def other_build(tmp_path: Path) -> Path:
    """The same tunnel with another version of the handover, for PYTHONPATH."""
    (tmp_path / "tunnel").mkdir()
    for path in Path(handover.__file__).parent.iterdir():
        if path.suffix in (".py", ".so"):
            (tmp_path / "tunnel" / path.name).symlink_to(path)
    changed = tmp_path / "tunnel" / "handover.py"
    text = changed.read_text()
    changed.unlink()
    changed.write_text(text.replace(f"\nVERSION = {handover.VERSION}\n", "\nVERSION = 99\n"))
    return tmp_path


def test_a_tunnel_of_another_handover_takes_over_without_the_listeners(mesh: Mesh, other_build: Path) -> None:
    """Both listen for a moment; what is open goes on in the former one."""
    client, node = mesh.inside("a"), mesh.lab.node("node1")
    former = alone(node)
    talk = client.call(longlived.talk, (mesh.address("far", 4), RAW), 1, PAUSE)
    upgrade.upgrade_tunnel(node, checkout=other_build)
    until(lambda: numbers(node) == {former, former + 1}, what="both are told of")
    assert "speaks version 1 of the handover, not 99" in node.log("tunnel").read_text()
    assert client.call(longlived.answers, (mesh.address("far", 4), PLAIN))
    assert client.call(longlived.account, talk).errors == []
    upgrade.upgrade_tunnel(node)  # and back
    assert client.call(longlived.answers, (mesh.address("far", 4), PLAIN))
    alone(node)


def test_the_pods_of_a_daemon_set_follow_each_other(
    mesh: Mesh, talks: dict[str, int], calls: Callable[[], list[tuple[int, list[str], float]]]
) -> None:
    """The old keeper has ended before the new one begins: its generation serves meanwhile."""
    node = mesh.lab.node("node1")
    generation = serving(node)["pid"]
    (keeper,) = set(node.pids("tunnel")) - {one["pid"] for one in upgrade.generations(node)}
    where = [Path(f"/proc/{pid}/cgroup").read_text() for pid in (keeper, generation)]
    assert where[0] != where[1]  # the end of the keeper's container is not the generation's
    os.kill(keeper, signal.SIGTERM)
    until(lambda: keeper not in node.pids("tunnel"), what="the keeper ends")
    assert generation in node.pids("tunnel")
    mesh_of_lab.start(node.state, node.place, "tunnel")
    until(lambda: serving(node)["pid"] != generation, what="another one serves")
    for made, errors, _ in calls():
        assert errors == []
        assert made > 0
    settle(mesh, talks)
    alone(node)
