"""The node's redirection as a whole, seen from outside of the agent, and what is wrong with it."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from msgspec import Struct

from agent.errors import describe
from agent.node import state
from agent.node.audit import Fault, Finding, Subject, audit
from agent.node.cgroups import cgroup_exists
from agent.node.errors import NodeError
from agent.node.features import on_bpffs, on_cgroup2
from agent.node.netns import NetnsFd
from agent.node.state import Cookie, PodState
from bpf.errors import BpfError
from bpf.layout import unpack_number
from bpf.pins import INBOUND, Pins
from bpf.programs import Object

_MAPS = ("pods", "addresses", "listeners", "tunnels", "kubelets", "verdicts")


class Wanted(Struct, frozen=True):
    """A pod that is to be captured. failing: why it is not enrolled, empty where it is."""

    name: str  # with its namespace
    netns: str
    addresses: tuple[str, ...]
    failing: str = ""


@dataclass(frozen=True)
class PodView:
    """A pod that is wanted, or that the kernel knows. wanted: None where no agent could be asked."""

    name: str  # with its namespace; "netns cookie N" of one that is not wanted
    wanted: bool | None
    addresses: tuple[str, ...]
    captured: bool  # both ways
    listening: bool  # the tunnel, on all of its ports
    routing: bool
    probe_ports: tuple[int, ...]
    problems: tuple[Finding, ...]


@dataclass
class NodeView:
    """What was found; `problems` has a line for each thing that is not as it should be."""

    programs: dict[str, bool] = field(default_factory=dict)  # attached to the cgroup?
    pods: dict[Cookie, PodView] = field(default_factory=dict)
    tunnels: int = 0  # cgroups that are trusted to be a tunnel's and still exist
    kubelets: int = 0  # likewise, to be the kubelet's
    verdicts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def look(cgroup: Path, bpffs: Path, wanted: Sequence[Wanted] | None = None) -> NodeView:
    """Read what is pinned in `bpffs` and attached at `cgroup`; what cannot be read is one of the problems.

    `wanted`: what the agent says of the node's pods, None where none could be asked.
    """
    view = NodeView()
    if not on_cgroup2(cgroup):
        view.problems.append(f"{cgroup} is no cgroup v2 directory: name the agent's --cgroup")
    elif not on_bpffs(bpffs):
        view.problems.append(f"{bpffs} is not in a bpffs: name the agent's --bpffs")
    else:
        try:
            _read(view, cgroup, Pins(bpffs), wanted)
        except (OSError, BpfError) as error:
            view.problems.append(describe(error))
    return view


def _read(view: NodeView, cgroup: Path, pins: Pins, wanted: Sequence[Wanted] | None) -> None:
    _read_programs(view, cgroup, pins)
    maps = {name: present for name in _MAPS if (present := pins.map(name))}
    if absent := [name for name in _MAPS if name not in maps]:
        view.problems.append(f"nothing is pinned in {pins.directory}: no map {absent[0]}; start the agent")
        return
    view.verdicts = state.verdicts(maps["verdicts"])
    tunnels, kubelets = (
        {number for key in maps[name] if cgroup_exists(cgroup, number := unpack_number(key))}
        for name in ("tunnels", "kubelets")
    )
    view.tunnels, view.kubelets = len(tunnels), len(kubelets)
    states = state.pods(pins, maps)
    with contextlib.ExitStack() as exits:
        named, subjects = _subjects(view, states, wanted, exits)
        found = audit(subjects, states, tunnels, cgroup)
    for cookie in subjects:
        view.pods[cookie] = pod = _pod(
            cookie, named.get(cookie), states.get(cookie), found.get(cookie, []), wanted is not None
        )
        view.problems += [f"pod {pod.name}: {finding.text}" for finding in pod.problems]


def _read_programs(view: NodeView, cgroup: Path, pins: Pins) -> None:
    here = cgroup.stat().st_ino
    program = Object()
    links = pins.links()
    for name in sorted(set(program.programs) - {INBOUND} | links.keys()):
        at = links[name].info().target.cgroup.cgroup_id if name in links else 0
        view.programs[name] = at == here
        if at != here:
            where = "another cgroup" if at else "no cgroup"
            view.problems.append(f"program {name} is attached to {where}, not to {cgroup}: restart the agent")
    if (build := pins.build()) and build != program.digest:
        view.problems.append("the programs are of another version than this one: restart the agent")


def _subjects(
    view: NodeView,
    states: Mapping[Cookie, PodState],
    wanted: Sequence[Wanted] | None,
    exits: contextlib.ExitStack,
) -> tuple[dict[Cookie, Wanted], dict[Cookie, Subject]]:
    """The pods to look at, by the cookies of their namespaces, which are open until `exits` are closed."""
    named: dict[Cookie, Wanted] = {}
    subjects: dict[Cookie, Subject] = {}
    for pod in wanted or ():
        if pod.failing:
            view.problems.append(f"pod {pod.failing}")
        try:
            netns = exits.enter_context(contextlib.closing(NetnsFd.open(Path(pod.netns))))
        except NodeError as error:
            view.problems.append(f"pod {pod.name}: {error}: delete the pod")
            continue
        named[cookie := Cookie(netns.cookie())] = pod
        subjects[cookie] = Subject(netns, [ip_address(text) for text in pod.addresses])
    places = _namespaces({one.netns for cookie, one in states.items() if cookie not in named})
    for cookie in states.keys() - named.keys():
        path = places.get(states[cookie].netns)
        opened = exits.enter_context(contextlib.closing(NetnsFd.open(path))) if path else None
        subjects[cookie] = Subject(opened)
        if wanted is not None and states[cookie].captured:
            view.problems.append(f"pod {_unnamed(cookie)} is captured, but not enrolled: restart the agent")
    return named, subjects


def _namespaces(inodes: set[int]) -> dict[int, Path]:
    """Where they can be opened: at a name, or at a process in them."""
    found: dict[int, Path] = {}
    if inodes:
        for path in (*Path("/run/netns").glob("*"), *Path("/proc").glob("[0-9]*/ns/net")):
            with contextlib.suppress(OSError):
                if (inode := path.stat().st_ino) in inodes:
                    found.setdefault(inode, path)
    return found


def _unnamed(cookie: Cookie) -> str:
    return f"with netns cookie {cookie}"


def _pod(
    cookie: Cookie, wanted: Wanted | None, known: PodState | None, found: Sequence[Finding], asked: bool
) -> PodView:
    faults = {finding.fault for finding in found}
    unknown = bool(faults & {Fault.UNKNOWN, Fault.NAMESPACE})
    return PodView(
        name=wanted.name if wanted else _unnamed(cookie),
        wanted=wanted is not None if asked else None,
        addresses=tuple(map(str, known.addresses)) if known else (),
        captured=not unknown and not faults & {Fault.OUT, Fault.IN, Fault.ADDRESSES, Fault.CGROUP},
        listening=not unknown and not faults & {Fault.LISTENER, Fault.FOREIGN},
        routing=not unknown and Fault.ROUTING not in faults,
        probe_ports=known.probe_ports if known else (),
        problems=tuple(found),
    )
