"""Control groups, version 2: every process of the lab lives in one tree, so that one write ends them all."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from agent.lab.errors import LabError
from agent.lab.waiting import wait

_EMPTY_WITHIN = 10.0  # seconds; what SIGKILL takes on a loaded machine, with room


def mount_point() -> Path:
    """Where cgroup v2 is mounted (first entry in /proc/mounts). Raises LabError when it is not."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, target, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(target)
    raise LabError(
        "cgroup v2 is not mounted: `mkdir -p /sys/fs/cgroup/unified && "
        "mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )


def directories(top: Path) -> list[Path]:
    """`top` and all groups below it, the deepest first; empty when there is no `top`."""
    return [Path(path) for path, _, _ in os.walk(top, topdown=False)]


def pids(top: Path) -> list[int]:
    """Process ids in `top` and below, in ascending order; empty when there is no such group."""
    found: list[int] = []
    for group in directories(top):
        with suppress(FileNotFoundError):
            found += [int(line) for line in (group / "cgroup.procs").read_text().split()]
    return sorted(found)


def populated(top: Path) -> bool:
    """Whether a live process is in `top` or below, as cgroup.events has it."""
    try:
        return "populated 1" in (top / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def terminate(top: Path, within: float) -> bool:
    """Ask all processes of `top` to end (SIGTERM); whether they have, within so many seconds."""
    for pid in pids(top):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return wait(lambda: not populated(top), within)


def kill(top: Path) -> None:
    """End all processes of `top` (SIGKILL) and wait until none is left. Raises LabError when one stays."""

    def emptied() -> bool:
        if not populated(top):
            return True
        try:
            (top / "cgroup.kill").write_text("1")
        except OSError:  # Linux before 5.14 has no cgroup.kill
            for pid in pids(top):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return not populated(top)

    if not wait(emptied, _EMPTY_WITHIN):
        raise LabError(f"processes {pids(top)} in {top} do not end; see /proc/PID/stack for what holds them")


def remove(top: Path) -> None:
    """Remove `top` and all groups below, and end what has come into one meanwhile.

    Idempotent; raises LabError when one is busy.
    """

    def removed() -> bool:
        kill(top)
        for group in directories(top):
            with suppress(OSError):
                group.rmdir()
        return not top.exists()

    if not wait(removed, _EMPTY_WITHIN):
        raise LabError(f"the control group {top} cannot be removed: processes {pids(top)} are in it")
