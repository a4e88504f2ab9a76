"""Namespaces: opened, entered and left."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from agent.node.cookie import cookie
from agent.node.errors import NodeError, NoNamespace
from agent.node.netns import NetnsFd
from tests.support.stage import Stage

THREAD = Path("/proc/thread-self/ns/net")


def test_action_runs_inside_and_the_caller_stays_outside(stage: Stage) -> None:
    pod = stage.pod()
    before = THREAD.stat().st_ino
    inside = pod.netns.run(lambda: THREAD.stat().st_ino)
    assert inside == os.fstat(pod.netns.fileno()).st_ino != before
    assert THREAD.stat().st_ino == before
    assert threading.active_count() == len(threading.enumerate())


def test_what_the_action_raises_is_raised(stage: Stage) -> None:
    with pytest.raises(ZeroDivisionError):
        stage.pod().netns.run(lambda: 1 // 0)


def test_socket_stays_in_the_namespace(stage: Stage) -> None:
    pod = stage.pod()
    with pod.netns.run(socket.socket) as sock:
        sock.bind((str(pod.v4), 0))  # an address that only the pod has


def test_cookies_tell_namespaces_apart(stage: Stage) -> None:
    first, second = stage.pod(), stage.pod()
    assert len({cookie(), first.netns.cookie(), second.netns.cookie()}) == 3
    assert NetnsFd.open(first.path).cookie() == first.netns.cookie()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/run/netns/wt-none", "network namespace /run/netns/wt-none: No such file or directory"),
        ("/proc/self/ns/uts", "/proc/self/ns/uts is not a network namespace"),
        ("/etc/passwd", "/etc/passwd is not a network namespace"),
    ],
)
def test_what_is_no_namespace_is_refused(path: str, reason: str) -> None:
    with pytest.raises(NodeError) as refused:
        NetnsFd.open(Path(path))
    assert str(refused.value) == reason


def test_closed_namespace_cannot_be_entered(stage: Stage) -> None:
    netns = NetnsFd(os.dup(stage.pod().netns.fileno()))
    netns.close()
    netns.close()
    with pytest.raises(OSError, match="cannot enter the network namespace"):
        netns.run(cookie)


def test_whether_a_path_leads_to_it(stage: Stage) -> None:
    pod = stage.pod()
    assert pod.netns.is_at(pod.path)
    assert not pod.netns.is_at(THREAD)
    assert not pod.netns.is_at(Path("/run/netns/absent"))


def test_of_a_process_that_has_ended_there_is_none() -> None:
    with subprocess.Popen(["sleep", "infinity"]) as process:
        directory = os.open(f"/proc/{process.pid}", os.O_RDONLY)
        process.kill()
    try:
        for path in (f"/proc/{process.pid}/ns/net", f"/proc/self/fd/{directory}/ns/net"):
            with pytest.raises(NoNamespace):
                NetnsFd.open(Path(path))
    finally:
        os.close(directory)
