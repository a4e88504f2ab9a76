"""One node of the cluster: an agent in full and its tunnel, each a process of its own, and what they cost."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.lab import cgroups
from bench.cpu import cpu_seconds
from bench.errors import BenchError
from bench.scale import cluster
from bench.tools import ROOT

NAME = cluster.node_name(0)
_CGROUP = f"wt-scale-{os.getpid()}"


class Place(NamedTuple):
    """Where a node keeps its things: the kernel's part stays below `cgroup`."""

    run: Path
    cgroup: Path
    bpffs: Path
    kubeconfig: Path


class Process:
    """One of the two, with its log."""

    def __init__(self, name: str, options: Sequence[object], log: Path) -> None:
        command = [sys.executable, "-m", "agent.cli.main", name, *map(str, options)]
        self.name, self.log = name, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def check(self) -> None:
        """Raise BenchError, with the end of its log, when it has ended."""
        if (status := self._process.poll()) is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-3:]
            raise BenchError(f"the {self.name} ended with status {status}: {' | '.join(tail)}")

    def cpu(self) -> float:
        """CPU seconds of all its threads."""
        self.check()
        return cpu_seconds(self._process.pid)

    def memory(self) -> dict[str, float]:
        """Resident now and at most since the start, in MB of 10^6 bytes."""
        self.check()
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        kib = {name: int(rest.split()[0]) for name, rest in _fields(status) if name in ("VmRSS", "VmHWM")}
        return {"resident": kib["VmRSS"] * 1024 / 1e6, "peak": kib["VmHWM"] * 1024 / 1e6}

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def place(out: Path, kubeconfig: Path) -> Iterator[Place]:
    """Makes what a node needs of this machine, and takes it away. Raises BenchError."""
    group = cgroups.mount_point() / _CGROUP
    run, bpffs = out / "node", out / "bpffs"
    group.mkdir()
    for directory in (run, bpffs):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        if subprocess.run(["mount", "-t", "bpf", "warren-bench", bpffs], check=False).returncode:
            raise BenchError(f"a bpffs cannot be mounted at {bpffs}")
        yield Place(run, group, bpffs / "warren", kubeconfig)
    finally:
        subprocess.run(["umount", bpffs], check=False, stderr=subprocess.DEVNULL)
        group.rmdir()


def agent(at: Place, ports: tuple[int, int]) -> Process:
    """Its log says which resources its tunnel has acknowledged. ports: of metrics, of xDS over TLS."""
    options = [
        *("--source", "kube", "--kubeconfig", at.kubeconfig, "--node", NAME),
        *("--run-dir", at.run, "--cgroup", at.cgroup, "--bpffs", at.bpffs),
        *("--metrics-port", ports[0], "--xds-address", f"127.0.0.1:{ports[1]}", "--log-level", "debug"),
    ]
    return Process("agent", options, at.run / "agent.log")


def tunnel(at: Place, zds: Path, on_demand: bool) -> Process:
    """Of our own pods, told of at `zds`. It has no authority: nobody speaks through it."""
    for name in ("token", "root.pem"):
        (at.run / name).touch()
    options = [
        *("--node", NAME, "--zds", zds, "--xds", f"unix:{at.run}/xds.sock"),
        *("--ca", "https://127.0.0.1:1", "--ca-root", at.run / "root.pem", "--ca-token", at.run / "token"),
        *("--admin-port", 0, "--metrics-port", 0, "--ready-port", 0, "--workers", 2),
        *(["--on-demand"] if on_demand else []),
    ]
    return Process("tunnel", options, at.run / "tunnel.log")


async def until_ready(process: Process, text: str, within: float) -> None:
    """Wait until a process has logged something. Raises BenchError."""
    try:
        async with asyncio.timeout(within):
            while text not in process.log.read_text(errors="replace"):
                process.check()
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise BenchError(f"the {process.name} has not said {text!r} within {within:g} s") from None


def _fields(status: str) -> Iterator[tuple[str, str]]:
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        yield name, rest
