"""What the benchmark needs to know of a pod, and how to run a program inside one."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

CONGESTION_CONTROLS = re.compile(r"\b(cubic|reno|bbr2?|dctcp|vegas|westwood|htcp|bic|cdg|yeah)\b")


@dataclass(frozen=True)
class Pod:
    """A pod of the lab: a place to run programs in.

    `netns` and `cgroup` are paths, `address` is its IPv4 address.
    """

    name: str
    netns: Path
    cgroup: Path
    address: str


def inside(load: Path, pod: Pod, argv: Sequence[str], cpus: str = "-") -> list[str]:
    """The command line that runs `argv` in `pod`, on `cpus` ("0,1"; "-": any), and ends with its parent."""
    return [str(load), "enter", str(pod.netns), str(pod.cgroup), cpus, *argv]


def congestion_controls(load: Path, pods: Iterable[Pod]) -> set[str]:
    """Names of the congestion control of the established TCP connections in some pods."""
    found: set[str] = set()
    for pod in pods:
        command = inside(load, pod, ["ss", "-tinH", "state", "established"])
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"ss in {pod.name}: {done.stderr.strip()}")
        found.update(CONGESTION_CONTROLS.findall(done.stdout))
    return found
