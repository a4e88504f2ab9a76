"""What a machine must have for a lab, said all at once and before anything is made."""

import ctypes.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from agent.errors import SettingsError
from agent.lab import cgroups
from agent.lab.errors import LabError
from agent.lab.state import State

_PROGRAMS = {
    "dnsmasq": "dnsmasq-base",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "unshare": "util-linux",
}


def check(wanted: State) -> None:
    """Raises SettingsError with a line, and its remedy, for each thing that is missing or cannot be."""
    if problems := [*_of_machine(wanted), *_of_ztunnels(wanted)]:
        raise SettingsError("\n".join(problems))


def _of_machine(wanted: State) -> Iterator[str]:
    if os.geteuid() != 0:
        yield "network namespaces and eBPF need root: run it with `sudo`"
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            yield f"the program {program} is missing: `apt-get install {package}`"
    if wanted.mesh and ctypes.util.find_library("bpf") is None:
        yield "the library libbpf is missing: `apt-get install libbpf1`"
    if not Path("/proc/sys/net/ipv6").exists():
        yield "this kernel runs without IPv6, which the lab's pods have: boot it without `ipv6.disable=1`"
    try:
        cgroups.mount_point()
    except LabError as error:
        yield str(error)


def _of_ztunnels(wanted: State) -> Iterator[str]:
    nodes = [node.name for node in wanted.nodes]
    for node, binary in wanted.ztunnels.items():
        if node not in nodes:
            yield f"there is no node {node} for {binary}: nodes are {', '.join(nodes)}"
        if not os.access(binary, os.X_OK) or Path(binary).is_dir():
            yield f"{binary} is not a program that can be run"
