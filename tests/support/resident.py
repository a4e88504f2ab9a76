"""A process that lives in a cgroup and a network namespace, and calls functions there for the test.

resident = Resident(cgroup, netns)
resident.call(function, argument)     # `function` is a module's; arguments and result can be pickled
"""

import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


class Resident:
    """The test's end. A call that fails in the process fails in the test, with the same exception."""

    def __init__(self, cgroup: Path, netns: Path | None = None) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno()), str(netns or "")]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        (cgroup / "cgroup.procs").write_text(str(self.process.pid))
        self._connection = Connection(ours.detach())
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self.process.pid

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            self._connection.send((function, args, kwargs))
            good, result = self._connection.recv()
        if not good:
            raise result
        return result  # type: ignore[no-any-return]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._connection.close()


def _serve(connection: Connection, netns: str) -> None:
    entered = not netns
    while True:
        try:
            function, args, kwargs = connection.recv()
        except (EOFError, ConnectionResetError):
            os._exit(0)
        if not entered:  # with the first call: by then the process is in its cgroup
            _enter(netns)
            entered = True
        connection.send(_result(function, args, kwargs))


def _result(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[bool, Any]:
    try:
        return True, function(*args, **kwargs)
    except Exception as error:
        return False, error


def _enter(netns: str) -> None:
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    assert ctypes.CDLL(None).setns(fd, _CLONE_NEWNET) == 0
    os.close(fd)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), sys.argv[2])
