"""Pods served by a real core, in real network namespaces."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.node.netns import NetnsFd
from tests.support.descriptors import held
from tests.support.eventually import eventually
from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.pods import PodError, Pods
from tunnel.settings import Info

WEB = Info("web-1", "default", "web")


class Identities:
    """What the certificates' side was told last."""

    def __init__(self) -> None:
        self.now: set[str] = set()

    def __call__(self, identities: set[str]) -> None:
        self.now = identities


@pytest.fixture
def identities() -> Identities:
    return Identities()


@pytest.fixture
def pods(core: Core, counters: Counters, identities: Identities) -> Pods:
    return Pods(core, "cluster.local", counters, identities)


def occupy() -> socket.socket:
    """Take HBONE's port, for oneself alone."""
    taken = socket.socket(socket.AF_INET6)
    taken.bind(("::", 15008))
    taken.listen()
    return taken


async def test_a_pod_is_served_until_it_is_removed(
    pods: Pods, core: Core, counters: Counters, identities: Identities, netns: NetnsFd
) -> None:
    await pods.add("uid1", WEB, netns.fileno())
    assert core.pods() == ["uid1"]
    assert identities.now == {"spiffe://cluster.local/ns/default/sa/web"}
    assert counters.pods.get() == 1
    await pods.remove("uid1")
    await pods.remove("uid1")
    assert core.pods() == []
    assert identities.now == set()
    assert counters.pods.get() == 0


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """For the threads that are begun now: none of them gets ahead of who waits for it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


async def test_nobody_listens_in_a_pod_that_was_removed(one_cpu: None, pods: Pods, netns: NetnsFd) -> None:
    for _ in range(200):
        await pods.add("uid1", WEB, netns.fileno())
        await pods.remove("uid1")
        with pytest.raises(ConnectionRefusedError):
            netns.run(connect)


async def test_the_same_pod_again_changes_nothing_and_another_namespace_does(
    pods: Pods, core: Core, make_netns: Callable[[], NetnsFd]
) -> None:
    first, second = make_netns(), make_netns()
    await pods.add("uid1", WEB, first.fileno())
    with pytest.raises(ConnectionRefusedError):
        second.run(connect)
    first.run(connect)
    copy = os.dup(first.fileno())
    await pods.add("uid1", WEB, copy)
    os.close(copy)
    await pods.add("uid1", WEB, second.fileno())
    second.run(connect)
    with pytest.raises(ConnectionRefusedError):
        first.run(connect)
    assert core.pods() == ["uid1"]


def connect() -> None:
    socket.create_connection(("127.0.0.1", 15008), timeout=5).close()


async def test_the_identity_stays_as_long_as_one_pod_has_it(
    pods: Pods, identities: Identities, make_netns: Callable[[], NetnsFd]
) -> None:
    await pods.add("uid1", WEB, make_netns().fileno())
    await pods.add("uid2", Info("web-2", "default", "web"), make_netns().fileno())
    await pods.remove("uid1")
    assert identities.now == {"spiffe://cluster.local/ns/default/sa/web"}


async def test_a_pod_whose_port_is_taken_is_tried_again(
    pods: Pods, core: Core, counters: Counters, netns: NetnsFd
) -> None:
    taken, before = netns.run(occupy), held(netns)
    with pytest.raises(PodError, match=r"default/web-1 cannot be served: .*in use"):
        await pods.add("uid1", WEB, netns.fileno())
    assert [*pods.pending] == ["default/web-1"]
    assert pods.knows("uid1")
    assert counters.pods_pending.get() == 1
    retrying = asyncio.create_task(pods.retry_forever(every=0.02))
    await asyncio.to_thread(taken.close)
    await eventually(lambda: core.pods() == ["uid1"])
    await eventually(lambda: not pods.pending)
    retrying.cancel()
    await pods.remove("uid1")
    await eventually(lambda: held(netns) == before)


async def test_a_pending_pod_that_is_removed_is_forgotten(pods: Pods, core: Core, netns: NetnsFd) -> None:
    taken, before = netns.run(occupy), held(netns)
    with taken:
        with pytest.raises(PodError):
            await pods.add("uid1", WEB, netns.fileno())
        await pods.keep_only(set())
        assert not pods.pending
        assert not pods.knows("uid1")
        await eventually(lambda: held(netns) == before)


async def test_what_is_no_network_namespace_is_refused(pods: Pods, core: Core, tmp_path: Path) -> None:
    for path in (tmp_path, Path("/proc/self/ns/mnt")):
        descriptor = os.open(path, os.O_RDONLY)
        with pytest.raises(PodError, match="not a network namespace"):
            await pods.add("uid1", WEB, descriptor)
        os.close(descriptor)
    assert not pods.pending and not core.pods()
