"""`warren config`: the configuration at every station, from the source to the kernel; where they differ."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from agent.cli.command import Command
from agent.cli.node import Node, of_node
from agent.cli.output import Cell, Form, bad, console, data, good, notes, output, table
from agent.cli.units import span
from protocols.admin import Dump, Versions
from protocols.agent import Configuration, Kernel

_MOST = 50  # differences that are shown


class Difference(Struct, frozen=True):
    """Something that two stations have otherwise. A version is empty where there is none."""

    what: str
    name: str
    agent: str
    tunnel: str
    state: str


class Stations(Struct, frozen=True):
    """What each has; None: it could not be asked."""

    agent: Configuration | None
    tunnel: Versions | None
    kernel: Kernel | None


@click.group()
def config() -> None:
    """Show the configuration in force at every station, and where stations differ."""


@config.command(cls=Command)
@of_node
@output
def dump(run_dir: Path, tunnel: str, form: Form) -> int:
    """Print all that agent, tunnel and kernel hold: for people in numbers, for programs whole.

    Exit code 2 if one of them could not be asked.

    \b
    Example: warren config dump -o json
    """
    node = Node(tunnel, run_dir)
    stations = _stations(node)
    if form != "text":
        data({**msgspec.to_builtins(stations), "dump": node.dump()}, form)
    else:
        table(("STATION", "HOLDS", "VERSION", "CHANGED"), _summary(stations, node.dump()), "nothing")
    notes(node.notes)
    return node.code


@config.command(cls=Command)
@of_node
@output
def diff(run_dir: Path, tunnel: str, form: Form) -> int:
    """Compare source, agent, tunnel and kernel, name by name and version by version.

    Exit code 0 if all have the same, 1 if not, 2 if one of them could not be asked.

    \b
    Example: warren config diff
    """
    node = Node(tunnel, run_dir)
    found = [*_differences(_stations(node))]
    if form != "text":
        data(found, form)
    elif found:
        table(("WHAT", "NAME", "AGENT", "TUNNEL", "STATE"), map(_cells, found[:_MOST]), "")
        if left := len(found) - _MOST:
            console().print(f"and {left} more: -o json lists all") if left > 0 else None
    elif not node.notes:
        console().print(good("source, agent, tunnel and kernel have the same"))
    notes(node.notes)
    return node.code or (1 if found else 0)


def _stations(node: Node) -> Stations:
    return Stations(node.configuration(), node.versions(), node.kernel())


def _summary(stations: Stations, dump: Dump | None) -> Iterator[tuple[Cell, ...]]:
    agent, tunnel, kernel = stations.agent, stations.tunnel, stations.kernel
    if agent:
        objects = ", ".join(f"{count} {kind}" for kind, count in sorted(agent.objects.items()))
        heard = f"heard {span(agent.stale)} ago" if agent.stale else "heard now"
        yield f"source ({agent.source})", objects, "", heard
        resources = ", ".join(f"{len(held)} {_short(url)}" for url, held in sorted(agent.resources.items()))
        yield "agent", resources, agent.version, f"{span(agent.age)} ago"
        for one in agent.subscribers:
            state = good("current") if one.current else bad("behind")
            yield f"  to {_node_of(one.client)}", _short(one.type), one.version or "", state
    if tunnel:
        for url, held in sorted(tunnel.versions.items()):
            changed = f"{span(tunnel.ages[url])} ago" if url in tunnel.ages else "never"
            yield "tunnel", f"{len(held)} {_short(url)}", "", changed
    if dump:
        yield "tunnel", f"{len(dump.pods)} pods, {len(dump.certificates)} certificates", "", ""
    if kernel:
        captured = sum(bool(pod["captured"]) for pod in kernel.pods.values())
        attached = f"{sum(kernel.programs.values())} of {len(kernel.programs)} programs"
        yield "kernel", f"{attached}, {captured} pods captured", "", ""


def _differences(stations: Stations) -> Iterator[Difference]:
    agent, tunnel = stations.agent, stations.tunnel
    if agent and tunnel:
        served, held = agent.resources, tunnel.versions
        for url in sorted(served.keys() | held.keys()):
            yield from _of_type(url, served.get(url, {}), held.get(url, {}), tunnel.on_demand)
    for line in agent.refused if agent else ():
        yield Difference("object", line.partition(": ")[0], "refused", "", line.partition(": ")[2])
    for problem in stations.kernel.problems if stations.kernel else ():
        yield Difference("kernel", "", "", "", problem)


def _of_type(url: str, served: dict[str, str], held: dict[str, str], on_demand: bool) -> Iterator[Difference]:
    for name in sorted(served.keys() | held.keys()):
        here, there = served.get(name, ""), held.get(name, "")
        if here == there or (on_demand and not there):
            continue
        state = "not at the tunnel" if not there else "gone at the agent" if not here else "another version"
        yield Difference(_short(url), name, here, there, state)


def _node_of(client: str) -> str:
    """Of an xDS node id: TYPE~ADDRESS~NAME.NAMESPACE~DOMAIN."""
    parts = client.split("~")
    return parts[2].partition(".")[0] if len(parts) == 4 else client


def _short(url: str) -> str:
    return url.rpartition(".")[2]


def _cells(one: Difference) -> tuple[Cell, ...]:
    return one.what, one.name, one.agent, one.tunnel, bad(one.state)
