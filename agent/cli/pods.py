"""`warren pods`: which pods of this node are in the mesh, and why others are not."""

from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from rich.text import Text

from agent.cli.command import Command, option
from agent.cli.node import Node, of_node
from agent.cli.output import Cell, Form, bad, data, good, notes, output, table
from protocols.admin import Dump
from protocols.agent import PodState
from protocols.record import record


class Row(Struct, frozen=True):
    """A pod. captured, certificate: None where nobody could be asked. reason: why it is not captured."""

    namespace: str
    name: str
    addresses: list[str]
    captured: bool | None
    certificate: bool | None
    identity: str
    connections: int | None
    reason: str


@click.command(cls=Command)
@option("-n", "--namespace", default="", envvar=None, help="only pods of this namespace")
@of_node
@output
def pods(namespace: str, run_dir: Path, tunnel: str, form: Form) -> int:
    """Say which pods of this node are captured, with their identities and open connections.

    Exit code 2 if the agent or the tunnel could not be asked; then the columns that only it knows are empty.

    \b
    Example: warren pods -n default
    """
    node = Node(tunnel, run_dir)
    known, dump, open_ = node.pods(), node.dump(), node.connections()
    rows = [row for row in _rows(known, dump, open_) if namespace in ("", row.namespace)]
    if form != "text":
        data(rows, form)
    else:
        columns = ("NAMESPACE", "POD", "ADDRESS", "CAPTURED", "CERT", "CONNS", "REASON")
        table(columns, map(_cells, rows), "no pods")
    notes(node.notes)
    return node.code


def _rows(known: list[PodState] | None, dump: Dump | None, open_: list[dict[str, Any]] | None) -> list[Row]:
    certified = {one.identity for one in dump.certificates} if dump else None
    identities = {str(one): one.identity for one in dump.workloads} if dump else {}
    counts = _counts(open_)
    if known is None:  # the tunnel knows those that are captured
        served = [one for one in dump.workloads if one.uid.rpartition("/Pod/")[2]] if dump else []
        own = [one for one in served if one.node == _node_of(dump) and one.tunnel == "HBONE"]
        known = [PodState(one.namespace, one.name, "", tuple(one.addresses), "", True, "", "") for one in own]
    return [
        Row(
            one.namespace,
            one.name,
            list(one.addresses),
            one.captured,
            None if certified is None or one.excluded else identities.get(str(one), "") in certified,
            "" if one.excluded else identities.get(str(one), ""),
            None if counts is None else counts.get(str(one), 0),
            one.excluded or one.failing,
        )
        for one in known
    ]


def _node_of(dump: Dump | None) -> str:
    """Where the pods run that have certificates here."""
    own = {one.identity for one in dump.certificates} if dump else set()
    nodes = [one.node for one in dump.workloads if one.identity in own] if dump else []
    return max(set(nodes), key=nodes.count, default="")


def _counts(open_: list[dict[str, Any]] | None) -> dict[str, int] | None:
    """Open connections by pod of this node; a connection between two of them is one of each."""
    if open_ is None:
        return None
    counts: dict[str, int] = {}
    for one in map(record, open_):
        outbound = one.direction == "outbound"
        name = one.source if outbound else f"{one.namespace}/{one.pod}"
        counts[name] = counts.get(name, 0) + 1
    return counts


def _cells(row: Row) -> tuple[Cell, ...]:
    captured: Cell = {True: good("yes"), False: "no" if row.reason else bad("no"), None: "?"}[row.captured]
    certificate: Cell = {True: good("yes"), False: bad("no"), None: Text("")}[row.certificate]
    connections = "?" if row.connections is None else str(row.connections)
    address = row.addresses[0] if row.addresses else ""
    return row.namespace, row.name, address, captured, certificate, connections, row.reason
