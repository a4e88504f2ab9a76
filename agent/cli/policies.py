"""`warren policies`: what is enforced on this node, and how often it has decided."""

import click
import msgspec
from msgspec import Struct

from agent.cli.admin_client import ask
from agent.cli.command import Command, option
from agent.cli.node import Node, need, of_tunnel
from agent.cli.output import Cell, Form, bad, data, output, table
from protocols.admin import HeldPolicy, PolicyCount
from protocols.policies import origin


class Row(Struct, frozen=True):
    """A policy. object: that has made it; verdicts: how often it gave each, since the tunnel was started."""

    object: str
    policy: HeldPolicy
    verdicts: dict[str, int]


@click.command(cls=Command)
@option("-n", "--namespace", default="", envvar=None, help="only of this namespace")
@of_tunnel
@output
def policies(namespace: str, tunnel: str, form: Form) -> int:
    """List the policies in force with their scope, and how often each has decided since the tunnel's start.

    Exit code 1 if an object was refused: then its strictest reading, or its last good version, is in force.

    \b
    Example: warren policies -n default
    """
    node = Node(tunnel)
    held = need(node.dump(), node).policies
    counts = {one.name: one.verdicts for one in ask(tunnel, "/authz/policies", list[PolicyCount])}
    rows = [
        Row(origin(one.name), one, counts.get(one.name, {}))
        for one in sorted(held, key=lambda one: one.name)
        if namespace in ("", one.name.partition("/")[0])
    ]
    if form != "text":
        data(msgspec.to_builtins(rows), form)
    else:
        table(("POLICY", "ACTION", "SCOPE", "RULES", "DECIDED", "STATE"), map(_cells, rows), "no policies")
    return 1 if any(row.policy.refused for row in rows) else 0


def _cells(row: Row) -> tuple[Cell, ...]:
    policy = row.policy
    decided = ", ".join(f"{name} {count}" for name, count in sorted(row.verdicts.items()) if count)
    state = (
        bad(f"refused: {policy.refused}") if policy.refused else "dry run" if policy.dry_run else "in force"
    )
    return row.object, policy.action, policy.scope, str(policy.rules), decided, state
