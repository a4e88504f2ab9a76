"""The rounds: every path in each, another one first each time; noisy measurements are repeated."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from bench import rest
from bench.clients import connect, held, try_once
from bench.cpu import resident
from bench.errors import BenchError
from bench.measure import Measurement, measure
from bench.path import ECHO, HTTP, IPERF, MIX, PORTS, DataPath
from bench.pods import congestion_controls
from bench.processes import Processes
from bench.quiet import Patience
from bench.results import Cell, Failure, Record
from bench.workloads import Workload

READY_TIMEOUT = 30.0  # seconds until a path must carry its first connection
ATTEMPTS = 3
NOISY = 0.25
"""CPUs busy with something else that make a measurement worth repeating."""
MANY_IDLE = 10_000

Say = Callable[[str], None]


class Run:
    """Servers and measurements of some paths; what came out is in `records` and `failures`."""

    def __init__(
        self, processes: Processes, paths: Sequence[DataPath], patience: Patience, one_cpu: int
    ) -> None:
        """`one_cpu` is the CPU on which everything is put together."""
        self._processes = processes
        self._load = processes.load
        self._paths = paths
        self._patience = patience
        self._one_cpu = one_cpu
        self._servers: dict[tuple[str, int], int] = {}
        self._fresh: dict[str, dict[str, int]] = {}
        self.records: list[Record] = []
        self.failures: list[Failure] = []

    def prepare(self) -> None:
        """Start the servers and see that each path carries connections, with the same congestion control."""
        for path in self._paths:
            ports = (ECHO, HTTP, MIX)
            server = [str(self._load), "serve", *(f"0.0.0.0:{port}" for port in ports)]
            pid = self._processes.start(f"server-{path.name}", path.server, server)
            self._servers |= {(path.name, port): pid for port in ports}
            self._start_iperf(path)
        for path in self._paths:
            self._wait_until_it_carries(path)
            self._wait_until_it_is_direct(path)
            self._check_congestion_control(path)
            self._fresh[path.name] = {name: resident(pid) for name, pid in path.proxies.items()}

    def once_fresh(self, seconds: float, say: Say) -> None:
        """Memory and CPU of the fresh proxies, without and with 1,000 idle connections."""
        for path in self._with_proxies():
            say(f"{path.name}: fresh proxies at rest")
            self._rest(Cell(path.name, "fresh"), partial(rest.at_rest, path, seconds))
        for path in self._with_proxies():
            say(f"{path.name}: fresh proxies with 1,000 idle connections")
            self._idle(path, 1_000, seconds)

    def round(self, number: int, workloads: Sequence[Workload], seconds: float, say: Say) -> None:
        """Every workload over every path, at default scheduling and on one CPU; `seconds` at rest before."""
        first = number % len(self._paths)
        for path in [*self._paths[first:], *self._paths[:first]]:
            self._patience.wait()
            if path.proxies:
                self._rest(Cell(path.name, "rest", False, number), partial(rest.at_rest, path, seconds))
            for workload in workloads:
                for cpu in (None, self._one_cpu):
                    say(f"{path.name}: {workload.name}{' on one CPU' if cpu is not None else ''}")
                    self._measure(path, workload, cpu, number)

    def many_idle(self, seconds: float, say: Say) -> None:
        """Memory and CPU of pairs of proxies with many idle connections.

        A single proxy would hold both ends of each, more descriptors than many a machine allows.
        """
        for path in self._with_proxies():
            if len(path.proxies) > 1:
                say(f"{path.name}: {MANY_IDLE:,} idle connections")
                self._patience.wait()
                self._idle(path, MANY_IDLE, seconds)

    def _with_proxies(self) -> list[DataPath]:
        return [path for path in self._paths if path.proxies]

    def _start_iperf(self, path: DataPath) -> None:
        argv = ["iperf3", "--server", "--port", str(IPERF)]
        self._servers[path.name, IPERF] = self._processes.start(f"iperf3-{path.name}", path.server, argv)

    def _wait_until_it_carries(self, path: DataPath) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while why := try_once(self._load, path, ECHO):
            self._processes.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{path.name} carries nothing after {READY_TIMEOUT:.0f} s: {why}")
            time.sleep(0.2)

    def _wait_until_it_is_direct(self, path: DataPath) -> None:
        """The proxies of such a path say so after the first connection to each server."""
        if not path.direct:
            return
        for port in PORTS:
            deadline = time.monotonic() + READY_TIMEOUT
            before = path.direct()
            while path.direct() == before:
                connect(self._load, path, port)
                if time.monotonic() > deadline:
                    raise BenchError(f"{path.name}: connections to port {port} do not go directly")
                time.sleep(0.2)

    def _check_congestion_control(self, path: DataPath) -> None:
        with held(self._load, path, ECHO, 1):
            found = congestion_controls(self._load, (path.client, path.server))
        if found != {"cubic"}:
            raise BenchError(
                f"{path.name}: congestion control is {', '.join(sorted(found))}, not cubic alone"
            )

    def _idle(self, path: DataPath, count: int, seconds: float) -> None:
        look = partial(rest.with_idle, self._load, path, count, seconds, self._fresh[path.name])
        self._rest(Cell(path.name, f"idle{count}"), look)

    def _rest(self, cell: Cell, look: Callable[[], dict[str, float]]) -> None:
        try:
            self.records.append(Record(cell, look()))
        except BenchError as error:
            self._fail(cell, error)

    def _fail(self, cell: Cell, error: BenchError) -> None:
        self._processes.check()
        self.failures.append(Failure(cell, str(error)))

    def _measure(self, path: DataPath, workload: Workload, cpu: int | None, number: int) -> None:
        """Measure until it was quiet meanwhile; the last attempt counts.

        That is one of `ATTEMPTS`, or that at which no patience is left.
        """
        cell = Cell(path.name, workload.name, cpu is not None, number)
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                server = self._servers[path.name, workload.server]
                found = measure(self._load, path, workload, server, cpu)
            except BenchError as error:
                if last:
                    self._fail(cell, error)
                self._renew_iperf(path, workload)
                continue
            if last or found.foreign <= NOISY or not self._patience.left:
                self.records.append(_record(cell, found, attempt))
                return
            self._patience.wait()

    def _renew_iperf(self, path: DataPath, workload: Workload) -> None:
        """After a failure: iperf3 refuses new clients while it believes that the last one is still there."""
        if workload.server == IPERF:
            self._processes.stop(self._servers[path.name, IPERF])
            self._start_iperf(path)
            time.sleep(rest.SETTLE)


def _record(cell: Cell, found: Measurement, attempt: int) -> Record:
    figures = {
        **{figure: float(value) for figure, value in found.values.items()},
        "proxies_cpu": found.proxies_per_unit,
        "all_cpu": found.all_per_unit,
    }
    processes = {**found.proxies, "client": found.client, "server": found.server}
    return Record(cell, figures, found.foreign, attempt, found.foreign > NOISY, processes)
