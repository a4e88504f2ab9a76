"""Where a process' cgroup is, seen from the machine and from inside a container."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.lab.cgroups import mount_point
from agent.node.cgroups import cgroup_exists, cgroup_of
from agent.node.errors import DatapathError

_ASK = "import sys; from pathlib import Path; from agent.node.cgroups import cgroup_of; "
# As a container runtime does: a cgroup namespace, and the hierarchy mounted in it.
_CONTAINER = 'mount -t cgroup2 none "$0" && exec "$@"'


@pytest.fixture
def place() -> Iterator[Path]:
    path = mount_point() / f"wt-cgroups-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


@pytest.fixture
def child(place: Path) -> Iterator[Path]:
    path = place / "child"
    path.mkdir()
    yield path
    path.rmdir()


def sleeper(cgroup: Path, argv: list[str]) -> subprocess.Popen[str]:
    """A process in that cgroup."""
    join = 'echo 0 > "$0/cgroup.procs" && exec "$@"'
    return subprocess.Popen(["sh", "-c", join, str(cgroup), *argv], text=True, stdout=subprocess.PIPE)


def test_a_process_of_the_machine(place: Path) -> None:
    with sleeper(place, ["sh", "-c", "echo there; exec cat"]) as process:
        assert process.stdout and process.stdout.readline()
        assert cgroup_of(process.pid, place) == cgroup_of(process.pid, mount_point()) == place
        process.kill()


def test_a_container_sees_the_others_where_they_are(place: Path, child: Path, tmp_path: Path) -> None:
    with sleeper(place, ["sh", "-c", "echo there; exec cat"]) as other:
        assert other.stdout and other.stdout.readline()
        ask = f"print(*(cgroup_of({other.pid}, Path(below)) for below in sys.argv[1:]))"
        python = [sys.executable, "-c", _ASK + ask, str(mount_point()), str(place)]
        inside = ["unshare", "--cgroup", "--mount", "sh", "-c", _CONTAINER, str(tmp_path), *python]
        with sleeper(child, inside) as container:
            assert container.communicate(timeout=30)[0].split() == [str(place)] * 2
        other.kill()


def test_one_that_is_elsewhere_or_gone_is_named(place: Path, child: Path) -> None:
    with sleeper(place, ["sh", "-c", "echo there; exec cat"]) as process:
        assert process.stdout and process.stdout.readline()
        with pytest.raises(DatapathError, match="it must be below"):
            cgroup_of(process.pid, child)
        process.kill()
    with pytest.raises(DatapathError, match="is gone"):
        cgroup_of(process.pid, place)


def test_a_cgroup_that_is_gone_is_told_from_one_that_is_there(place: Path) -> None:
    child = place / "short"
    child.mkdir()
    number = child.stat().st_ino
    assert cgroup_exists(place, number)
    child.rmdir()
    assert not cgroup_exists(place, number)
