"""`warren services`: the mesh's services as this node's tunnel has them."""

import click

from agent.cli.command import Command, option
from agent.cli.node import Node, need, of_tunnel
from agent.cli.output import Cell, Form, bad, data, output, table
from protocols.admin import HeldService


@click.command(cls=Command)
@option("-n", "--namespace", default="", envvar=None, help="only of this namespace")
@of_tunnel
@output
def services(namespace: str, tunnel: str, form: Form) -> None:
    """List Services and ServiceEntries with their ports and endpoints: healthy ones of all.

    A port marked with * has rules for its requests or connections: see warren routes.

    \b
    Example: warren services -n default
    """
    node = Node(tunnel)
    held = need(node.dump(), node).services
    rows = [one for one in held if namespace in ("", _namespace(one))]
    rows.sort(key=lambda one: one.key)
    if form != "text":
        data(rows, form)
        return
    table(("NAMESPACE", "HOST", "ADDRESS", "PORTS", "ENDPOINTS"), map(_cells, rows), "no services")


def _namespace(one: HeldService) -> str:
    return one.key.partition("/")[0]


def _cells(one: HeldService) -> tuple[Cell, ...]:
    namespace, _, host = one.key.partition("/")
    ports = " ".join(f"{port}{'*' if port in one.routed_ports else ''}" for port, _ in one.ports)
    endpoints = f"{one.healthy}/{one.endpoints}"
    return (
        namespace,
        host,
        one.addresses[0] if one.addresses else "none",
        ports,
        (endpoints if one.healthy else bad(endpoints)),
    )
