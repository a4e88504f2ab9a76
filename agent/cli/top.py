"""`warren top`: who is busy now, by service, workload or connection."""

import time
from collections.abc import Callable
from contextlib import suppress

import click
from rich.live import Live
from rich.table import Table

from agent.cli.command import Command, option
from agent.cli.filters import filters, wanted
from agent.cli.node import of_tunnel
from agent.cli.output import Form, bad, console, data, made_table, output
from agent.cli.rates import Busy, busy, sample, workload
from agent.cli.units import size
from protocols.record import Record

_KEYS: dict[str, Callable[[Record], str]] = {
    "service": lambda one: one.service or one.destination,
    "workload": workload,
    "connection": lambda one: f"{one.source} -> {one.destination}",
}


@click.command(cls=Command)
@option("--by", type=click.Choice([*_KEYS]), default="service", envvar=None, help="what a line is for")
@option("--interval", type=click.FloatRange(0.1, 60), default=2.0, envvar=None, help="seconds of a look")
@option("--once", is_flag=True, envvar=None, help="one look, as a pipe gets")
@filters
@of_tunnel
@output
def top(
    *,
    by: str,
    interval: float,
    once: bool,
    tunnel: str,
    form: Form,
    unwanted: tuple[tuple[str, str], ...],
    **given: tuple[str, ...],
) -> None:
    """Show who is busy: connections and requests a second, errors, bytes a second, the busiest first.

    \b
    Example: warren top --by workload --namespace shop
    """
    fits, out = wanted(unwanted, **given), console()
    before = sample(tunnel, 0)
    if once or form != "text" or not out.is_terminal:
        time.sleep(interval)
        rows = busy(before, sample(tunnel, before.last), _KEYS[by], fits)
        data(rows, form) if form != "text" else out.print(_table(by, rows))
        return
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(interval)
            after = sample(tunnel, before.last)
            live.update(_table(by, busy(before, after, _KEYS[by], fits)[: out.height - 2]), refresh=True)
            before = after


def _table(by: str, rows: list[Busy]) -> Table:
    columns = (by.upper(), "OPEN", "CONN/S", "REQ/S", "ERR/S", "OUT/S", "IN/S")
    cells = [
        (
            row.name,
            str(row.open),
            f"{row.connections:.1f}",
            f"{row.requests:.1f}",
            bad(f"{row.errors:.1f}") if row.errors else "0.0",
            size(row.sent),
            size(row.received),
        )
        for row in rows
    ]
    return made_table(columns, cells)
