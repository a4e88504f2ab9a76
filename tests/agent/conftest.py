"""The node that tests of the redirection need, and API servers; made once for each of their files."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.node.datapath import Datapath
from tests.support import apiserver
from tests.support.cluster import Cluster
from tests.support.custom import install
from tests.support.netns import Node
from tests.support.stage import Stage
from tests.support.world import World


@pytest.fixture(scope="module")
def bpffs() -> Iterator[Path]:
    """Not below pytest's own directory, which another run of pytest may clear while this one goes on."""
    path = Path(tempfile.mkdtemp(prefix="wt-bpffs-"))
    subprocess.run(["mount", "-t", "bpf", "bpf", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)
    path.rmdir()


@pytest.fixture
def world(tmp_path: Path, bpffs: Path) -> Iterator[World]:
    it = World(tmp_path, bpffs)
    yield it
    it.close()


@pytest.fixture(scope="module")
def stage(bpffs: Path) -> Iterator[Stage]:
    with ExitStack() as exits:
        node = Node()
        exits.callback(node.close)
        stage = Stage(node, bpffs, Datapath.open(node.cgroup, bpffs / "warren"), exits)
        yield stage
        stage.datapath.close()
        Datapath.remove(bpffs / "warren")


@pytest.fixture
def counted(stage: Stage) -> Callable[[], dict[str, int]]:
    """The verdicts that were given since the test began, or since the last call."""
    before = stage.datapath.verdicts()

    def since() -> dict[str, int]:
        nonlocal before
        now = stage.datapath.verdicts()
        changed = {name: now[name] - before[name] for name in now if now[name] != before[name]}
        before = now
        return changed

    return since


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[Path]:
    """Of a real server where one is named, else of the fake."""
    if named := apiserver.real():
        yield named
        return
    with apiserver.fake(shortest_token=1) as fake:
        install(fake.kubeconfig)
        yield fake.kubeconfig


@pytest.fixture
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    it = Cluster(kubeconfig)
    yield it
    it.close()


@pytest.fixture
def fake() -> Iterator[apiserver.Fake]:
    """One whose faults are at hand."""
    with apiserver.fake(shortest_token=1) as server:
        yield server
