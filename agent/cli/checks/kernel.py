"""Checks of what the kernel can do, and of what is loaded into it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.cli.checks.check import Answer, Check, Seen
from agent.node import features
from agent.node.features import on_bpffs, on_cgroup2
from agent.node.view import PodView

# Names of features, as a check has them.
_FEATURES = {
    "libbpf.so.1": "libbpf",
    "CAP_SYS_ADMIN, CAP_NET_ADMIN": "capabilities",
    "kernel BTF": "btf",
    "sock_addr programs": "sock-addr",
    "sock_ops programs": "sock-ops",
    "cgroup_sockopt programs": "sockopt",
    "sk_lookup programs": "sk-lookup",
    "sockhash maps": "sockhash",
    "sk_storage maps": "sk-storage",
    "storage in sock_ops": "storage-sock-ops",
    "storage in cgroup_sockopt": "storage-sockopt",
    "netns cookies": "netns-cookies",
    "setsockopt in connect": "setsockopt",
    "netns cookies of our own": "own-cookie",
    "SO_NETNS_COOKIE": "so-netns-cookie",
    "device in sk_lookup": "device",
    "tcp_diag": "tcp-diag",
    "MPTCP in programs": "mptcp",
}
_OLDEST = (5, 10)


def _feature(name: str) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        feature = next((one for one in seen.features if one.name == name), None)
        if feature is None:
            return None
        return feature.present or f"{name} is missing, needed for {feature.needed_for}"

    return probe


def _of_features() -> Iterator[Check]:
    for feature in features.listed():
        yield Check(
            f"kernel.{_FEATURES[feature.name]}",
            f"{feature.name}: {feature.needed_for}",
            feature.since,
            _feature(feature.name),
            "wrong" if feature.required else "note",
            before=True,
        )


def _release(_: Seen) -> Answer:
    release = os.uname().release
    major, minor = (int(part) for part in release.split("-")[0].split(".")[:2])
    return (major, minor) >= _OLDEST or f"Linux {release}"


def _lockdown(_: Seen) -> Answer:
    text = Path("/sys/kernel/security/lockdown").read_text()
    return "[confidentiality]" not in text or "the kernel is locked down (confidentiality)"


def _jit(seen: Seen) -> Answer:
    return seen.read("sys/net/core/bpf_jit_enable") != "0" or "programs are interpreted"


def _in_use(seen: Seen) -> bool:
    """Programs are loaded, so that what they need is there, wherever the agent has it."""
    return seen.view is not None and bool(seen.view.programs)


def _cgroup2(seen: Seen) -> Answer:
    return _in_use(seen) or on_cgroup2(seen.cgroup) or f"{seen.cgroup} is no cgroup v2 directory"


def _bpffs(seen: Seen) -> Answer:
    return _in_use(seen) or on_bpffs(seen.bpffs) or f"{seen.bpffs} is not in a bpffs"


def _attached(seen: Seen) -> Answer:
    if seen.view is None or not seen.view.programs:
        return None
    away = [name for name, attached in seen.view.programs.items() if not attached]
    return not away or f"not attached: {', '.join(away)}"


def _pods(fault: Callable[[PodView], bool], text: str) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        if seen.view is None:
            return None
        names = [pod.name for pod in seen.view.pods.values() if pod.wanted is not False and fault(pod)]
        return not names or f"{text}: {', '.join(names[:3])}"

    return probe


def _pinned(seen: Seen) -> Answer:
    if seen.view is None:
        return None
    lost = [text for text in seen.view.problems if "pinned" in text or "another version" in text]
    return not lost or lost[0]


def _trusted(what: str) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        if seen.view is None or not seen.view.programs:
            return None
        return getattr(seen.view, what) > 0 or f"no cgroup is known for {what[:-1]}s"

    return probe


def _verdict(name: str, text: str) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        if seen.view is None or not seen.view.verdicts:
            return None
        count = sum(number for verdict, number in seen.view.verdicts.items() if name in verdict)
        return count == 0 or f"{text}, {count} times"

    return probe


CHECKS = (
    Check("kernel.release", "Linux 5.10 or newer", "use a newer kernel", _release, before=True),
    *_of_features(),
    Check(
        "kernel.lockdown",
        "the kernel lets root load programs",
        "boot with lockdown=integrity or none",
        _lockdown,
        before=True,
    ),
    Check(
        "kernel.jit", "programs are compiled", "sysctl net.core.bpf_jit_enable=1", _jit, "note", before=True
    ),
    Check(
        "kernel.cgroup2",
        "the cgroup v2 hierarchy is mounted",
        "boot with systemd.unified_cgroup_hierarchy=1, or name the agent's --cgroup",
        _cgroup2,
        before=True,
    ),
    Check(
        "kernel.bpffs",
        "a bpffs is mounted, so that programs outlive the agent",
        "mount -t bpf bpf /sys/fs/bpf, or name the agent's --bpffs",
        _bpffs,
        before=True,
    ),
    Check(
        "capture.programs",
        "all programs are attached to the cgroup",
        "restart the agent",
        _attached,
        told=True,
    ),
    Check(
        "capture.pins", "maps and links are pinned, by this version", "start the agent", _pinned, told=True
    ),
    Check(
        "capture.pods",
        "each pod of the mesh is captured both ways",
        "the agent captures it within seconds; its log says why not",
        _pods(lambda pod: not pod.captured, "not captured"),
        told=True,
    ),
    Check(
        "capture.listeners",
        "the tunnel listens in each of them",
        "start the tunnel",
        _pods(lambda pod: not pod.listening, "no tunnel listens in"),
        told=True,
    ),
    Check(
        "capture.routes",
        "the rules and routes for deliveries are there",
        "the agent puts them back; see its log",
        _pods(lambda pod: not pod.routing, "rules or routes have been changed in"),
        told=True,
    ),
    Check(
        "capture.tunnel",
        "the kernel knows the tunnel by its cgroup",
        "restart the tunnel",
        _trusted("tunnels"),
        "note",
    ),
    Check(
        "capture.no-tunnel",
        "no connection was refused for want of a tunnel",
        "see when the tunnel was away: its log",
        _verdict("no_tunnel", "connections were refused: no tunnel listened"),
        "note",
    ),
    Check(
        "capture.full",
        "no map of the kernel is full",
        "see warren check -v and docs/failure-modes.md",
        _verdict("full", "a map was full"),
        "note",
    ),
)
