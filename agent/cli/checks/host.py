"""Checks of the machine: limits, clock, sysctls, ports, memory."""

import ctypes
import os
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from agent.cli.checks.check import Answer, Check, Seen

PORTS = range(15000, 15022)  # that the mesh listens on, in pods or on the node
_UNSYNC, _ERROR = 0x40, 5  # STA_UNSYNC, TIME_ERROR of adjtimex(2)
_MEMORY = 512 << 20  # bytes that agent and tunnel want to find
_DISK = 64 << 20


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is read."""

    _fields_ = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long), ("esterror", ctypes.c_long), ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    ]  # fmt: skip


def _clock(_: Seen) -> Answer:
    state = _Timex()
    code = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    if code < 0:
        return None
    return not (code == _ERROR or state.status & _UNSYNC) or "the clock is not synchronised"


def _sysctl(path: str, good: Callable[[str], bool]) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        value = seen.read(f"sys/{path}")
        return good(value) or f"{path.replace('/', '.')} is {' '.join(value.split())}"

    return probe


def _at_least(number: int) -> Callable[[str], bool]:
    return lambda value: int(value) >= number


def _local_ports(seen: Seen) -> Answer:
    low, high = map(int, seen.read("sys/net/ipv4/ip_local_port_range").split())
    overlap = low <= PORTS[-1] and high >= PORTS[0]
    reserved = seen.read("sys/net/ipv4/ip_local_reserved_ports")
    return not overlap or bool(reserved) or f"connections may be made from {low} to {high}"


def _memory(seen: Seen) -> Answer:
    lines = dict(line.split(":") for line in seen.read("meminfo").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    return free >= _MEMORY or f"{free >> 20} MB are available"


def _limit(name: str, text: str) -> Callable[[Seen], Answer]:
    """Of our own cgroup, where the agent and the tunnel of its pod are, too."""

    def probe(seen: Seen) -> Answer:
        own = seen.read("self/cgroup").rpartition("0::")[2].lstrip("/")
        for line in (seen.cgroup / own / name).read_text().splitlines():
            key, _, count = line.partition(" ")
            if key in ("oom_kill", "nr_throttled") and int(count) > 0:
                return f"{text} {count} times"
        return True

    return probe


def _files(_: Seen) -> Answer:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard == resource.RLIM_INFINITY or hard >= 65536 or f"a process may have {hard} files open"


def _disk(_: Seen) -> Answer:
    free = shutil.disk_usage("/run").free
    return free >= _DISK or f"{free >> 20} MB are free in /run"


def _ipv6(seen: Seen) -> Answer:
    return (seen.proc / "net/if_inet6").exists() or "IPv6 is off: a mesh of IPv4 alone"


def _mtu(_: Seen) -> Answer:
    small = {
        path.parent.name: value
        for path in Path("/sys/class/net").glob("*/mtu")
        if path.parent.name != "lo" and (value := int(path.read_text())) < 1280
    }
    return not small or f"{', '.join(f'{name} has {mtu}' for name, mtu in small.items())}"


def _resolver(_: Seen) -> Answer:
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    return any(line.startswith("nameserver") for line in lines) or "/etc/resolv.conf names no server"


def _pressure(kind: str) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        some = seen.read(f"pressure/{kind}").split()[2]  # avg60
        share = float(some.partition("=")[2])
        return share < 50 or f"{kind} was short for {share:.0f} % of the last minute"

    return probe


def _host_name(_: Seen) -> Answer:
    return socket.gethostname() not in ("", "localhost") or "the machine's name is localhost"


def _pid_limit(seen: Seen) -> Answer:
    return int(seen.read("sys/kernel/pid_max")) >= 32768 or "few processes may run"


def _root(_: Seen) -> Answer:
    return os.geteuid() == 0 or "not root: programs and namespaces cannot be looked at"


CHECKS = (
    Check("host.root", "we are root", "run it as root", _root, "note", before=True),
    Check(
        "host.clock",
        "the clock is synchronised: certificates last 24 h",
        "run chrony or systemd-timesyncd",
        _clock,
        "note",
        before=True,
    ),
    Check(
        "host.memory",
        "there are 512 MB for agent and tunnel",
        "give the node more memory",
        _memory,
        "note",
        before=True,
    ),
    Check(
        "host.run",
        "there is room in /run",
        "make room: sockets and sandboxes are kept there",
        _disk,
        before=True,
    ),
    Check(
        "host.files",
        "processes may have 65,536 files open",
        "raise LimitNOFILE of the runtime",
        _files,
        "note",
        before=True,
    ),
    Check(
        "host.nr-open",
        "the kernel lets them",
        "sysctl fs.nr_open=1048576",
        _sysctl("fs/nr_open", _at_least(65536)),
        "note",
        before=True,
    ),
    Check(
        "host.file-max",
        "the system has files enough",
        "sysctl fs.file-max=1000000",
        _sysctl("fs/file-max", _at_least(262144)),
        "note",
        before=True,
    ),
    Check(
        "host.inotify",
        "folders can be watched",
        "sysctl fs.inotify.max_user_instances=512",
        _sysctl("fs/inotify/max_user_instances", _at_least(128)),
        "note",
        before=True,
    ),
    Check(
        "host.processes",
        "there are process numbers enough",
        "sysctl kernel.pid_max=4194304",
        _pid_limit,
        "note",
        before=True,
    ),
    Check(
        "host.namespaces",
        "network namespaces can be made",
        "sysctl user.max_net_namespaces=65536",
        _sysctl("user/max_net_namespaces", _at_least(256)),
        "note",
        before=True,
    ),
    Check(
        "host.backlog",
        "the queue of a listener is long enough for bursts",
        "sysctl net.core.somaxconn=4096",
        _sysctl("net/core/somaxconn", _at_least(1024)),
        "note",
        before=True,
    ),
    Check(
        "host.syn-backlog",
        "so is that of handshakes",
        "sysctl net.ipv4.tcp_max_syn_backlog=4096",
        _sysctl("net/ipv4/tcp_max_syn_backlog", _at_least(512)),
        "note",
        before=True,
    ),
    Check(
        "host.optmem",
        "sockets may carry what programs keep on them",
        "sysctl net.core.optmem_max=20480",
        _sysctl("net/core/optmem_max", _at_least(8192)),
        before=True,
    ),
    Check(
        "host.rp-filter",
        "strict reverse path filtering is off here: deliveries come by routes of their own",
        "sysctl net.ipv4.conf.all.rp_filter=2",
        _sysctl("net/ipv4/conf/all/rp_filter", lambda value: value != "1"),
        "note",
        before=True,
    ),
    Check(
        "host.local-ports",
        "no connection takes one of the mesh's ports (15000 to 15021)",
        "sysctl net.ipv4.ip_local_reserved_ports=15000-15021",
        _local_ports,
        "note",
        before=True,
    ),
    Check(
        "host.timestamps",
        "TCP has timestamps: round trips are measured by them",
        "sysctl net.ipv4.tcp_timestamps=1",
        _sysctl("net/ipv4/tcp_timestamps", lambda value: value != "0"),
        "note",
        before=True,
    ),
    Check(
        "host.mtu",
        "links carry IPv6's 1280 bytes",
        "raise the MTU of the network's plugin",
        _mtu,
        "note",
        before=True,
    ),
    Check("host.ipv6", "IPv6 is there", "nothing, if the cluster has none", _ipv6, "note", before=True),
    Check("host.resolver", "there is a name server", "see /etc/resolv.conf", _resolver, "note", before=True),
    Check(
        "host.name",
        "the machine has a name of its own",
        "hostnamectl set-hostname NAME",
        _host_name,
        "note",
        before=True,
    ),
    Check(
        "host.cpu-pressure",
        "processes do not wait for a CPU for half of the time",
        "the node is overloaded",
        _pressure("cpu"),
        "note",
    ),
    Check(
        "host.memory-pressure", "nor for memory", "the node is short of memory", _pressure("memory"), "note"
    ),
    Check(
        "limits.memory",
        "nothing in this container was killed for its memory",
        "raise its memory limit",
        _limit("memory.events", "killed for want of memory"),
        "note",
    ),
    Check(
        "limits.cpu",
        "this container was not throttled",
        "raise or drop its CPU limit",
        _limit("cpu.stat", "throttled"),
        "note",
    ),
)
