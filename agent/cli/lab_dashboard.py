"""`warren lab dashboard`: the live map of all nodes of the lab, for this machine's browser."""

import asyncio
import contextlib
import os
import sys

import click

from agent.cli.command import Command
from agent.cli.dashboard import PORT_HERE
from agent.cli.feeds import Feed, serve
from agent.lab import Lab


@click.command(cls=Command)
@PORT_HERE
@click.pass_obj
def dashboard(name: str, port: int) -> None:
    """Serve the live map of all nodes of the lab on loopback, and print its link; until Ctrl-C."""
    feeds = {}
    for node in Lab.open(name).nodes:
        argv = [sys.executable, "-P", "-m", "agent.cli.main", "dashboard", "--feed", node.name]
        feeds[node.name] = Feed(node.command(argv), {**os.environ, "WARREN_RUN_DIR": str(node.run_dir)})
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(feeds, port, click.echo))
