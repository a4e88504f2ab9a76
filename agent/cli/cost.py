"""`warren cost`: what the mesh takes of this node's CPUs, and for which pods."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
from msgspec import Struct

from agent.cli.command import Command, option
from agent.cli.node import Node, of_node
from agent.cli.output import Form, data, notes, output, table
from agent.cli.rates import Busy, Sample, busy, sample, workload
from agent.cli.units import size
from bpf import stats
from bpf.errors import BpfError
from protocols.agent import Cost

# What a connection and a request take of a tunnel's CPU, in bytes that take as much.
_CONNECTION, _REQUEST = 100_000, 50_000


class Part(Struct, frozen=True):
    """Of the mesh. cpu: CPUs in use; runs: a second, seconds: of each run; of programs in the kernel only."""

    name: str
    cpu: float
    runs: float | None = None
    seconds: float | None = None


class OfPod(Struct, frozen=True):
    """A pod's share. cpu: CPUs of the tunnel, None where nobody knows; bytes a second, both ways."""

    name: str
    cpu: float | None
    connections: float
    requests: float
    sent: float
    received: float


class Costs(Struct, frozen=True):
    """Of so many seconds."""

    seconds: float
    parts: list[Part]
    pods: list[OfPod]


@click.command(cls=Command)
@option("--for", "seconds", type=click.FloatRange(0.1, 3600), default=5.0, envvar=None, help="how long")
@of_node
@output
def cost(seconds: float, run_dir: Path, tunnel: str, form: Form) -> int:
    """Show what tunnel, agent and programs in the kernel take of this node's CPUs, and for which pods.

    CPU is in percent of one CPU. That of a pod is its share of the tunnel's by its connections, requests
    and bytes: an estimate, without direct connections, which the tunnel does not carry. Programs in the
    kernel are timed as long as the command runs, which needs root.

    \b
    Example: warren cost --for 10
    """
    node = Node(tunnel, run_dir)
    found = _costs(node, tunnel, seconds)
    if form != "text":
        data(found, form)
    else:
        table(("PART", "CPU", "RUNS/S", "EACH"), map(_part, found.parts), "CPU times are not known")
        click.echo()
        columns = ("POD", "CPU", "CONN/S", "REQ/S", "OUT/S", "IN/S")
        table(columns, map(_pod, found.pods), "nothing is known to go through the tunnel")
    notes(node.notes)
    return node.code


def _costs(node: Node, tunnel: str, seconds: float) -> Costs:
    with ExitStack() as exits:
        try:
            exits.enter_context(stats.counting())
        except (OSError, BpfError) as error:
            node.notes.append(f"programs in the kernel are not timed: {error}; that needs root and Linux 5.8")
        spent, seen = node.cost(), node.known(lambda: sample(tunnel, 0))
        began = time.monotonic()
        time.sleep(seconds)
        spent_then, took = node.cost(), time.monotonic() - began
    parts = [*_parts(spent, spent_then, took)] if spent and spent_then else []
    rows: list[Busy] = []
    if seen and (after := node.known(lambda: sample(tunnel, seen.last))):
        rows = _through_tunnel(seen, after)
    used = next((part.cpu for part in parts if part.name == "tunnel"), None)
    return Costs(took, parts, _shares(rows, used))


def _parts(before: Cost, after: Cost, seconds: float) -> Iterator[Part]:
    tunnels = sum(now - before.tunnels.get(one, 0.0) for one, now in after.tunnels.items())
    yield Part("tunnel", max(0.0, tunnels) / seconds)
    yield Part("agent", (after.agent - before.agent) / seconds)
    programs = []
    for name, now in after.programs.items():
        then = before.programs.get(name)
        times, took = now.times - (then.times if then else 0), now.seconds - (then.seconds if then else 0.0)
        if times > 0:
            programs.append(Part(f"kernel: {name}", took / seconds, times / seconds, took / times))
    yield from sorted(programs, key=lambda part: -part.cpu)


def _through_tunnel(before: Sample, after: Sample) -> list[Busy]:
    return busy(before, after, workload, lambda one: one.how != "direct")


def _shares(rows: list[Busy], used: float | None) -> list[OfPod]:
    """The costliest first."""
    weights = [_weight(row) for row in rows]
    whole = sum(weights) or 1.0
    return [
        OfPod(
            name=row.name,
            cpu=None if used is None else used * weight / whole,
            connections=row.connections,
            requests=row.requests,
            sent=row.sent,
            received=row.received,
        )
        for weight, row in sorted(zip(weights, rows, strict=True), key=lambda pair: -pair[0])
    ]


def _weight(row: Busy) -> float:
    return row.sent + row.received + _CONNECTION * row.connections + _REQUEST * row.requests


def _part(part: Part) -> tuple[str, ...]:
    if part.runs is None or part.seconds is None:
        return part.name, f"{part.cpu:.3%}", "", ""
    return part.name, f"{part.cpu:.3%}", f"{part.runs:.0f}", f"{part.seconds * 1e9:.0f}ns"


def _pod(one: OfPod) -> tuple[str, ...]:
    share = "?" if one.cpu is None else f"{one.cpu:.3%}"
    rates = (f"{one.connections:.1f}", f"{one.requests:.1f}", size(one.sent), size(one.received))
    return one.name, share, *rates
