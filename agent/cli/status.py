"""`warren status`: this node in one screen, and what it knows of the mesh."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from agent.cli.command import Command
from agent.cli.generations import draining
from agent.cli.node import Node, of_node
from agent.cli.output import Cell, Form, bad, data, good, notes, output, table
from agent.cli.units import span
from protocols.admin import Dump
from protocols.agent import Configuration, Kernel, PodState
from protocols.record import record, timestamp
from protocols.report import Report

_LATELY = 300.0  # seconds


class Line(Struct, frozen=True):
    """well: None where it is neither."""

    what: str
    well: bool | None
    text: str


@click.command(cls=Command)
@of_node
@output
def status(run_dir: Path, tunnel: str, form: Form) -> int:
    """Show this node's parts, pods, configuration, certificates and traffic in one screen.

    What is wrong, and what to do about it, is what warren check says. Exit code 1 if something is, 2 if
    a part could not be asked.

    \b
    Example: warren status
    """
    node = Node(tunnel, run_dir)
    lines = [*_lines(node)]
    if form != "text":
        data(lines, form)
    else:
        table(("WHAT", "", "STATE"), map(_cells, lines), "")
    notes(node.notes)
    return node.code or (1 if any(line.well is False for line in lines) else 0)


def _lines(node: Node) -> Iterator[Line]:
    configuration, pods, kernel = node.configuration(), node.pods(), node.kernel()
    report, dump = node.report(), node.dump()
    yield from _agent(configuration)
    yield from _tunnel(report)
    yield from _pods(pods, kernel)
    if dump:
        yield from _mesh(dump)
    if report:
        yield _certificates(report)
    yield from _traffic(node)


def _agent(found: Configuration | None) -> Iterator[Line]:
    if found is None:
        yield Line("agent", False, "does not answer: new pods wait, and no change is applied")
        return
    objects = sum(found.objects.values())
    text = f"serves {objects} objects of {found.source}, last changed {span(found.age)} ago"
    yield Line("agent", True, text)
    behind = [one for one in found.subscribers if not one.current]
    if behind:
        yield Line("configuration", False, f"{len(behind)} subscriptions are behind: warren config diff")
    if found.refused:
        yield Line("objects", False, f"{len(found.refused)} refused: warren check")


def _tunnel(found: Report | None) -> Iterator[Line]:
    if found is None:
        yield Line("tunnel", False, "does not answer: connections of captured pods are refused")
        return
    pods = f"version {found.version}, serves {found.pods.served} pods"
    yield Line("tunnel", not found.draining, f"{pods}{', is draining' if found.draining else ''}")
    yield from (Line(name, None, text) for name, text in draining(found).items())
    problem = found.authority.problem
    yield Line("CA", not problem, f"{found.authority.url} {problem or 'answers'}")


def _pods(pods: list[PodState] | None, kernel: Kernel | None) -> Iterator[Line]:
    if pods is not None:
        wanted = [pod for pod in pods if not pod.excluded]
        captured = [pod for pod in wanted if pod.captured]
        text = f"{len(captured)} of {len(wanted)} captured, {len(pods) - len(wanted)} not in the mesh"
        yield Line("pods", len(captured) == len(wanted), text)
    if kernel is not None:
        programs = f"{sum(kernel.programs.values())} of {len(kernel.programs)} programs attached"
        problems = f", {len(kernel.problems)} problems: warren check" if kernel.problems else ""
        yield Line("kernel", not kernel.problems, programs + problems)


def _mesh(dump: Dump) -> Iterator[Line]:
    captured = sum(one.tunnel == "HBONE" for one in dump.workloads)
    nodes = len({one.node for one in dump.workloads if one.node})
    text = f"{len(dump.workloads)} workloads on {nodes} nodes, {captured} of them captured"
    yield Line("mesh", None, f"{text}; {len(dump.services)} services, {len(dump.policies)} policies")
    if empty := sorted(one.name for one in dump.services if not one.healthy):
        yield Line("services", None, f"{len(empty)} without a healthy endpoint: {', '.join(empty[:5])}")


def _certificates(report: Report) -> Line:
    now = time.time()
    valid = [one.until for one in report.certificates if one.until and one.until > now]
    first = f", the first ends in {span(min(valid) - now)}" if valid else ""
    text = f"{len(valid)} of {len(report.certificates)} identities have a valid certificate{first}"
    return Line("certificates", len(valid) == len(report.certificates), text)


def _traffic(node: Node) -> Iterator[Line]:
    open_, told = node.connections(), node.flows()
    if open_ is not None:
        paths = Counter(record(one).how or "other" for one in open_)
        by = ", ".join(f"{count} {path}" for path, count in sorted(paths.items()))
        yield Line("connections", None, f"{len(open_)} open{': ' + by if by else ''}")
    if told is not None:
        yield _lately(told.flows)


def _lately(flows: list[dict[str, Any]]) -> Line:
    since = time.time() - _LATELY
    recent = [one for one in map(record, flows) if timestamp(one.time) >= since]
    errors = Counter(one.reason or str(one.response_code) for one in recent if one.verdict != "ok")
    text = f"{len(recent)} ended in the last {span(_LATELY)}, {sum(errors.values())} refused or failed"
    reasons = ", ".join(f"{count} {reason}" for reason, count in errors.most_common(3))
    return Line("lately", None, f"{text}{': ' + reasons if reasons else ''}")


def _cells(line: Line) -> tuple[Cell, ...]:
    marks: dict[bool | None, Cell] = {True: good("ok"), False: bad("wrong"), None: ""}
    return line.what, marks[line.well], line.text
