"""Where the kubelet is: found by what it is, not by what a process calls itself."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.node.errors import DatapathError, NodeError
from agent.node.kubelet import Kubelet, follow
from tests.support.eventually import eventually
from tests.support.netns import Node
from tests.support.resident import Resident

_CLONE_NEWPID = 0x20000000
Run = Callable[[str, str], Resident]


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@pytest.fixture
def run(node: Node) -> Iterator[Run]:
    """A process of this name in a cgroup of the node."""
    residents = []

    def start(name: str, cgroup: str) -> Resident:
        resident = Resident(node.make_cgroup(cgroup))
        residents.append(resident)
        resident.call(rename, name)
        return resident

    yield start
    for resident in residents:
        resident.close()


def rename(name: str) -> None:
    Path("/proc/self/comm").write_text(name)


@pytest.mark.parametrize("name", ["kubelet", "k3s-server", "k3s-agent", "kubelite"])
def test_found_by_its_name(node: Node, run: Run, name: str) -> None:
    run(name, "system.slice/it")
    assert Kubelet(node.cgroup, None).cgroup() == node.cgroup / "system.slice/it"


def become_nobody() -> None:
    os.setresuid(65534, 65534, 65534)


def unshare_and_wait() -> None:
    """Leave a child in a process namespace of its own, under the name."""
    assert ctypes.CDLL(None).unshare(_CLONE_NEWPID) == 0
    if os.fork() == 0:
        signal.pause()
    rename("python")


def test_processes_that_call_themselves_so(node: Node, run: Run) -> None:
    """In a pod's cgroup, of another user, in another process namespace."""
    run("kubelet", "kubelet.slice/kubelet-kubepods.slice/pod1")
    run("kubelet", "nobodys").call(become_nobody)
    run("kubelet", "container").call(unshare_and_wait)
    with pytest.raises(NodeError, match=r"no kubelet found.*: .*--kubelet-cgroup$"):
        Kubelet(node.cgroup, None).cgroup()


def test_several_are_named(node: Node, run: Run) -> None:
    for place in "ab":
        run("kubelet", place)
    with pytest.raises(NodeError, match=r"in several cgroups, .*/a and .*/b: .*--kubelet-cgroup"):
        Kubelet(node.cgroup, None).cgroup()


def test_one_that_no_program_would_see_is_named(node: Node, run: Run) -> None:
    run("kubelet", "outside")
    with pytest.raises(NodeError, match=r"no kubelet found: process .* in cgroup .*: it must be below"):
        Kubelet(node.make_cgroup("inside"), None).cgroup()


def test_stated_cgroup(node: Node) -> None:
    place = node.cgroup / "system.slice/kubelet.service"
    kubelet = Kubelet(node.cgroup, place)
    with pytest.raises(NodeError, match=r"--kubelet-cgroup .*: there is none yet: start the kubelet"):
        kubelet.cgroup()
    place.mkdir(parents=True)
    assert kubelet.cgroup() == place


async def test_kubelet_that_restarts_and_moves(
    node: Node, run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the agent; its cgroup is made anew; it goes elsewhere: each is trusted in turn."""
    monkeypatch.setattr("agent.node.kubelet._SEARCH", 0.05)
    trusted: list[Path] = []

    async def trust(cgroup: Path) -> None:
        trusted.append(cgroup)

    following = asyncio.create_task(follow(Kubelet(node.cgroup, None), trust))
    await eventually(lambda: "no kubelet found" in caplog.text)
    first = run("kubelet", "first")
    place = node.cgroup / "first"
    await eventually(lambda: len(trusted) == 1)
    first.close()
    await eventually(lambda: "populated 0" in (place / "cgroup.events").read_text())
    place.rmdir()
    second = run("kubelet", "first")
    await eventually(lambda: len(trusted) == 2)  # another cgroup, although its path is the same
    (node.make_cgroup("second") / "cgroup.procs").write_text(str(second.pid))
    await eventually(lambda: len(trusted) == 3)
    assert trusted == [place, place, node.cgroup / "second"]
    following.cancel()


async def test_refusal_is_said_once_and_tried_again(
    node: Node, run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.node.kubelet._SEARCH", 0.01)
    run("kubelet", "here")
    tries = 0

    async def trust(_: Path) -> None:
        nonlocal tries
        tries += 1
        raise DatapathError("no room")

    following = asyncio.create_task(follow(Kubelet(node.cgroup, None), trust))
    await eventually(lambda: tries > 3)
    assert caplog.text.count("no room") == 1
    following.cancel()
