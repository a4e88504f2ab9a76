"""Cgroups v2: the one of a process, and whether one is still there."""

import ctypes
import errno
import os
from pathlib import Path

from agent.node.errors import DatapathError
from agent.node.features import mount_of
from agent.node.own_cgroup import namespace_mount, relative_cgroup

_FILEID_KERNFS = 0xFE
_libc = ctypes.CDLL(None, use_errno=True)


class _Handle(ctypes.Structure):
    """struct file_handle of a cgroup's directory: its id."""

    _fields_ = (("bytes", ctypes.c_uint32), ("type", ctypes.c_int32), ("id", ctypes.c_uint64))


def cgroup_of(pid: int, below: Path, proc: Path = Path("/proc")) -> Path:
    """The directory of a process' cgroup, which has to be `below` or under it. Raises DatapathError."""
    try:
        relative = relative_cgroup(pid, proc)
    except OSError as error:
        raise DatapathError(f"process {pid} is gone") from error
    path = Path(os.path.normpath(_namespace_root(below) / relative))
    if not path.is_relative_to(below.resolve()):
        raise DatapathError(f"process {pid} is in cgroup {path}: it must be below {below}")
    return path


def cgroup_exists(root: Path, cgroup_id: int) -> bool:
    """Whether there is still a cgroup of this id; ids are never given twice. `root`: any one of cgroup v2."""
    return _path_of(root, cgroup_id) is not None


def cpu_seconds(root: Path, cgroup_id: int) -> float:
    """What all processes of the cgroup of this id have used so far; 0 where it is gone."""
    path = _path_of(root, cgroup_id)
    text = (path / "cpu.stat").read_text() if path else ""
    used = dict(line.split() for line in text.splitlines())
    return int(used.get("usage_usec", 0)) / 1e6


def _namespace_root(below: Path) -> Path:
    """What /proc calls `/`: a container is in a cgroup namespace, the root of which is its own cgroup.

    It is told where it is by the mount in which that root is at the top; `below` may be in another one.
    """
    own = namespace_mount()
    return (own and _path_of(below, own.stat().st_ino)) or mount_of(below)


def _path_of(root: Path, cgroup_id: int) -> Path | None:
    """Where the cgroup of this id is, as seen in the mount that `root` is in; None: nowhere any more."""
    handle = _Handle(ctypes.sizeof(ctypes.c_uint64), _FILEID_KERNFS, cgroup_id)
    mount = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = _libc.open_by_handle_at(mount, ctypes.byref(handle), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(mount)
    if fd < 0:
        if ctypes.get_errno() == errno.ESTALE:
            return None
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    try:
        return Path(f"/proc/self/fd/{fd}").readlink()
    finally:
        os.close(fd)
