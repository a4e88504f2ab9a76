"""What the running kernel and this process can do, found by trying: never by the kernel's version."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


def features() -> list[Feature]:
    """All of them. Needs the privileges that the list begins with; without, the rest is given as absent."""
    return [
        Feature("libbpf.so.1", _holds(_library), "apt-get install libbpf1", "loading the programs"),
        Feature("CAP_SYS_ADMIN, CAP_NET_ADMIN", _holds(_capable), "run as root", "programs and namespaces"),
        Feature("kernel BTF", _BTF.exists(), "Linux 5.4, CONFIG_DEBUG_INFO_BTF", "one object for all"),
        Feature("sock_addr programs", _program(_SOCK_ADDR), "Linux 4.17", "redirecting what leaves"),
        Feature("sock_ops programs", _program(_SOCK_OPS), "Linux 4.13", "handing original destinations over"),
        Feature("cgroup_sockopt programs", _program(_SOCKOPT), "Linux 5.3", "SO_ORIGINAL_DST"),
        Feature("sk_lookup programs", _program(_SK_LOOKUP), "Linux 5.9", "steering what arrives"),
        Feature("sockhash maps", _map(_SOCKHASH), "Linux 4.18", "the tunnel's listeners"),
        Feature("sk_storage maps", _map(_SK_STORAGE), "Linux 5.2", "destinations kept on sockets"),
        Feature("storage in sock_ops", _helper(_SOCK_OPS, _STORAGE), "Linux 5.3", "handing them over"),
        Feature("storage in cgroup_sockopt", _helper(_SOCKOPT, _STORAGE), "Linux 5.3", "SO_ORIGINAL_DST"),
        Feature("netns cookies", _helper(_SOCK_ADDR, _NETNS_COOKIE), "Linux 5.7", "knowing pods"),
        Feature("setsockopt in connect", _helper(_SOCK_ADDR, _SETSOCKOPT), "Linux 5.8", "marking deliveries"),
        Feature("netns cookies of our own", _holds(_cookie), "Linux 5.7", "knowing pods"),
        Feature("SO_NETNS_COOKIE", _holds(_told_cookie), "Linux 5.14",
                "direct connections, and connect() that waits for the other end", required=False),
        Feature("device in sk_lookup", _holds(_ingress), "Linux 5.17",
                "telling deliveries apart by their device; by their addresses without", required=False),
        Feature("tcp_diag", _holds(_listeners), "CONFIG_INET_TCP_DIAG, modprobe tcp_diag",
                "seeing who listens on the tunnel's ports in a pod", required=False),
        Feature("MPTCP in programs", _helper(_SOCK_ADDR, _TO_MPTCP), "Linux 5.19, CONFIG_MPTCP",
                "the true peer of MPTCP sockets, which are captured without it too", required=False),
    ]  # fmt: skip


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
