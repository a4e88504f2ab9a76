"""`warren top`: who is busy now, by service, workload or connection."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
from msgspec import Struct
from rich.live import Live
from rich.table import Table

from agent.cli.admin_client import ask
from agent.cli.command import Command, option
from agent.cli.filters import Wanted, filters, wanted
from agent.cli.node import of_tunnel
from agent.cli.output import Form, bad, console, data, made_table, output
from agent.cli.units import size
from protocols.admin import Flows
from protocols.record import Record, record

_KEYS: dict[str, Callable[[Record], str]] = {
    "service": lambda one: one.service or one.destination,
    "workload": lambda one: one.source if one.direction == "outbound" else f"{one.namespace}/{one.pod}",
    "connection": lambda one: f"{one.source} -> {one.destination}",
}


class Busy(Struct):
    """What went on in a second, and how many connections are open. errors: refused or failed."""

    name: str
    open: int = 0
    connections: float = 0
    requests: float = 0
    errors: float = 0
    sent: float = 0
    received: float = 0


class Sample(Struct, frozen=True):
    """What the tunnel has at a moment: open connections, and those that ended since the last sample."""

    at: float
    last: int
    open: dict[tuple[str, ...], Record]
    ended: list[Record]


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
    before = _sample(tunnel, 0)
    if once or form != "text" or not out.is_terminal:
        time.sleep(interval)
        rows = _busy(before, _sample(tunnel, before.last), _KEYS[by], fits)
        data(rows, form) if form != "text" else out.print(_table(by, rows))
        return
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(interval)
            after = _sample(tunnel, before.last)
            live.update(_table(by, _busy(before, after, _KEYS[by], fits)[: out.height - 2]), refresh=True)
            before = after


def _sample(tunnel: str, last: int) -> Sample:
    found = map(record, ask(tunnel, "/connections", list[dict[str, Any]]))
    told = ask(tunnel, "/flows", Flows, {"after": last or "end"})
    ended = [record(one) for one in told.flows] if last else []
    return Sample(time.monotonic(), told.last, {_identity(one): one for one in found}, ended)


def _identity(one: Record) -> tuple[str, ...]:
    return one.direction, one.source_address, one.address


def _busy(before: Sample, after: Sample, key: Callable[[Record], str], fits: Wanted) -> list[Busy]:
    seconds = max(after.at - before.at, 1e-3)
    found: dict[str, Busy] = {}
    ended = [one for one in after.ended if fits(one)]
    still = [one for one in after.open.values() if fits(one)]
    for one in (*still, *ended):
        row = found.setdefault(key(one), Busy(key(one)))
        if one.is_request:
            row.requests += 1 / seconds
        else:
            former = before.open.get(_identity(one))
            row.connections += (former is None) / seconds
            row.sent += (one.bytes_sent - (former.bytes_sent if former else 0)) / seconds
            row.received += (one.bytes_recv - (former.bytes_recv if former else 0)) / seconds
        row.errors += (bool(one.time) and one.verdict != "ok") / seconds
    for one in still:
        found[key(one)].open += 1
    return sorted(found.values(), key=lambda row: (-row.requests - row.connections, -row.sent - row.received))


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
