"""A core, counters, and network namespaces that look like pods'."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.node.netns import NetnsFd
from tunnel._core import Core
from tunnel.counters import Counters

_numbers = itertools.count(1)


@pytest.fixture
def core() -> Core:
    return Core(node="node1", workers=1, spin_us=0, access_log="off")


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def make_netns() -> Iterator[Callable[[], NetnsFd]]:
    """Makes network namespaces, which are gone after the test."""
    made: list[tuple[str, NetnsFd]] = []

    def make() -> NetnsFd:
        name = f"wt-tunnel-{os.getpid()}-{next(_numbers)}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        made.append((name, NetnsFd.open(Path("/run/netns") / name)))
        return made[-1][1]

    yield make
    for name, netns in made:
        netns.close()
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def netns(make_netns: Callable[[], NetnsFd]) -> NetnsFd:
    return make_netns()
