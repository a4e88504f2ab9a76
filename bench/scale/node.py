"""One node of the cluster: an agent in full and its tunnel, each a process of its own, and what they cost."""

import asyncio
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import yaml

from agent.kube import in_cluster
from agent.lab import cgroups
from bench.cpu import cpu_seconds
from bench.errors import BenchError
from bench.scale import cluster
from bench.tools import ROOT

NAME = cluster.node_name(0)
_CGROUP = f"wt-scale-{os.getpid()}"
# A pod's mounts: what is in the folder $1 is at $0, for what follows.
_MOUNTED = """
mkdir -p /run/secrets && mount -t tmpfs secrets /run/secrets && mkdir -p "$0" && cp "$1"/* "$0" || exit
shift
exec "$@"
"""


class Place(NamedTuple):
    """Where a node keeps its things: the kernel's part stays below `cgroup`."""

    run: Path
    cgroup: Path
    bpffs: Path
    kubeconfig: Path


class Process:
    """One of the two, with its log."""

    def __init__(self, name: str, options: Sequence[object], log: Path, within: Sequence[str] = ()) -> None:
        """within: a command that runs it in the place of its own."""
        command = [*within, sys.executable, "-m", "agent.cli.main", name, *map(str, options)]
        self.name, self.log = name, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def pids(self) -> list[int]:
        """Its own, and those of its children."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [self._process.pid, *map(int, children.split())]

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


@contextmanager
def own_server(out: Path) -> Iterator[Path]:
    """The API server of the tests, with its kubeconfig. Raises BenchError."""
    command = [sys.executable, "-m", "tests.support.kubernetes", "--dir", str(out / "kubernetes")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            ready, _, kubeconfig = server.stdout.readline().strip().partition(": ")
            if ready != "ready":
                raise BenchError("the API server of the tests does not start")
            yield Path(kubeconfig)
        finally:
            server.terminate()


def agent(at: Place, ports: tuple[int, int]) -> Process:
    """Its log says which resources its tunnel has acknowledged. ports: of metrics, of xDS over TLS."""
    options = ("--kubeconfig", at.kubeconfig, "--log-level", "debug")
    return Process("agent", [*_of_agent(at, ports), *options], at.run / "agent.log")


def agent_in_pod(at: Place, ports: tuple[int, int], *options: object) -> Process:
    """One that finds its API server as a pod does."""
    config = yaml.safe_load(at.kubeconfig.read_text())
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    account = at.run / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes(b64decode(server["certificate-authority-data"]))
    (account / "token").write_text(user["token"])
    url = urlsplit(server["server"])
    where = [f"{in_cluster.HOST}={url.hostname}", f"{in_cluster.PORT}={url.port}"]
    pod = ["unshare", "--mount", "env", *where, "sh", "-c", _MOUNTED, str(in_cluster.FOLDER), str(account)]
    return Process("agent", [*_of_agent(at, ports), *options], at.run / "agent.log", pod)


def _of_agent(at: Place, ports: tuple[int, int]) -> list[object]:
    return [
        *("--source", "kube", "--node", NAME),
        *("--run-dir", at.run, "--cgroup", at.cgroup, "--bpffs", at.bpffs),
        *("--metrics-port", ports[0], "--xds-address", f"127.0.0.1:{ports[1]}"),
    ]


def tunnel(at: Place, zds: Path, on_demand: bool, *more: object) -> Process:
    """Of our own pods, told of at `zds`. It has no authority: nobody speaks through it."""
    for name in ("token", "root.pem"):
        (at.run / name).touch()
    options = [
        *("--node", NAME, "--zds", zds, "--xds", f"unix:{at.run}/xds.sock"),
        *("--ca", "https://127.0.0.1:1", "--ca-root", at.run / "root.pem", "--ca-token", at.run / "token"),
        *("--admin-port", 0, "--metrics-port", 0, "--ready-port", 0, "--workers", 2),
        *(["--on-demand"] if on_demand else []),
        *more,
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
