"""What the running kernel and this process can do, found by trying: never by the kernel's version."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.node.cookie import SO_NETNS_COOKIE, cookie
from agent.node.errors import NodeError
from agent.node.listeners import listeners
from bpf.btf import Btf
from bpf.errors import BpfError
from bpf.libbpf import call, library

# enum bpf_prog_type, bpf_map_type and bpf_func_id of the UAPI.
_SOCK_OPS, _SOCK_ADDR, _SOCKOPT, _SK_LOOKUP = 13, 18, 25, 30
_SOCKHASH, _SK_STORAGE = 18, 24
_SETSOCKOPT, _STORAGE, _NETNS_COOKIE, _TO_MPTCP = 49, 107, 122, 196
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21
_BTF = Path("/sys/kernel/btf/vmlinux")


@dataclass(frozen=True)
class Feature:
    """Something that the redirection stands on. `since`: the Linux version that has it, or what gives it."""

    name: str
    present: bool
    since: str
    needed_for: str
    required: bool = True


class _Probed(NamedTuple):
    name: str
    probe: Callable[[], bool]
    since: str
    needed_for: str
    required: bool = True


def features() -> list[Feature]:
    """All of them. Needs the privileges that the list begins with; without, the rest is given as absent."""
    return [Feature(one.name, one.probe(), *one[2:]) for one in _PROBED]


def listed() -> list[Feature]:
    """The same, without a look at the kernel: none is present."""
    return [Feature(one.name, False, *one[2:]) for one in _PROBED]


def missing() -> str | None:
    """The first required feature that is absent, in one line; None if all are there."""
    for feature in features():
        if feature.required and not feature.present:
            return f"{feature.name} is missing ({feature.since}), needed for {feature.needed_for}"
    return None


def on_bpffs(path: Path) -> bool:
    """Whether `path`, or what exists of it, is in a bpffs."""
    while not path.exists():
        path = path.parent
    return _mount(path)[1] == "bpf"


def on_cgroup2(path: Path) -> bool:
    """Whether `path` is a directory of the cgroup v2 hierarchy."""
    return path.is_dir() and _mount(path)[1] == "cgroup2"


def mount_of(path: Path) -> Path:
    """Where the filesystem of `path` is mounted."""
    return _mount(path)[0]


def _mount(path: Path) -> tuple[Path, str]:
    """The mount point and the type of the filesystem that holds `path`."""
    path = path.resolve()
    found = (Path("/"), "")  # the longest that fits, and of two at one place the later
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point, kind = line.split()[1:3]
        point = point.encode().decode("unicode_escape")  # a blank is \040 there
        if path.is_relative_to(point) and len(point) >= len(str(found[0])):
            found = (Path(point), kind)
    return found


def _holds(probe: Callable[[], bool]) -> bool:
    try:
        return probe()
    except (OSError, BpfError, NodeError):
        return False


def _capable() -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    effective = int(next(line for line in status if line.startswith("CapEff:")).split()[1], 16)
    return all(effective >> bit & 1 for bit in (_CAP_SYS_ADMIN, _CAP_NET_ADMIN))


def _library() -> bool:
    return bool(library())


def _program(kind: int) -> bool:
    return _holds(lambda: call("libbpf_probe_bpf_prog_type", kind, None) == 1)


def _map(kind: int) -> bool:
    return _holds(lambda: call("libbpf_probe_bpf_map_type", kind, None) == 1)


def _helper(program: int, function: int) -> bool:
    return _holds(lambda: call("libbpf_probe_bpf_helper", program, function, None) == 1)


def _ingress() -> bool:
    return any(member.name == "ingress_ifindex" for member in Btf.of_kernel().struct("bpf_sk_lookup_kern"))


def _listeners() -> bool:
    return listeners() is not None


def _cookie() -> bool:
    return cookie() > 0


def _told_cookie() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return bool(one.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))


_PROBED = (
    _Probed("libbpf.so.1", lambda: _holds(_library), "apt-get install libbpf1", "loading the programs"),
    _Probed(
        "CAP_SYS_ADMIN, CAP_NET_ADMIN", lambda: _holds(_capable), "run as root", "programs and namespaces"
    ),
    _Probed("kernel BTF", _BTF.exists, "Linux 5.4, CONFIG_DEBUG_INFO_BTF", "one object for all"),
    _Probed("sock_addr programs", lambda: _program(_SOCK_ADDR), "Linux 4.17", "redirecting what leaves"),
    _Probed(
        "sock_ops programs", lambda: _program(_SOCK_OPS), "Linux 4.13", "handing original destinations over"
    ),
    _Probed("cgroup_sockopt programs", lambda: _program(_SOCKOPT), "Linux 5.3", "SO_ORIGINAL_DST"),
    _Probed("sk_lookup programs", lambda: _program(_SK_LOOKUP), "Linux 5.9", "steering what arrives"),
    _Probed("sockhash maps", lambda: _map(_SOCKHASH), "Linux 4.18", "the tunnel's listeners"),
    _Probed("sk_storage maps", lambda: _map(_SK_STORAGE), "Linux 5.2", "destinations kept on sockets"),
    _Probed("storage in sock_ops", lambda: _helper(_SOCK_OPS, _STORAGE), "Linux 5.3", "handing them over"),
    _Probed("storage in cgroup_sockopt", lambda: _helper(_SOCKOPT, _STORAGE), "Linux 5.3", "SO_ORIGINAL_DST"),
    _Probed("netns cookies", lambda: _helper(_SOCK_ADDR, _NETNS_COOKIE), "Linux 5.7", "knowing pods"),
    _Probed(
        "setsockopt in connect", lambda: _helper(_SOCK_ADDR, _SETSOCKOPT), "Linux 5.8", "marking deliveries"
    ),
    _Probed("netns cookies of our own", lambda: _holds(_cookie), "Linux 5.7", "knowing pods"),
    _Probed(
        "SO_NETNS_COOKIE",
        lambda: _holds(_told_cookie),
        "Linux 5.14",
        "direct connections, and connect() that waits for the other end",
        required=False,
    ),
    _Probed(
        "device in sk_lookup",
        lambda: _holds(_ingress),
        "Linux 5.17",
        "telling deliveries apart by their device; by their addresses without",
        required=False,
    ),
    _Probed(
        "tcp_diag",
        lambda: _holds(_listeners),
        "CONFIG_INET_TCP_DIAG, modprobe tcp_diag",
        "seeing who listens on the tunnel's ports in a pod",
        required=False,
    ),
    _Probed(
        "MPTCP in programs",
        lambda: _helper(_SOCK_ADDR, _TO_MPTCP),
        "Linux 5.19, CONFIG_MPTCP",
        "the true peer of MPTCP sockets, which are captured without it too",
        required=False,
    ),
)
