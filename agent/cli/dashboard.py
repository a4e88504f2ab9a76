"""`warren dashboard`: the link to the live map of this node, or the map of all nodes, served here."""

import contextlib
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import click

from agent.cli.admin_client import NoAgent, ask_agent
from agent.cli.command import Command, option
from agent.cli.node import of_node
from agent.cli.types import PORT, READABLE_FILE
from agent.errors import SettingsError
from protocols.agent import MapLink

PORT_HERE = option(
    "--port", type=PORT, default=0, envvar=None, help="where to serve it [default: a free one]"
)


@click.command(cls=Command)
@option("--all-nodes", is_flag=True, envvar=None, help="the whole mesh, through the API server")
@option("--kubeconfig", type=READABLE_FILE, envvar=None, help="for --all-nodes [default: kubectl's]")
@option("--system-namespace", default="warren-system", envvar=None, help="where the agents are")
@PORT_HERE
@option("--feed", hidden=True, envvar=None, help="print what this node sees, a line each time")
@of_node
def dashboard(
    *,
    all_nodes: bool,
    kubeconfig: Path | None,
    system_namespace: str,
    port: int,
    feed: str | None,
    run_dir: Path,
    tunnel: str,
) -> None:
    """Print the link to the live map: who talks to whom, how much, how well, and what protects it.

    The agent serves it on this node's loopback, read-only; who has the link may look. With --all-nodes it is
    served here, until Ctrl-C, from what all nodes see: the API server has to let you run commands in the
    agents' pods (pods/exec).

    \b
    Examples:
      warren dashboard
      ssh -L 15018:127.0.0.1:15018 NODE     # and open the link on your own machine
      warren dashboard --all-nodes
    """
    if feed is not None:
        _feed(feed, tunnel)
    elif all_nodes:
        _all_nodes(kubeconfig, system_namespace, port)
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


def _all_nodes(kubeconfig: Path | None, system: str, port: int) -> None:
    import asyncio  # noqa: PLC0415

    from agent.cli.feeds import Feed, serve  # noqa: PLC0415
    from agent.cli.remote import agents  # noqa: PLC0415
    from agent.kube.client import Client  # noqa: PLC0415

    found = agents(Client.load(kubeconfig), system)
    if not found:
        raise SettingsError(f"no agent runs in namespace {system}: name it with --system-namespace")
    whose = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    warren = [sys.executable, "-P", "-m", "agent.cli.main", *whose, "--system-namespace", system]
    feeds = {node: Feed([*warren, "--node", node, "dashboard", "--feed", node]) for node in sorted(found)}
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(feeds, port, click.echo))
