"""`warren flows`: connections and requests that ended or were refused: the last minutes, and as they come."""

import json
import time
from collections.abc import Iterator
from typing import Any

import click
from rich.text import Text

from agent.cli.admin_client import ask
from agent.cli.command import Command, option
from agent.cli.filters import filters, wanted
from agent.cli.node import of_tunnel
from agent.cli.output import Form, console, output
from agent.cli.types import duration
from agent.cli.units import size, span
from protocols.admin import Flows
from protocols.record import Record, record, timestamp

_PAUSE = 0.3  # seconds between two questions
_STYLES = {"ok": "green", "refused": "bold red", "failed": "red"}


@click.command(cls=Command)
@option("-f", "--follow", is_flag=True, envvar=None, help="go on as more come")
@option("--since", type=duration, envvar=None, metavar="TIME", help="how far to look back: 30s, 5m, 1h")
@option("--last", type=click.IntRange(0), default=50, envvar=None, help="how many, without --since")
@filters
@of_tunnel
@output
def flows(
    *,
    follow: bool,
    since: float | None,
    last: int,
    tunnel: str,
    form: Form,
    unwanted: tuple[tuple[str, str], ...],
    **given: tuple[str, ...],
) -> None:
    """Show connections and requests that have ended or were refused, with names, verdict and reason.

    The tunnel keeps the last 8192 in memory. Those that are still open: warren connections. Programs get a
    JSON object a line.

    \b
    Examples:
      warren flows --since 5m --verdict refused
      warren flows --follow --namespace shop --not verdict=ok
    """
    fits = wanted(unwanted, **given)
    first = ask(tunnel, "/flows", Flows)
    begin = time.time() - since if since is not None else 0.0
    kept = [(said, one) for said in first.flows if fits(one := record(said)) and timestamp(one.time) >= begin]
    out = console()
    for said, one in kept if since is not None else kept[len(kept) - min(last, len(kept)) :]:
        _show(out.print, form, said, one)
    for said in _more(tunnel, first.last) if follow else ():
        if fits(one := record(said)):
            _show(out.print, form, said, one)


def _more(tunnel: str, number: int) -> Iterator[dict[str, Any]]:
    """For ever."""
    while True:
        time.sleep(_PAUSE)
        told = ask(tunnel, "/flows", Flows, {"after": number})
        number = told.last
        yield from told.flows


def _show(show: Any, form: Form, said: dict[str, Any], one: Record) -> None:
    if form == "text":
        show(line(one), soft_wrap=True)
    else:
        click.echo(json.dumps(said))


def line(one: Record) -> Text:
    """A record: when, who, whom, how, what became of it, and why."""
    text = Text(f"{one.time[11:23]} ", "dim")
    arrow = "->" if one.direction == "outbound" else "<-"
    ends = (one.source, one.destination) if one.direction == "outbound" else (one.destination, one.source)
    text.append(f"{ends[0]} {arrow} {ends[1]}", "")
    if one.is_request:
        text.append(f" {one.method} {one.url_path} {one.response_code}")
        flags = "" if one.response_flags in ("", "-") else f" {one.response_flags}"
        text.append(flags)
    elif one.how:
        text.append(f" {one.how}", "cyan")
    text.append(f" {one.verdict}", _STYLES[one.verdict])
    if one.error:
        text.append(f": {one.error}")
    text.append(f" {span(one.duration_ms / 1000)}", "dim")
    if one.bytes_sent or one.bytes_recv:
        text.append(f" {size(one.bytes_sent)} out {size(one.bytes_recv)} in", "dim")
    return text
