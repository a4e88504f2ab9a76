"""`warren connections`: what is open now, between whom, and by which path."""

import time
from collections.abc import Callable

import click

from agent.cli.command import Command, option
from agent.cli.node import Node, need, of_tunnel
from agent.cli.output import Form, data, output, table
from agent.cli.units import short, size, span
from protocols.record import Record, record

_SORTS: dict[str, Callable[[Record], object]] = {
    "age": lambda one: one.since,
    "bytes": lambda one: -(one.bytes_sent + one.bytes_recv),
    "rtt": lambda one: -one.rtt_us,
}


@click.command(cls=Command)
@click.argument("pod", required=False, metavar="[POD]")
@option("-n", "--namespace", default="", envvar=None, help="only where one end is of this namespace")
@option("--sort", type=click.Choice([*_SORTS]), default="age", envvar=None, help="the first: the greatest")
@of_tunnel
@output
def connections(pod: str | None, namespace: str, sort: str, tunnel: str, form: Form) -> None:
    """List the open connections of this node's pods, or of POD (a part of its name will do).

    PATH is tunnel (mutual TLS to the other node), direct (between pods of this node, in the kernel), plain
    (not encrypted by the mesh) or requests (each request goes its own way). RTT is that of the path's TCP.

    \b
    Example: warren connections web --sort bytes
    """
    node = Node(tunnel)
    found = need(node.connections(), node)
    kept = [(one, said) for said in found if _fits(one := record(said), pod or "", namespace)]
    kept.sort(key=lambda pair: _SORTS[sort](pair[0]))  # type: ignore[arg-type, return-value]
    if form != "text":
        data([said for _, said in kept], form)
        return
    now = time.time()
    columns = ("DIR", "FROM", "TO", "PATH", "PEER IDENTITY", "AGE", "OUT", "IN", "RTT")
    table(columns, [_cells(one, now) for one, _ in kept], "no open connections")


def _fits(one: Record, pod: str, namespace: str) -> bool:
    ends = (one.source, one.destination, one.service)
    spaces = (one.source_namespace, one.namespace)
    return any(pod in end for end in ends) and (not namespace or namespace in spaces)


def _cells(one: Record, now: float) -> tuple[str, ...]:
    outbound = one.direction == "outbound"
    return (
        "out" if outbound else "in",
        one.source,
        one.destination,
        one.how,
        short(one.identity if outbound else one.source_identity),
        span(one.age(now)),
        size(one.bytes_sent),
        size(one.bytes_recv),
        f"{one.rtt_us / 1000:.1f}ms" if one.rtt_us else "",
    )
