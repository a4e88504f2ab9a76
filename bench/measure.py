"""One workload over one path, once: its figures, and the CPU time of every process that took part."""

import contextlib
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.clients import client, finish, wait_ready
from bench.cpu import busy_seconds, cpu_seconds, pinned
from bench.errors import BenchError
from bench.path import DataPath
from bench.pods import inside
from bench.workloads import Values, Workload

BYPASSED = 2e-4
"""CPU seconds: a proxy that used less during a measurement did not see the traffic."""

SERVER = "the server"
"""Its name among the processes; no proxy has it."""


@dataclass(frozen=True)
class Measurement:
    """What came out. CPU times are in seconds; `units` counts the workload's units of work.

    `foreign` is the number of CPUs that were busy with something else: other programs.
    """

    values: Values
    units: float
    seconds: float
    proxies: dict[str, float]
    client: float
    server: float
    foreign: float

    @property
    def proxies_per_unit(self) -> float:
        """CPU seconds of the proxies for a unit of work."""
        return sum(self.proxies.values()) / self.units

    @property
    def all_per_unit(self) -> float:
        """CPU seconds of client, proxies and server for a unit of work."""
        return (sum(self.proxies.values()) + self.client + self.server) / self.units


class Meter:
    """CPU clocks of some processes and of the machine, read twice."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        self._busy = busy_seconds()
        self._start = time.monotonic()

    def stop(self) -> tuple[dict[str, float], float, float]:
        """CPU seconds of each process, of the whole machine, and the seconds that have passed."""
        seconds = time.monotonic() - self._start
        busy = busy_seconds() - self._busy
        used = {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}
        return used, busy, seconds


def measure(load: Path, path: DataPath, workload: Workload, server: int, cpu: int | None) -> Measurement:
    """Run `workload` over `path` once; with a `cpu`, everything that takes part stays on that CPU.

    `server` is the pid of the workload's server. Raises BenchError when the client fails or a proxy is
    bypassed.
    """
    host, port = path.address(workload.server)
    command = workload.command(str(load), host, port)
    argv = inside(load, path.client, command, "-" if cpu is None else str(cpu))
    pids = {**path.proxies, SERVER: server}
    with pinned(pids.values(), cpu) if cpu is not None else contextlib.nullcontext():
        output, own, (used, busy, seconds) = (_gated if workload.gated else _timed)(argv, pids)
    values, units = workload.read(output)
    at_client = values.pop("cpu", own)
    at_server = used.pop(SERVER)
    bypassed = [name for name, cpu_time in used.items() if cpu_time < BYPASSED]
    if bypassed and not path.direct:
        raise BenchError(f"{path.name}: proxy {', '.join(bypassed)} used no CPU: the traffic goes around it")
    foreign = max(0.0, busy - sum(used.values()) - at_client - at_server) / seconds
    return Measurement(values, units, seconds, used, at_client, at_server, foreign)


Account = tuple[dict[str, float], float, float]


def _timed(argv: Sequence[str], pids: dict[str, int]) -> tuple[str, float, Account]:
    """Run a client as a whole: its output, its CPU time, and what was used meanwhile."""
    own = _children()
    meter = Meter(pids)
    with client(argv) as process:
        output = finish(process)
    return output, _children() - own, meter.stop()


def _gated(argv: Sequence[str], pids: dict[str, int]) -> tuple[str, float, Account]:
    """Run a client that warms up before it is told to go; its CPU time is in its output."""
    with client(argv) as process:
        wait_ready(process)
        meter = Meter(pids)
        output = finish(process, "\n")
    return output, 0.0, meter.stop()


def _children() -> float:
    """CPU seconds of our children that have ended, in microsecond steps."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
