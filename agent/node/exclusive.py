"""A directory that one agent at a time may use."""

import fcntl
import os
from pathlib import Path

from agent.node.errors import DatapathError
from bpf.maps import Descriptor

_LOCKS = Path("/proc/locks")


def exclusive(directory: Path) -> Descriptor:
    """The directory, held by this process alone as long as this is open. Raises DatapathError, OSError."""
    held = Descriptor(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        fcntl.flock(held.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = f"{directory} is in use by another agent{_holder(held.fd)}: stop it first, or name another"
        held.close()
        raise DatapathError(message) from error
    return held


def _holder(fd: int) -> str:
    """Who holds its lock, if that can be told: proc(5), `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE`."""
    inode = str(os.fstat(fd).st_ino)
    for line in _LOCKS.read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode and int(fields[4]) > 0:
            return f" (pid {fields[4]})"
    return ""
