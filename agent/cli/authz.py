"""`warren authz`: who may talk to whom on this node, why, and what other policies would change.

It asks the tunnel, which decides, and for manifests the agent, which reads them. Changes nothing.
"""

import contextlib
import json
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec
from rich.console import Console

from agent.cli import proposals, verdicts
from agent.cli.admin_client import TUNNEL, NoAgent, ask
from agent.cli.command import Command, option
from agent.cli.types import FOLDER, HEADER, ip_address
from protocols.admin import Explanation, Judged, PolicyCount
from protocols.policies import STRICT, origin
from protocols.proposal import File, Whose

_UNBROKEN = 10_000  # columns: a program that reads lines gets them whole
_tunnel = option("--tunnel", default=TUNNEL, help="where the tunnel answers: its admin port")
_run_dir = option("--run-dir", type=FOLDER, default="/run/warren", help="the agent's folder for its sockets")
_json = option("--json", "as_json", envvar="WARREN_JSON", is_flag=True, help="for machines")


@click.group()
def authz() -> None:
    """Say who may talk to whom on this node, and why."""


@authz.command(cls=Command)
@click.argument("source", metavar="FROM")
@click.argument("to", metavar="TO")
@option(
    "--port",
    type=click.IntRange(1, 65535),
    envvar=None,
    help="destination port on the pod [default: every port a Service maps to]",
)
@option("--address", type=ip_address, envvar=None, help="source address of an identity or of plain text")
@option("--method", envvar=None, help="of a request [default with --path or -H: GET]")
@option("--path", envvar=None, help="of a request, with its query [default with --method or -H: /]")
@option("-H", "--header", type=HEADER, multiple=True, envvar=None, help="of a request; may be repeated")
@_run_dir
@_tunnel
@_json
def explain(
    source: str,
    to: str,
    *,
    method: str | None,
    path: str | None,
    header: tuple[tuple[str, str], ...],
    run_dir: Path,
    tunnel: str,
    as_json: bool,
    **details: Any,
) -> int:
    """Say which rule decides whether FROM may reach TO, and why the others do not.

    With --method, --path or -H it is a request that is judged, at ports where policies look at requests. A
    header Host names the host; tokens are not looked at.

    FROM is a pod (NAMESPACE/NAME, or a name in default; its Deployment's will do), an address, a SPIFFE
    identity, or the word plain for plain text. TO is a pod of this node, by name or address, or a Service.

    Exit code 0 if it is allowed (at every port), 1 if it is refused or depends on the request, 2 if there is
    no answer.
    """
    given = {name: value for name, value in details.items() if value is not None}
    if method or path or header:
        given["request"] = json.dumps((method or "GET", path or "/", header))
    said = ask(tunnel, "/authz/explain", Explanation, {"from": source, "to": to, **given})
    objects = _objects(said, run_dir / "authz.sock")
    if as_json:
        click.echo(json.dumps({**msgspec.to_builtins(said), "objects": objects}, indent=2))
    else:
        verdicts.show_explanation(_console(), said, objects)
    return 0 if all(one.verdict == "allowed" for one in said.ports) else 1


@authz.command(cls=Command)
@option(
    "-f",
    "--filename",
    type=click.File("rb"),
    multiple=True,
    required=True,
    envvar=None,
    help="manifests of AuthorizationPolicies and PeerAuthentications; - for standard input",
)
@_run_dir
@_tunnel
@_json
def check(filename: tuple[BinaryIO, ...], run_dir: Path, tunnel: str, as_json: bool) -> int:
    """Say which of the connections that are open now would be closed by policies.

    They are put beside those in force, or in the place of those of the same name. Nothing is changed.

    Exit code 0 if none would be closed, 1 if any would, 2 if there is no answer, or only a part of one
    because a policy is invalid.
    """
    files = [File(file.name, file.read().decode(errors="replace")) for file in filename]
    proposal = proposals.ask(run_dir / "authz.sock", files)
    outcomes = ask(tunnel, "/authz/check", list[Judged], given=msgspec.json.encode(proposal.pushes))
    closed = [one for one in outcomes if one.closed]
    if as_json:
        remarks = {name: msgspec.to_builtins(getattr(proposal, name)) for name in verdicts.REMARKS}
        kept = [one for one in outcomes if not one.closed]
        judged = msgspec.to_builtins({"closed": closed, "kept": kept})
        click.echo(json.dumps({**remarks, **judged}, indent=2))
    else:
        verdicts.show_check(_console(), proposal, outcomes)
    return 2 if proposal.invalid else 1 if closed else 0


@authz.command(cls=Command)
@_tunnel
@_json
def dry_run(tunnel: str, as_json: bool) -> None:
    """Count what policies in dry run would have refused, and what AUDIT policies have audited.

    Since the tunnel was started. Exit code 2 if there is no answer.
    """
    policies = ask(tunnel, "/authz/policies", list[PolicyCount])
    on_trial = [_tried(one) for one in policies if one.dry_run or one.action == "AUDIT"]
    if as_json:
        click.echo(json.dumps(on_trial, indent=2))
    else:
        verdicts.show_trial(_console(), on_trial)


def _objects(said: Explanation, agent: Path) -> dict[str, str]:
    """Which object has made each policy, by the policy's name. Only the agent knows whose mode STRICT is."""
    objects = {policy.name: origin(policy.name) for one in said.ports for policy in one.policies}
    if STRICT in objects and said.destination.name:
        with contextlib.suppress(NoAgent):
            namespace, _, name = said.destination.name.partition("/")
            if found := proposals.deciding(agent, Whose(namespace, name)):
                objects[STRICT] = f"PeerAuthentication {found} (mode STRICT)"
    return objects


def _tried(policy: PolicyCount) -> dict[str, Any]:
    """With the times that it matched, or would have refused."""
    times = policy.verdicts.get("audit" if policy.action == "AUDIT" else "dry_run", 0)
    return {"name": policy.name, "action": policy.action, "dry_run": policy.dry_run, "times": times}


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBROKEN
    return console
