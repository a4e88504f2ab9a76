"""CPU time, memory and affinity of processes, and what the rest of the machine does."""

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError

TICK = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count() or 1
PAGE = os.sysconf("SC_PAGE_SIZE")
# A mapping of proc(5)'s smaps: offset, inode, kB of it that are resident, and of these anonymous.
_MAPPING = re.compile(
    r"^\S+-\S+ \S+ (\w+) \S+ (\d+).*\n(?:.*\n)*?Rss: +(\d+) kB\n(?:.*\n)*?Anonymous: +(\d+) kB", re.MULTILINE
)


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, living and ended, in steps of nanoseconds.

    This is the scheduler's own clock (as in `schedstat`), read by the id that clock_getcpuclockid(3) makes of
    a pid; the clocks in /proc/PID/stat tick every 10 ms. Raises BenchError when the process is gone.
    """
    scheduler_clock = 2  # CPUCLOCK_SCHED of linux/posix-timers.h
    try:
        return time.clock_gettime(~pid << 3 | scheduler_clock)
    except OSError as error:
        raise BenchError(f"process {pid} is gone") from error


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def memory(*pids: int) -> int:
    """Resident memory of processes in bytes; a page that several have counts in part (Pss of proc(5))."""
    rollups = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return 1024 * sum(map(int, re.findall(r"^Pss:\s+(\d+) kB", rollups, re.MULTILINE)))


def together(*pids: int) -> int:
    """Memory of processes in bytes, as if there were no others: what they share counts once."""
    files: dict[tuple[str, str], int] = {}  # by offset and inode: the most that one of them has in memory
    anonymous = 0
    for pid in pids:
        for offset, inode, rss, own in _MAPPING.findall(Path(f"/proc/{pid}/smaps").read_text()):
            files[offset, inode] = max(files.get((offset, inode), 0), int(rss) - int(own))
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        anonymous += sum(map(int, re.findall(r"^Pss_Anon:\s+(\d+) kB", rollup, re.MULTILINE)))
    return 1024 * (anonymous + sum(files.values()))


def busy_seconds() -> float:
    """CPU seconds since boot in which CPUs were not idle, together; interrupts and stolen time count."""
    idle, iowait = (int(field) / TICK for field in Path("/proc/stat").read_text().split()[4:6])
    return CPUS * time.clock_gettime(time.CLOCK_BOOTTIME) - idle - iowait


def background(seconds: float) -> float:
    """CPUs that are busy while we do nothing for `seconds`."""
    before = busy_seconds()
    time.sleep(seconds)
    return max(0.0, busy_seconds() - before) / seconds


def threads(pid: int) -> list[int]:
    """Thread ids of a process; none when it is gone."""
    try:
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return []


@contextmanager
def pinned(pids: Iterable[int], cpu: int) -> Iterator[None]:
    """Keep every thread of some processes on one CPU for a while; afterwards each gets back what it had."""
    before = {pid: {tid: os.sched_getaffinity(tid) for tid in threads(pid)} for pid in pids}
    try:
        for pid in before:
            _pin(pid, {}, {cpu})
        yield
    finally:
        for pid, masks in before.items():
            _pin(pid, masks, masks.get(pid, set(range(CPUS))))


def _pin(pid: int, masks: dict[int, set[int]], others: set[int]) -> None:
    """Give each thread its mask, or that of `others`."""
    for tid in threads(pid):
        try:
            os.sched_setaffinity(tid, masks.get(tid, others))
        except ProcessLookupError:
            continue  # a thread that ended meanwhile
