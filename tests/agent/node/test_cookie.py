"""Cookies of network namespaces, told by the kernel or by a program that asks."""

import socket
import struct
from pathlib import Path

import pytest

from agent.node.cookie import by_program, cookie, own_cgroup
from agent.node.errors import NodeError
from tests.support.resident import Resident
from tests.support.stage import Stage


def asked() -> int:
    """As before Linux 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        return int(struct.unpack("=Q", by_program(udp))[0])


def test_a_program_tells_the_same(stage: Stage) -> None:
    first, second = stage.pod(), stage.pod()
    for pod in (first, second):
        inside = Resident(stage.node.cgroup, pod.path)
        try:
            assert inside.call(asked) == inside.call(cookie) == pod.netns.cookie()
        finally:
            inside.close()
    assert first.netns.cookie() != second.netns.cookie()


def test_the_root_is_no_place_for_a_program(tmp_path: Path) -> None:
    """It would concern the whole machine."""
    (tmp_path / "self").mkdir()
    (tmp_path / "root" / "own").mkdir(parents=True)
    (tmp_path / "root" / "own" / "cgroup.type").write_text("domain\n")
    (tmp_path / "self" / "mountinfo").write_text(f"30 25 0:26 / {tmp_path}/root rw - cgroup2 none rw\n")
    (tmp_path / "self" / "cgroup").write_text("1:cpu:/x\n0::/own\n")
    assert own_cgroup(tmp_path) == tmp_path / "root" / "own"
    (tmp_path / "self" / "cgroup").write_text("1:cpu:/x\n0::/\n")
    with pytest.raises(NodeError, match="in no cgroup v2 of its own: start it in one"):
        own_cgroup(tmp_path)
