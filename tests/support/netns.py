"""A small node out of network namespaces: pods joined by a router, each with a veth, IPv4, IPv6 and a cgroup.

Nothing touches the machine's own namespace: the router is one more. All names begin with `wt-`, all cgroups
are below <cgroup2>/warren-test-PID.
"""

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from agent.lab import cgroups
from agent.node.netns import NetnsFd

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Pod:
    """A network namespace that looks like a pod's."""

    name: str
    path: Path
    netns: NetnsFd
    v4: IPv4Address
    v6: IPv6Address
    cgroup: Path

    @property
    def addresses(self) -> list[IPv4Address | IPv6Address]:
        return [self.v4, self.v6]


class Node:
    """Makes pods, and takes all of it away in `close`."""

    def __init__(self) -> None:
        self._tag = f"wt-{os.getpid()}-{next(_numbers)}"
        self.cgroup = cgroup2() / f"warren-test-{os.getpid()}" / self._tag
        self.cgroup.mkdir(parents=True)
        self._pods: list[Pod] = []
        self.router = self._namespace("r")
        self.router.run(_forward)

    def pod(self) -> Pod:
        """One more pod; it reaches all others through the router, and is reached by it."""
        number = len(self._pods) + 1
        name = f"{self._tag}-{number}"
        netns = self._namespace(str(number))
        v4, v6 = IPv4Address(f"10.199.{number}.2"), IPv6Address(f"fd99:0:0:{number}::2")
        _ip(f"link add h{number} netns {self._tag}-r type veth peer name eth0 netns {name}")
        _ip(
            f"addr add 10.199.{number}.1/24 dev h{number}",
            f"addr add fd99:0:0:{number}::1/64 dev h{number} nodad",
            f"link set h{number} up",
            netns=f"{self._tag}-r",
        )
        _ip(
            f"addr add {v4}/24 dev eth0",
            f"addr add {v6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via 10.199.{number}.1",
            f"route add default via fd99:0:0:{number}::1",
            netns=name,
        )
        pod = Pod(name, Path("/run/netns") / name, netns, v4, v6, self.make_cgroup(f"pod{number}"))
        self._pods.append(pod)
        return pod

    @property
    def router_path(self) -> Path:
        return Path("/run/netns") / f"{self._tag}-r"

    def make_cgroup(self, name: str) -> Path:
        path = self.cgroup / name
        path.mkdir(parents=True)
        return path

    def delete(self, pod: Pod) -> None:
        """The pod's namespace goes, as far as no descriptor holds it."""
        pod.netns.close()
        _ip(f"netns del {pod.name}")

    def close(self) -> None:
        """Ends every process in the cgroups that were made, and removes namespaces and cgroups."""
        cgroups.kill(self.cgroup)
        _ip(*(f"netns del {path.name}" for path in sorted(Path("/run/netns").glob(f"{self._tag}-*"))))
        for pod in self._pods:
            pod.netns.close()
        self.router.close()
        for directory, _, _ in os.walk(self.cgroup, topdown=False):
            Path(directory).rmdir()
        if not any(entry.is_dir() for entry in self.cgroup.parent.iterdir()):
            self.cgroup.parent.rmdir()

    def _namespace(self, suffix: str) -> NetnsFd:
        name = f"{self._tag}-{suffix}"
        _ip(f"netns add {name}")
        _ip("link set lo up", netns=name)
        netns = NetnsFd.open(Path("/run/netns") / name)
        netns.run(_settle)
        return netns


def cgroup2() -> Path:
    """Where the cgroup v2 hierarchy is mounted."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next(Path(point) for _, point, kind, *_ in mounts if kind == "cgroup2")


@contextmanager
def behind(pod: Path) -> Iterator[Path]:
    """A namespace behind a device of this pod's own, as that of a container that Docker starts in a pod."""
    name = f"wt-{os.getpid()}-{next(_numbers)}"
    _ip(f"netns add {name}")
    try:
        with closing(NetnsFd.open(pod)) as inside:
            inside.run(
                lambda: _ip(
                    f"link add {name[:15]} type veth peer name eth0 netns {name}",
                    f"addr add 172.31.255.1/30 dev {name[:15]}",
                    f"link set {name[:15]} up",
                )
            )
        _ip(
            "addr add 172.31.255.2/30 dev eth0",
            "link set eth0 up",
            "route add default via 172.31.255.1",
            netns=name,
        )
        yield Path("/run/netns") / name
    finally:
        _ip(f"netns del {name}")


def _forward() -> None:
    for family in ("ipv4", "ipv6"):
        Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text("1")


def _settle() -> None:
    """No waiting for duplicate addresses to show themselves."""
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")


def _ip(*commands: str, netns: str = "") -> None:
    """All by one process: its start takes longer than what it does, most of all where it is emulated."""
    command = ["ip", *(["-n", netns] if netns else []), "-batch", "-"]
    done = subprocess.run(command, input="\n".join(commands), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {commands}: {done.stderr.strip()}"
