"""What this process takes of its machine."""

import os
import resource
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_OPEN = "/proc/self/fd"
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
    return Usage(pages * _PAGE, _descriptors(), used.ru_utime + used.ru_stime, _started)


def _descriptors() -> int:
    """How many are open: the folder's size since Linux 6.2; before, as it was within this minute."""
    return Path(_OPEN).stat().st_size or _listed(int(time.monotonic() // 60))


@lru_cache(maxsize=1)
def _listed(_minute: int) -> int:
    """The same by listing each, for which the kernel makes an inode: of 10,000 that takes its time."""
    return len(os.listdir(_OPEN))  # noqa: PTH208 - lighter than iterdir


def begin() -> None:
    """The process starts now: it was forked."""
    global _started  # noqa: PLW0603 - there is one process
    _started = time.time()
