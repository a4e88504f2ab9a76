"""Whether a pod is captured in truth: what the kernel holds against what has to be.

No annotation and no memory of the agent's counts. No connection is made to find out: it would be one more in
the tunnel's log, and prove less than the socket that would take it, which is looked at here.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

from agent.node import routing
from agent.node.cgroups import cgroup_of
from agent.node.errors import DatapathError
from agent.node.listeners import Listener, listeners
from agent.node.netns import NetnsFd, visit
from agent.node.state import Address, Cookie, PodState

K = TypeVar("K")
OUTBOUND, INBOUND, HBONE = 15001, 15006, 15008


class Fault(StrEnum):
    """Why a pod is not captured as it should be; labels of a metric."""

    UNKNOWN = "unknown"
    OUT = "not_redirected"
    IN = "not_steered"
    ADDRESSES = "addresses"
    ROUTING = "routing"
    LISTENER = "no_listener"
    FOREIGN = "foreign_listener"
    CGROUP = "outside_cgroup"
    NAMESPACE = "no_namespace"


# What the agent puts right by enrolling the pod once more.
MENDED = frozenset({Fault.UNKNOWN, Fault.OUT, Fault.IN, Fault.ADDRESSES, Fault.ROUTING})
_MENDED = "the agent captures it again within seconds; if it does not, its log says why"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a pod, in words that name the remedy."""

    fault: Fault
    text: str


@dataclass(frozen=True)
class Inside:
    """What was found in a pod's network namespace; `inode` is the namespace's."""

    inode: int
    routed: bool
    listeners: tuple[Listener, ...] | None  # None where the kernel does not tell: without tcp_diag


class Subject(NamedTuple):
    """A pod that is to be captured. netns: None where nobody knows it; addresses likewise."""

    netns: NetnsFd | None
    addresses: Sequence[Address] | None = None


def audit(
    subjects: Mapping[Cookie, Subject],
    states: Mapping[Cookie, PodState],
    tunnels: Collection[int],
    cgroup: Path,
) -> dict[Cookie, list[Finding]]:
    """What is wrong with each, by the states that the kernel holds; nothing for those that are well."""
    insides = look_inside({cookie: one.netns for cookie, one in subjects.items() if one.netns})
    inodes = {one.inode for one in insides.values() if isinstance(one, Inside)}
    outside = outsiders(cgroup, inodes)
    found = {}
    for cookie, subject in subjects.items():
        inside = insides.get(cookie)
        findings = judge(states.get(cookie), inside, tunnels, subject.addresses)
        if isinstance(inside, Inside) and inside.inode in outside:
            findings.append(outside[inside.inode])
        if findings:
            found[cookie] = findings
    return found


def look_inside(namespaces: Mapping[K, NetnsFd]) -> dict[K, Inside | OSError]:
    """About 0.3 ms each."""
    found = visit(namespaces.values(), lambda: (routing.present(), _listeners()))
    return {
        key: one if isinstance(one, OSError) else Inside(os.fstat(netns.fileno()).st_ino, *one)
        for (key, netns), one in zip(namespaces.items(), found, strict=True)
    }


def _listeners() -> tuple[Listener, ...] | None:
    try:
        return tuple(listeners())
    except FileNotFoundError:
        return None


def judge(
    state: PodState | None,
    inside: Inside | OSError | None,
    tunnels: Collection[int],
    addresses: Iterable[Address] | None = None,
) -> list[Finding]:
    """What is wrong with a pod that is to be captured.

    inside: None where nobody knows its namespace; tunnels: ids of the cgroups that are taken for a tunnel's;
    addresses: those that it should have, None where that is not known.
    """
    if isinstance(inside, OSError):
        text = f"its network namespace cannot be entered: {inside.strerror}: delete the pod"
        return [Finding(Fault.NAMESPACE, text)]
    if state is None:
        return [Finding(Fault.UNKNOWN, f"the kernel does not know it: {_MENDED}")]
    found = [*_capture(state, inside, addresses)]
    if inside:
        return [*found, *_inside(state, inside, tunnels)]
    return found or [Finding(Fault.NAMESPACE, "nobody knows where its network namespace is: delete the pod")]


def _capture(
    state: PodState, inside: Inside | None, addresses: Iterable[Address] | None
) -> Iterable[Finding]:
    if not state.redirected:
        yield Finding(Fault.OUT, f"what leaves it is not captured: {_MENDED}")
    if state.netns == 0 or (inside and state.netns != inside.inode):
        yield Finding(Fault.IN, f"what arrives for it is not captured: {_MENDED}")
    if addresses is not None and set(addresses) != set(state.addresses):
        known = " ".join(map(str, state.addresses)) or "none"
        yield Finding(Fault.ADDRESSES, f"the kernel has {known} for its addresses: {_MENDED}")


def _inside(state: PodState, inside: Inside, tunnels: Collection[int]) -> Iterable[Finding]:
    if not inside.routed:
        yield Finding(Fault.ROUTING, f"its rules or routes have been changed: {_MENDED}")
    if inside.listeners is None:
        if not state.listening:
            yield Finding(
                Fault.LISTENER, "no tunnel listens in it, its connections are refused: start the tunnel"
            )
        return
    ours = [one for one in inside.listeners if one.cgroup in tunnels]
    others = {one.port for one in inside.listeners if one.cgroup not in tunnels}
    if foreign := others & {OUTBOUND, INBOUND, HBONE}:
        text = f"a process that is not the tunnel listens on port {_list(foreign)} in it: restart the pod"
        yield Finding(Fault.FOREIGN, text)
    if absent := {OUTBOUND, INBOUND, HBONE} - {one.port for one in ours}:
        text = (
            f"no tunnel listens on port {_list(absent)} in it, its connections are refused: start the tunnel"
        )
        yield Finding(Fault.LISTENER, text)
    elif state.listener not in {one.cookie for one in ours if one.port == INBOUND}:
        text = "what arrives is steered to no listener of the tunnel's and is refused: restart the tunnel"
        yield Finding(Fault.LISTENER, text)


def outsiders(cgroup: Path, inodes: Collection[int]) -> dict[int, Finding]:
    """Processes in these network namespaces that no program sees, one each: they are not below `cgroup`.

    Empty at once where that is the root of all.
    """
    found: dict[int, Finding] = {}
    if not (cgroup / "cgroup.events").exists():  # which every cgroup has but the root
        return found
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it has ended
            if (inode := (entry / "ns/net").stat().st_ino) in inodes:
                try:
                    cgroup_of(int(entry.name), cgroup)
                except DatapathError as error:
                    if entry.exists():
                        found[inode] = Finding(Fault.CGROUP, f"{error}: name the agent's --cgroup")
    return found


def _list(ports: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ports)))
