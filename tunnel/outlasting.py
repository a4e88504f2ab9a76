"""A process that outlasts its container: its end ends what is in the container's cgroup, so it leaves that.

It keeps the container's files and network as they are, for as long as it lives. The container has to share
the host's process ids (`hostPID`): else its end would end all processes of its own.
"""

import ctypes
import os
from pathlib import Path

_CGROUP = "warren-tunnel"
_CLONE_NEWCGROUP = 0x02000000
_libc = ctypes.CDLL(None, use_errno=True)


def leave_container(cgroup: Path, namespace: Path) -> None:
    """Move the calling process to a cgroup below `cgroup`, a directory of the host's cgroup v2.

    namespace: the host's cgroup namespace, where somebody has bound it. Raises OSError.
    """
    own = cgroup / _CGROUP
    own.mkdir(exist_ok=True)
    try:
        _join(own)
    except FileNotFoundError:  # cgroup_namespaces(7): with nsdelegate nobody leaves the part that is his
        _enter(namespace)
        _join(own)


def _join(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text("0")


def _enter(namespace: Path) -> None:
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, _CLONE_NEWCGROUP):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(namespace))
    finally:
        os.close(fd)
