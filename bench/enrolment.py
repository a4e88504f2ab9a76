"""How long a pod's start is held, and how long an agent takes to have all pods of its node.

    python -m bench.enrolment [--pods 110] [--rounds 5]

The CNI plugin, the agent and the tunnel are the real ones, each a process of its own; the pods are network
namespaces in which nothing runs. An ADD is timed from the plugin's start to its end, the tunnel's answer
included; an agent's start from its exec to its readiness, with the capture of every pod. Cold: the kernel
knew none of them; warm: the agent was killed and everything is there.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from agent.lab import cgroups, kernel, process
from agent.node.datapath import Datapath
from agent.node.state import pods
from bpf.pins import Pins
from cni import BINARY

_NAME = f"wt-enrolment-{os.getpid()}"
_CA = "127.0.0.1:15013"
_PORTS = {"ca": 15015, "agent": 15014, "tunnel": 15021}  # that say whether they are of use
_WITHIN = 60.0  # seconds
_BURST = 16  # plugins at a time, as when a node boots


class Node:
    """A node's agent and tunnel, and pods to enrol."""

    def __init__(self, root: Path, number: int, exits: ExitStack) -> None:
        self.root = root
        self._cgroup = cgroups.mount_point() / _NAME
        self._netns = Path("/run/netns") / _NAME
        self._bpffs = root / "bpf"
        self.pods = [f"{_NAME}-{index}" for index in range(number)]
        exits.callback(self._clean)
        self._cgroup.mkdir()
        self._bpffs.mkdir()
        kernel.mount("bpf", self._bpffs, "bpf")
        for name in (_NAME, *self.pods):
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        (root / "source").mkdir()
        (root / "ca").mkdir(mode=0o700)
        (root / "ca/tokens.json").write_text(json.dumps({"a token": "n"}))
        (root / "token").write_text("a token")
        for name in self.pods:
            self._write(name)

    def start(self, role: str) -> None:
        """Start one of `ca`, `agent` and `tunnel`, and wait until it is of use."""
        run, ca = self.root / "run", self.root / "ca"
        arguments = {
            "ca": f"--source=dir:{self.root}/source --dir={ca} --tokens={ca}/tokens.json --listen={_CA} "
            f"--metrics-port={_PORTS['ca']}",
            "agent": f"--source=dir:{self.root}/source --node=n --run-dir={run} --cgroup={self._cgroup} "
            f"--bpffs={self._bpffs}/warren --metrics-port={_PORTS['agent']}",
            "tunnel": f"--node=n --zds={run}/ztunnel.sock --xds=unix:{run}/xds.sock --ca=https://{_CA} "
            f"--ca-root={ca}/root.pem --ca-token={self.root}/token --ready-port={_PORTS['tunnel']}",
        }[role]
        command = [sys.executable, "-m", "agent.cli.main", role, *arguments.split()]
        (self._cgroup / role).mkdir(exist_ok=True)
        inside = process.in_network(self._netns, command)
        process.start(self._cgroup / role, inside, self.root / f"{role}.log", dict(os.environ))
        url = f"http://127.0.0.1:{_PORTS[role]}/{'metrics' if role == 'ca' else 'healthz/ready'}"
        ask = ["ip", "netns", "exec", _NAME, "curl", "-sf", url]
        self._until(lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0, role)

    def kill(self, role: str) -> None:
        cgroups.kill(self._cgroup / role)

    def add(self, name: str) -> float:
        """Call the plugin for a pod; seconds that it took."""
        number = self.pods.index(name) + 2
        result = {"cniVersion": "1.0.0", "ips": [{"address": f"10.1.{number // 250}.{number % 250}/24"}]}
        entry = {"cniVersion": "1.0.0", "socket": str(self.root / "run/cni.sock"), "prevResult": result}
        arguments = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID=uid-{name}"
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": name,
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_ARGS": arguments,
        }
        content = json.dumps(entry)
        begun = time.perf_counter()
        done = subprocess.run(
            [BINARY], input=content, env=environment, capture_output=True, text=True, check=False
        )
        took = time.perf_counter() - begun
        if done.returncode:
            raise SystemExit(f"ADD {name}: {done.stdout}")
        return took

    def forget(self) -> None:
        """The kernel knows no pod any more; the agent is not there."""
        Datapath.remove(self._bpffs / "warren")

    def await_captured(self) -> None:
        """Until the kernel captures every pod, and the tunnel listens in it."""
        pins = Pins(self._bpffs / "warren")

        def all_there() -> bool:
            maps = {
                name: present for name in ("pods", "addresses", "listeners") if (present := pins.map(name))
            }
            states = pods(pins, maps).values() if len(maps) == 3 else []
            return sum(state.captured and state.listening for state in states) == len(self.pods)

        self._until(all_there, "every pod's capture")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _WITHIN
        while not condition():
            if time.monotonic() > deadline:
                logs = "".join(f"{log.name}: {log.read_text()[-600:]}\n" for log in self.root.glob("*.log"))
                raise SystemExit(f"not within {_WITHIN:.0f} s: {what}\n{logs}")
            time.sleep(0.01)

    def _write(self, name: str) -> None:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "labels": {"istio.io/dataplane-mode": "ambient"},
            },
            "spec": {"nodeName": "n"},
        }
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
        (self.root / "source" / "default.json").write_text(json.dumps(namespace))
        (self.root / "source" / f"{name}.json").write_text(json.dumps(pod))

    def _clean(self) -> None:
        if self._cgroup.exists():
            cgroups.kill(self._cgroup)
            for directory in cgroups.directories(self._cgroup):
                directory.rmdir()
        if self._bpffs.is_mount():
            Datapath.remove(self._bpffs / "warren")
            subprocess.run(["umount", self._bpffs], check=True)
        for name in (_NAME, *self.pods):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def node(number: int) -> Iterator[Node]:
    """One that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"{_NAME}-") as directory, ExitStack() as exits:
        yield Node(Path(directory), number, exits)


def seconds(begun: float) -> float:
    return time.perf_counter() - begun


def told(what: str, values: list[float], unit: float = 1e3) -> None:
    """A line of milliseconds."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    figures = {"p50": statistics.median(ordered), "p99": p99, "max": ordered[-1]}
    text = "  ".join(f"{name} {value * unit:8.1f} ms" for name, value in figures.items())
    click.echo(f"{what:<44} {text}  ({len(ordered)})")


@click.command()
@click.option("--pods", "number", default=110, help="of the node")
@click.option("--rounds", default=3, help="of each kind of start")
def main(number: int, rounds: int) -> None:
    """Measure, and print what came out."""
    with node(number) as it:
        for role in _PORTS:
            it.start(role)
        told("ADD, one pod after the other", [it.add(name) for name in it.pods])
        told("ADD again", [it.add(name) for name in it.pods])
        starts: dict[str, list[float]] = {
            "warm, ready": [],
            "cold, ready": [],
            "cold, tunnel in every pod": [],
        }
        for _ in range(rounds):
            it.kill("agent")
            begun = time.perf_counter()
            it.start("agent")
            starts["warm, ready"].append(seconds(begun))
            it.kill("agent")
            it.kill("tunnel")
            it.forget()
            begun = time.perf_counter()
            it.start("agent")
            starts["cold, ready"].append(seconds(begun))
            it.start("tunnel")
            it.await_captured()
            starts["cold, tunnel in every pod"].append(seconds(begun))
        for what, values in starts.items():
            told(f"{number} pods, agent started, {what}", values)
        it.kill("agent")
        it.forget()
        for record in (it.root / "run/sandboxes").iterdir():
            record.unlink()
        it.start("agent")
        with ThreadPoolExecutor(_BURST) as burst:
            told(f"ADD, {_BURST} pods at a time", list(burst.map(it.add, it.pods)))


if __name__ == "__main__":
    main()
