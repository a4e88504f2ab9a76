"""`warren routes`: what happens to requests that pods of this node send, and why.

It asks the tunnel, which decides. Changes nothing.
"""

import json
from typing import Any

import click
import msgspec
from rich.console import Console

from agent.cli import routing
from agent.cli.admin_client import TUNNEL, ask
from agent.cli.command import Command, option
from agent.cli.types import HEADER

_UNBROKEN = 10_000  # columns: a program that reads lines gets them whole
_tunnel = option("--tunnel", default=TUNNEL, help="where the tunnel answers: its admin port")
_json = option("--json", "as_json", envvar="WARREN_JSON", is_flag=True, help="for machines")


class _ListByDefault(click.Group):
    """`warren routes [SERVICE]` is `warren routes list [SERVICE]`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group(cls=_ListByDefault)
def routes() -> None:
    """Say what happens to requests that pods of this node send, and why."""


@routes.command("list", cls=Command)
@click.argument("service", required=False)
@_tunnel
@_json
def in_force(service: str | None, tunnel: str, as_json: bool) -> None:
    """Print the routes in force: of SERVICE (a name as a pod calls it, or NAMESPACE/HOSTNAME), or of all.

    Rules are printed in the order in which they are tried. Exit code 2 if there is no answer.
    """
    said = ask(tunnel, "/routes", list[routing.Row], {"service": service} if service else None)
    if as_json:
        click.echo(json.dumps(said, indent=2))
    else:
        routing.show_routes(_console(), said)


@routes.command(cls=Command)
@_tunnel
@_json
def listeners(tunnel: str, as_json: bool) -> int:
    """Print what a gateway listens on: ports, hosts, TLS, the routes that are attached, and conflicts.

    Asked in the gateway's pod, at its admin port. Exit code 0 if there is no conflict, 1 if there is one, 2
    if there is no answer.
    """
    said = ask(tunnel, "/listeners", routing.Row)
    if as_json:
        click.echo(json.dumps(said, indent=2))
    else:
        routing.show_listeners(_console(), said)
    return 1 if said["conflicts"] else 0


@routes.command(cls=Command)
@click.argument("method")
@click.argument("url")
@option(
    "--from", "source", metavar="POD", required=True, envvar=None, help="the pod of this node that sends it"
)
@option("-H", "--header", type=HEADER, multiple=True, envvar=None, help="of the request; may be repeated")
@_tunnel
@_json
def explain(
    method: str, url: str, *, source: str, header: tuple[tuple[str, str], ...], tunnel: str, as_json: bool
) -> int:
    """Say which rule decides about a request, where it goes, and why no earlier rule matches.

    URL is as the pod would write it: http://reviews:9080/path?query. POD is NAMESPACE/NAME, or a name in
    default; its Deployment's will do.

    Exit code 0 if an endpoint, a redirect or a configured response is there for it, 1 if not, 2 if there is
    no answer.
    """
    question = {"from": source, "method": method, "url": url, "headers": header}
    said = ask(tunnel, "/routes/explain", dict[str, Any], given=msgspec.json.encode(question))
    if as_json:
        click.echo(json.dumps(said, indent=2))
    else:
        routing.show_explanation(_console(), said)
    return 0 if routing.is_served(said) else 1


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBROKEN
    return console
