"""The lab with Warren in it: the demonstration holds, and `down` leaves nothing whatever has died before."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.lab import Lab, LabError, cgroups, demo
from agent.lab.status import status
from tests.support.leftovers import leftovers, links
from tests.support.samples import BOOKINFO
from tests.support.wait import until

UP = "import sys; from agent.lab import Lab; Lab.up(name=sys.argv[1])"
ZTUNNEL = os.environ.get("WARREN_ZTUNNEL")


def test_demonstration_holds(meshed: Lab) -> None:
    evidence = list(demo.demonstrate(meshed))
    assert [(each.claim, each.seen) for each in evidence if not each.holds] == []
    assert len(evidence) == 7


def test_pods_are_captured_as_their_labels_say(meshed: Lab) -> None:
    for pod in meshed.pods:
        assert pod.captured() == meshed.enrolled(pod) == (pod.deployment != "outside")
    shown = status(meshed)["pods"]
    assert {row["name"]: row["captured"] for row in shown} == {
        pod.name: pod.captured() for pod in meshed.pods
    }


def test_pins_are_in_a_file_system_of_the_labs_own(meshed: Lab) -> None:
    for node in meshed.nodes:
        assert list((node.bpffs / "links").iterdir())
        assert node.bpffs.parent.is_mount()


def test_running_roles_are_not_started_twice(meshed: Lab) -> None:
    node = meshed.nodes[0]
    assert all(node.pids(role) for role in ("ca", "agent", "tunnel", "dns"))
    with pytest.raises(LabError, match="runs already"):
        node.start("tunnel")


@pytest.mark.parametrize("role", ["agent", "tunnel", "ca"])
def test_down_after_a_part_was_killed(name: str, role: str) -> None:
    before = links()
    lab = Lab.up(name=name)
    for pid in [pid for node in lab.nodes for pid in node.pids(role)]:
        os.kill(pid, signal.SIGKILL)
    lab.down()
    assert leftovers(name) == []
    assert links() == before


@pytest.mark.parametrize("role", ["agent", "tunnel"])
def test_down_after_up_was_killed(name: str, role: str) -> None:
    up = subprocess.Popen([sys.executable, "-c", UP, name])
    until(lambda: cgroups.pids(cgroups.mount_point() / f"warren-{name}" / "node2" / role))
    up.kill()
    up.wait()
    assert Lab.remove(name)
    assert leftovers(name) == []


def test_down_beside_an_open_connection_and_a_frozen_part(name: str) -> None:
    """What does not answer SIGTERM is ended all the same."""
    lab = Lab.up(name=name)
    for pid in lab.nodes[0].pids("tunnel"):
        os.kill(pid, signal.SIGSTOP)
    user = lab.pod("deploy/client").popen(["sleep", "1000"])
    lab.down()
    assert user.wait(5) in (-signal.SIGKILL, -signal.SIGTERM)
    assert leftovers(name) == []


def test_a_part_that_cannot_start_is_named_with_its_log(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has the authority's port: `up` says so, and takes away what it had made."""
    monkeypatch.setenv("WARREN_LIFETIME", "soon")
    with pytest.raises(LabError, match=r"the ca of node1 has ended(.|\n)*--lifetime"):
        Lab.up(name=name)
    assert leftovers(name) == []


def test_bookinfo_as_it_stands(name: str) -> None:
    started = time.monotonic()
    with Lab.up([BOOKINFO], name=name) as lab:
        took = time.monotonic() - started
        page = lab.pod("deploy/productpage-v1")
        assert all(pod.captured() for pod in lab.pods)
        for service in ("details", "ratings", "reviews", "productpage"):
            reply = page.run(["curl", "-sS", "-m", "5", f"http://{service}:9080/"]).stdout
            assert f'"{service}-' in reply
    assert took < 60  # 5 on a machine with nothing else to do
    assert leftovers(name) == []


@pytest.mark.skipif(not ZTUNNEL, reason="WARREN_ZTUNNEL names no ztunnel binary")
@pytest.mark.parametrize("node", ["node1", "node2"])
def test_demonstration_holds_with_ztunnel(name: str, node: str) -> None:
    with Lab.up(name=name, ztunnels={node: Path(str(ZTUNNEL))}) as lab:
        command = subprocess.run(
            ["ps", "-o", "comm=", "-p", str(lab.node(node).pids("tunnel")[-1])],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert command == "ztunnel\n"
        evidence = list(demo.demonstrate(lab))
        assert [(each.claim, each.seen) for each in evidence if not each.holds] == []


def test_an_agent_that_comes_back_takes_over(meshed: Lab) -> None:
    node = meshed.nodes[0]
    enrolled = [pod for pod in meshed.pods if pod.node == node.name and meshed.enrolled(pod)]
    node.stop("agent", within=0)
    assert all(pod.captured() for pod in enrolled)
    node.start("agent")
    until(lambda: all(pod.captured() for pod in enrolled))
