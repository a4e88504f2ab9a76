"""The node's redirection as a whole, seen from outside of the agent, and what is wrong with it."""

from dataclasses import dataclass, field
from pathlib import Path

from agent.node import state
from agent.node.cgroups import cgroup_exists
from agent.node.features import on_bpffs, on_cgroup2
from agent.node.state import Cookie, PodState
from bpf.errors import BpfError
from bpf.layout import unpack_number
from bpf.pins import INBOUND, Pins
from bpf.programs import Object

_MAPS = ("pods", "addresses", "listeners", "tunnels", "verdicts")


@dataclass
class NodeView:
    """What was found; `problems` has a line for each thing that is not as it should be."""

    programs: dict[str, bool] = field(default_factory=dict)  # attached to the cgroup?
    pods: dict[Cookie, PodState] = field(default_factory=dict)
    tunnels: int = 0  # cgroups that are trusted to be a tunnel's and still exist
    verdicts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def look(cgroup: Path, bpffs: Path) -> NodeView:
    """Read what is pinned in `bpffs` and attached at `cgroup`; what cannot be read is one of the problems."""
    view = NodeView()
    if not on_cgroup2(cgroup):
        view.problems.append(f"{cgroup} is no cgroup v2 directory: name the agent's --cgroup")
    elif not on_bpffs(bpffs):
        view.problems.append(f"{bpffs} is not in a bpffs: name the agent's --bpffs")
    else:
        try:
            _read(view, cgroup, Pins(bpffs))
        except (OSError, BpfError) as error:
            view.problems.append(str(error))
    return view


def _read(view: NodeView, cgroup: Path, pins: Pins) -> None:
    _read_programs(view, cgroup, pins)
    maps = {name: present for name in _MAPS if (present := pins.map(name))}
    if absent := [name for name in _MAPS if name not in maps]:
        view.problems.append(f"nothing is pinned in {pins.directory}: no map {absent[0]}; start the agent")
        return
    view.pods = state.pods(pins, maps)
    view.verdicts = state.verdicts(maps["verdicts"])
    view.tunnels = sum(cgroup_exists(cgroup, unpack_number(key)) for key in maps["tunnels"])
    view.problems += [problem for cookie, pod in view.pods.items() if (problem := _wrong(cookie, pod))]


def _read_programs(view: NodeView, cgroup: Path, pins: Pins) -> None:
    here = cgroup.stat().st_ino
    links = pins.links()
    for name in sorted(set(Object().programs) - {INBOUND} | links.keys()):
        at = links[name].info().target.cgroup.cgroup_id if name in links else 0
        view.programs[name] = at == here
        if at != here:
            where = "another cgroup" if at else "no cgroup"
            view.problems.append(f"program {name} is attached to {where}, not to {cgroup}: restart the agent")


def _wrong(cookie: Cookie, pod: PodState) -> str:
    """What is wrong with a pod; empty if nothing is."""
    if not pod.captured:
        missing = " and ".join(
            way for way, there in (("what leaves", pod.redirected), ("what arrives", pod.netns)) if not there
        )
        return f"pod {cookie} is prepared, but {missing} is not captured"
    if not pod.listening:
        return f"pod {cookie} has no tunnel that listens in it: its connections are refused"
    return ""
