"""`warren why`: what becomes of a connection or request, step by step, by the code that decides."""

from pathlib import Path

import click
import msgspec

from agent.cli import reasons
from agent.cli.admin_client import NoAgent, ask, ask_agent
from agent.cli.command import Command, option
from agent.cli.node import of_node
from agent.cli.output import Form, data, notes, output
from agent.cli.types import HEADER, destination
from agent.errors import SettingsError
from protocols.admin import Why
from protocols.agent import PodState


@click.command(cls=Command)
@click.argument("pod")
@click.argument("to", metavar="DESTINATION[:PORT]", type=destination)
@option("-X", "--method", default="GET", envvar=None, help="of the request, where routes apply")
@option("--path", default="/", envvar=None, help="of the request, where routes apply")
@option("-H", "--header", type=HEADER, multiple=True, envvar=None, help="of the request; may be repeated")
@option("--try", "trying", is_flag=True, envvar=None, help="make it from the pod, and time each phase")
@of_node
@output
def why(
    pod: str,
    to: tuple[str, int | None],
    *,
    method: str,
    path: str,
    header: tuple[tuple[str, str], ...],
    trying: bool,
    run_dir: Path,
    tunnel: str,
    form: Form,
) -> int:
    """Say what becomes of a connection of POD, and why: captured, resolved, routed, encrypted, allowed.

    POD is a pod of this node (NAMESPACE/NAME, or a name in default; its Deployment's will do). DESTINATION is
    a Service, a pod, an address or a host name, as the pod would write it. Nothing is connected, unless --try
    is given.

    Exit code 0 if it is allowed (at every port), 1 if it is refused, 2 if it cannot be known here.

    \b
    Examples:
      warren why client web:80
      warren why client reviews:9080 --path /reviews/1 -H 'end-user: jason'
      warren why client example.com:443 --try
    """
    host, port = to
    states, missing = _pods(run_dir)
    question = {"from": pod, "to": host, "port": port, "method": method, "path": path, "headers": header}
    try:
        said = ask(tunnel, "/why", Why, given=msgspec.json.encode(question))
    except SettingsError as error:
        excluded = next((one for one in states if pod in (str(one), one.name) and one.excluded), None)
        if excluded is None:
            raise
        raise SettingsError(f"{excluded} is not in the mesh: {excluded.excluded}") from error
    state = next((one for one in states if str(one) == said.source.name), None)
    tried = None
    if trying:
        from agent.cli import attempt  # noqa: PLC0415  (namespaces and processes: only where it is made)

        tried = attempt.make(said, state, tunnel, attempt.Wish(host, port, method, path, header))
    if form != "text":
        data({**msgspec.to_builtins(said), "pod": state, "tried": tried}, form)
    else:
        reasons.show(said, state, tried)
    notes(missing)
    if tried is not None:
        return 0 if tried.ok else 1
    return reasons.code(said)


def _pods(run_dir: Path) -> tuple[list[PodState], list[str]]:
    try:
        return ask_agent(run_dir, "/pods", list[PodState]), []
    except NoAgent as error:
        return [], [f"{error}: whether the pod is captured is not known"]
