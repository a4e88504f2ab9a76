"""Real measurements, over loopback: the load generator, its CPU time, and proxies that are bypassed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.lab import cgroups
from bench import rest
from bench.clients import held, try_once
from bench.cpu import resident
from bench.errors import BenchError
from bench.measure import measure
from bench.path import ECHO, HTTP, MIX, DataPath
from bench.pods import Pod
from bench.processes import Processes
from bench.tools import ROOT, build_load
from bench.workloads import Workload, reader, workloads
from tests.support.wait import until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("cargo"),
    reason="needs root and cargo: enters a pod, builds the load generator",
)
HOST = "127.0.0.1"


def here() -> Pod:
    """The place where we are ourselves, as a pod."""
    own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    return Pod("here", Path("/proc/self/ns/net"), cgroups.mount_point() / own, HOST)


def free_ports() -> dict[int, tuple[str, int]]:
    """Ports that nobody else listens on, derived from our pid so that two runs do not meet."""
    base = 20_000 + os.getpid() % 3_000 * 3
    return {port: (HOST, base + i) for i, port in enumerate((ECHO, HTTP, MIX))}


@pytest.fixture(scope="module")
def load() -> Path:
    return build_load(ROOT / "build/load", "dev")


@pytest.fixture
def processes(load: Path, tmp_path: Path) -> Iterator[Processes]:
    running = Processes(load, tmp_path)
    yield running
    running.close()


@pytest.fixture
def served(processes: Processes) -> tuple[DataPath, int]:
    """A path with a server, and the server's pid."""
    path = DataPath("plain", here(), here(), {}, free_ports())
    listen = [":".join(map(str, path.address(port))) for port in (ECHO, HTTP, MIX)]
    pid = processes.start("server", path.server, [str(processes.load), "serve", *listen])
    until(lambda: not try_once(processes.load, path, ECHO), what=processes.tail("server"))
    return path, pid


def workload(*words: str) -> Workload:
    return Workload(
        words[0],
        ECHO,
        "thing",
        lambda load, host, port: [load, words[0], f"{host}:{port}", *words[1:]],
        reader(1),
        True,
    )


@pytest.mark.parametrize(
    "words", [("rr", "0.25", "64"), ("crr", "0.25", "500", "fin"), ("crr", "0.25", "500", "rst")]
)
@pytest.mark.parametrize("cpu", [None, min(os.sched_getaffinity(0))])
def test_a_measurement_accounts_for_client_and_server(
    load: Path, served: tuple[DataPath, int], words: tuple[str, ...], cpu: int | None
) -> None:
    path, server = served
    found = measure(load, path, workload(*words), server, cpu)
    assert found.units == found.values["count"] > 10
    assert 0 < found.values["p50"] <= found.values["p99"]
    assert found.client > 0
    assert found.server > 0
    assert found.proxies == {}
    assert found.proxies_per_unit == 0 < found.all_per_unit
    if cpu is not None:
        assert found.client + found.server <= found.seconds * 1.1
        assert len(os.sched_getaffinity(server)) == len(os.sched_getaffinity(0))


def test_a_proxy_that_is_bypassed_is_refused(
    load: Path, processes: Processes, served: tuple[DataPath, int]
) -> None:
    path, server = served
    idle = processes.start("idle", path.server, ["sleep", "infinity"])
    around = DataPath("around", path.client, path.server, {"server": idle}, path.reach)
    with pytest.raises(BenchError, match="proxy server used no CPU"):
        measure(load, around, workload("rr", "0.25", "64"), server, None)


def test_a_client_that_fails_says_why(load: Path, served: tuple[DataPath, int]) -> None:
    path, server = served
    nobody = DataPath("nobody", path.client, path.server, {}, {ECHO: (HOST, 9)})
    with pytest.raises(BenchError, match=r"rr 127.0.0.1:9.*refused"):
        measure(load, nobody, workload("rr", "0.25", "64"), server, None)
    assert "refused" in try_once(load, nobody, ECHO)


def test_idle_connections_are_held_and_still_answer(
    load: Path, served: tuple[DataPath, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, server = served
    monkeypatch.setattr(rest, "SETTLE", 0.0)
    seen = DataPath("seen", path.client, path.server, {"server": server}, path.reach)
    figures = rest.with_idle(load, seen, 1_000, 0.01, {"server": resident(server)})
    assert 0 < figures["kb_each"] <= figures["kb_each_all"] < 50


def test_a_keeper_counts_as_memory_of_its_proxy(served: tuple[DataPath, int]) -> None:
    path, server = served
    alone = replace(path, proxies={"server": server})
    kept = replace(alone, helpers={"server": [os.getpid()]})
    assert kept.memory()["server"] > alone.memory()["server"] > 0


def test_idle_connections_that_are_lost_are_noticed(
    load: Path, processes: Processes, served: tuple[DataPath, int]
) -> None:
    path, server = served
    with pytest.raises(BenchError, match="3 of 3 idle connections were lost"), held(load, path, ECHO, 3):
        processes.stop(server)


def test_http_requests_are_answered(served: tuple[DataPath, int]) -> None:
    host, port = served[0].address(HTTP)
    urls = [f"http://{host}:{port}/{i}" for i in range(3)]
    done = subprocess.run(["curl", "-s", *urls], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n" * 3


def test_a_process_that_ended_by_itself_is_named(processes: Processes, served: tuple[DataPath, int]) -> None:
    processes.check()
    processes.start("brief", served[0].server, ["sh", "-c", "echo out of order; exit 3"])

    def noticed() -> str:
        try:
            processes.check()
        except BenchError as error:
            return str(error)
        return ""

    assert until(noticed) == "brief ended with status 3: out of order"


def test_round_trips_are_measured_beside_bulk(load: Path, served: tuple[DataPath, int]) -> None:
    """Both figures: the round trips are answered while the flows send."""
    path, server = served
    beside = next(each for each in workloads(quick=True) if each.name == "beside")
    found = measure(load, path, beside, server, None)
    assert found.values["count"] > 10
    assert 0 < found.values["p50"] <= found.values["p99"]
    assert found.values["gbps"] > 0
    assert found.units > 0
