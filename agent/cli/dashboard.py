"""`warren dashboard`: the link to the live map of this node."""

import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import click

from agent.cli.admin_client import NoAgent, ask_agent
from agent.cli.command import Command, option
from agent.cli.node import of_node
from agent.cli.types import PORT
from agent.errors import SettingsError
from protocols.agent import MapLink

PORT_HERE = option(
    "--port", type=PORT, default=0, envvar=None, help="where to serve it [default: a free one]"
)


@click.command(cls=Command)
@option("--feed", hidden=True, envvar=None, help="print what this node sees, a line each time")
@of_node
def dashboard(*, feed: str | None, run_dir: Path, tunnel: str) -> None:
    """Print the link to the live map: who talks to whom, how much, how well, and what protects it.

    The agent serves it on this node's loopback, read-only; who has the link may look.

    \b
    Examples:
      warren dashboard
      ssh -L 15018:127.0.0.1:15018 NODE     # and open the link on your own machine
    """
    if feed is not None:
        _feed(feed, tunnel)
    else:
        try:
            link = ask_agent(run_dir, "/dashboard", MapLink).link
        except NoAgent as error:
            raise NoAgent(f"{error}; without it: warren top, warren flows") from error
        if not link:
            raise SettingsError("this agent serves no map: start it with --dashboard-port")
        click.echo(link)


def _feed(node: str, tunnel: str) -> None:
    """For ever: whoever shows the map reads it."""
    import msgspec  # noqa: PLC0415

    from agent.dashboard.reader import INTERVAL, Reader  # noqa: PLC0415

    at = urlsplit(tunnel)
    reader = Reader(node, at.hostname or "", at.port or 80)
    while True:
        sys.stdout.buffer.write(msgspec.json.encode(reader.look()) + b"\n")
        sys.stdout.buffer.flush()
        time.sleep(INTERVAL)
