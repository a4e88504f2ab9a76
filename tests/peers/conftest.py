"""One stage for all tests with peers: it takes a second to make."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers.pair import Pair
from tests.peers.stage import PORT, Servers, Stage
from tests.support.http2 import Http2


@pytest.fixture(scope="package")
def bpffs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("bpffs")
    subprocess.run(["mount", "-t", "bpf", "bpf", path], check=True)
    yield path / "warren"
    subprocess.run(["umount", path], check=True)


@pytest.fixture(scope="package")
def whole_stage(tmp_path_factory: pytest.TempPathFactory, bpffs: Path) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("peers"), bpffs) as stage:
        yield stage


@pytest.fixture(scope="package")
def whole_pair(tmp_path_factory: pytest.TempPathFactory, bpffs: Path) -> Iterator[Pair]:
    with Pair(tmp_path_factory.mktemp("pair"), bpffs.with_name("pair")) as pair:
        yield pair


@pytest.fixture
def pair(whole_pair: Pair) -> Pair:
    """Two tunnels of ours, of which the client's has not met the server yet."""
    whole_pair.meet()
    return whole_pair


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    """The stage, and at the peer's pod a workload that our tunnel has not met yet."""
    whole_stage.meet()
    return whole_stage


@pytest.fixture
def application(stage: Stage) -> Iterator[socket.socket]:
    """A server in our pod."""
    with stage.listen(stage.ours, PORT) as listener:
        yield listener


@pytest.fixture
def tunnel(stage: Stage) -> Iterator[Http2]:
    """A tunnel that the peer has opened to us, and greeted."""
    with stage.client() as http2:
        http2.greet()
        yield http2


@pytest.fixture
def servers(stage: Stage) -> Iterator[Servers]:
    """The peer, as the server of our tunnels."""
    with stage.servers() as servers:
        yield servers


@pytest.fixture
def apps(stage: Stage) -> Iterator[ExitStack]:
    """Takes the applications' sockets, to close them at the end."""
    with ExitStack() as exits:
        yield exits
