"""`warren workloads`: the mesh's workloads as this node's tunnel has them."""

import click

from agent.cli.command import Command, option
from agent.cli.node import Node, need, of_tunnel
from agent.cli.output import Cell, Form, bad, data, output, table
from agent.cli.units import short
from protocols.admin import HeldWorkload


@click.command(cls=Command)
@option("-n", "--namespace", default="", envvar=None, help="only of this namespace")
@option("--on", "place", default="", envvar=None, metavar="NODE", help="only of this node")
@of_tunnel
@output
def workloads(namespace: str, place: str, tunnel: str, form: Form) -> None:
    """List the workloads of the mesh that this node's tunnel knows.

    PROTOCOL is HBONE for those that are reached through mutual TLS, PLAIN for those that are not captured.

    \b
    Example: warren workloads -n default -o json
    """
    node = Node(tunnel)
    held = need(node.dump(), node).workloads
    rows = [one for one in held if namespace in ("", one.namespace) and place in ("", one.node)]
    rows.sort(key=lambda one: (one.namespace, one.name))
    if form != "text":
        data(rows, form)
        return
    columns = ("NAMESPACE", "NAME", "ADDRESS", "NODE", "PROTOCOL", "IDENTITY", "HEALTH")
    table(columns, map(_cells, rows), "no workloads")


def _cells(one: HeldWorkload) -> tuple[Cell, ...]:
    address = one.addresses[0] if one.addresses else ""
    health = "ready" if one.healthy else bad("not ready")
    protocol = f"{one.tunnel} via waypoint" if one.waypoint else one.tunnel
    return one.namespace, one.name, address, one.node, protocol, short(one.identity), health
