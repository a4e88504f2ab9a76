"""What this process takes of its machine."""

import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_started = time.time()


class Usage(NamedTuple):
    """resident: bytes; cpu: seconds; since: Unix seconds of its start."""

    resident: int
    descriptors: int
    cpu: float
    since: float


def usage() -> Usage:
    """As it is now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - lighter than iterdir
    return Usage(pages * _PAGE, descriptors, used.ru_utime + used.ru_stime, _started)


def begin() -> None:
    """The process starts now: it was forked."""
    global _started  # noqa: PLW0603 - there is one process
    _started = time.time()
