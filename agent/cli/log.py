"""`warren log`: what agent and tunnel log, to be changed while they run."""

from pathlib import Path

import click
from msgspec import Struct

from agent.cli.admin_client import ask, ask_agent
from agent.cli.command import Command, option
from agent.cli.node import Node, of_node
from agent.cli.output import Form, data, notes, output, table
from agent.cli.types import LOG_LEVELS
from protocols import admin, agent


class Row(Struct, frozen=True):
    """access_log: which connections the tunnel logs; empty for the agent."""

    part: str
    level: str
    access_log: str = ""


@click.group()
def log() -> None:
    """Show or change what agent and tunnel log, while they run."""


@log.command(cls=Command)
@click.argument("level", required=False, type=LOG_LEVELS)
@option(
    "--part", type=click.Choice(["all", "agent", "tunnel"]), default="all", envvar=None, help="whose level"
)
@option(
    "--access-log",
    type=click.Choice(["off", "errors", "all"]),
    envvar=None,
    help="which connections the tunnel logs from now on",
)
@of_node
@output
def level(
    level: str | None, *, part: str, access_log: str | None, run_dir: Path, tunnel: str, form: Form
) -> int:
    """Show the log levels, or have agent and tunnel log from LEVEL on until they end.

    Exit code 2 if one of them could not be asked.

    \b
    Examples:
      warren log level debug --part tunnel
      warren log level --access-log errors
    """
    node, rows = Node(tunnel, run_dir), []
    if part in ("all", "agent"):
        query = {"level": level} if level else None
        given = b"" if level else None
        if found := node.known(lambda: ask_agent(run_dir, "/logging", agent.Logging, query, given)):
            rows.append(Row("agent", found.level))
    if part in ("all", "tunnel"):
        wish = {name: value for name, value in (("level", level), ("access_log", access_log)) if value}
        told = node.known(lambda: ask(tunnel, "/logging", admin.Logging, wish, b"" if wish else None))
        if told:
            rows.append(Row("tunnel", told.level, told.access_log))
    if form != "text":
        data(rows, form)
    else:
        cells = [(one.part, one.level, one.access_log) for one in rows]
        table(("PART", "LEVEL", "ACCESS LOG"), cells, "nobody answers")
    notes(node.notes)
    return node.code
