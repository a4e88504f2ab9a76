"""`warren lab`: a cluster with Warren in it, on this machine."""

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agent.cli.admin_client import TUNNEL
from agent.cli.command import Command, option
from agent.cli.lab_dashboard import dashboard
from agent.cli.lab_live import COMMANDS, opened
from agent.cli.types import READABLE_FILE
from agent.lab import Lab
from agent.lab import status as lab_status
from agent.lab.demo import demonstrate
from agent.node.netns import NetnsFd

_MEGABYTE = 1 << 20
_WIDE = 140
_KUBECTLS = os.environ.get("KUBECONFIG", "~/.kube/config")


@click.group()
@option("--name", default="lab", envvar="WARREN_LAB", help="of a lab beside the usual one")
@click.pass_context
def lab(ctx: click.Context, name: str) -> None:
    """Build a mesh out of network namespaces on this machine."""
    ctx.obj = name


@lab.command(cls=Command)
@option(
    "--manifests",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PATH...",
    help="YAML files or folders; Namespaces, ServiceAccounts, Deployments, Pods and Services are used "
    "[default: a small client and server]",
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="")
@option("--nodes", type=click.IntRange(1, 5), default=2, help="how many nodes")
@option(
    "--api",
    is_flag=False,
    flag_value="",
    metavar="[KUBECONFIG]",
    help="hold the cluster on an API server [default: kubectl's kubeconfig]",
)
@option("--mesh-config", type=READABLE_FILE, help="Istio's MeshConfig, for the agents")
@option("--again", is_flag=True, help="take a lab that is there down first")
@option("--plain", is_flag=True, help="only the cluster, without the mesh")
@option("--no-direct", is_flag=True, help="have pods of one node connect through the tunnel, too")
@option("--ztunnel", type=click.Path(path_type=Path), envvar=None, help="binary of Istio's ztunnel ...")
@option("--ztunnel-node", multiple=True, default=["node2"], help="... that runs in our tunnel's place here")
@click.pass_obj
def up(
    name: str,
    *,
    manifests: tuple[Path, ...],
    more: tuple[Path, ...],
    nodes: int,
    api: str | None,
    mesh_config: Path | None,
    again: bool,
    plain: bool,
    no_direct: bool,
    ztunnel: Path | None,
    ztunnel_node: tuple[str, ...],
) -> None:
    """Build the lab and wait until it serves."""
    ztunnels = dict.fromkeys(ztunnel_node, ztunnel.absolute()) if ztunnel else {}
    console = Console(highlight=False)
    with console.status("warren lab up") as progress:
        if again:
            Lab.remove(name)

        def say(text: str) -> None:
            progress.update(f"{text} ...")
            if not console.is_terminal or text.startswith("left out"):
                console.print(text)

        paths = [*manifests, *more]
        kubeconfig = None if api is None else Path(api or _KUBECTLS).expanduser()
        built = Lab.up(
            paths,
            nodes=nodes,
            name=name,
            meshed=not plain,
            ztunnels=ztunnels,
            api=kubeconfig,
            direct=not no_direct,
            watch=bool(paths),
            mesh_config=mesh_config,
            say=say,
        )
    console.print(
        f"The lab is up: {len(built.nodes)} nodes, {len(built.pods)} pods.\n"
        "`warren lab status` shows it, `warren lab down` takes it away."
    )
    for own, port in built.state.doors.items():
        console.print(f"Port {port} of the gateway: http://127.0.0.1:{own}/")


@lab.command(cls=Command)
@click.pass_obj
def down(name: str) -> None:
    """Take the lab away, whatever is left of it."""
    click.echo("The lab is gone." if Lab.remove(name) else "There was no lab.")


@lab.command(cls=Command)
@option("--json", "as_json", is_flag=True, help="for programs")
@click.pass_obj
def status(name: str, as_json: bool) -> None:
    """Show nodes, pods and Services, as the kernel and the cluster have them."""
    found = lab_status.status(Lab.open(name))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    console = Console(highlight=False)
    console.width = max(console.width, _WIDE)  # a pipe is taken for 80 columns, in which names do not fit
    for problem in found["problems"]:
        console.print(f"wrong: {problem['text']}", style="bold red", markup=False)
    for part, columns in _COLUMNS.items():
        table = Table(title=part.capitalize(), title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, no_wrap=True)
        for row in found[part]:
            table.add_row(*(_cell(row[column]) for column in columns))
        console.print(table, "")


@lab.command(name="exec", cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("pod")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.pass_obj
def exec_(name: str, pod: str, command: tuple[str, ...]) -> None:
    """Run a command in a pod: its name or the start of it, deploy/NAME, each also as NAMESPACE/..."""
    found = Lab.open(name).pod(pod)
    argv = found.command(command)
    os.execvpe(argv[0], argv, found.environment)


@lab.command(cls=Command)
@click.argument("node", default="node1")
@option("-v", "--verbose", is_flag=True, help="kernel features, programs, pods and verdicts, too")
@option("--json", "as_json", is_flag=True, help="for programs")
@click.pass_obj
def check(name: str, node: str, verbose: bool, as_json: bool) -> int:
    """Do `warren check` for a node of the lab (default: node1)."""
    # A tenth of a second, which all other commands can do without.
    from agent.cli.check import AGENT, report  # noqa: PLC0415
    from agent.cli.health import inspect  # noqa: PLC0415

    found = Lab.open(name).node(node)
    with closing(NetnsFd.open(found.netns)) as netns:
        parts = netns.run(lambda: inspect(AGENT, TUNNEL))
    return report(found.cgroup, found.bpffs, parts, verbose=verbose, as_json=as_json)


@lab.command(cls=Command, context_settings={"allow_interspersed_args": False})
@click.argument("node")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_obj
def authz(name: str, node: str, arguments: tuple[str, ...]) -> None:
    """Do `warren authz` on a node of the lab."""
    _become(name, node, "authz", *arguments)


@lab.command(cls=Command, context_settings={"allow_interspersed_args": False})
@click.argument("node")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
@click.pass_obj
def routes(name: str, node: str, arguments: tuple[str, ...]) -> None:
    """Do `warren routes` on a node of the lab."""
    _become(name, node, "routes", *arguments)


@lab.command(cls=Command, context_settings={"allow_interspersed_args": False})
@click.argument("node")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_obj
def on(name: str, node: str, arguments: tuple[str, ...]) -> None:
    """Do any `warren` command on a node of the lab: warren lab on node1 pods."""
    _become(name, node, *arguments)


def _become(name: str, node: str, *arguments: str) -> None:
    """A `warren` command on a node of the lab."""
    found = Lab.open(name).node(node)
    argv = found.command([sys.executable, "-P", "-m", "agent.cli.main", *arguments])
    os.execvpe(argv[0], argv, {**os.environ, "WARREN_RUN_DIR": str(found.run_dir)})


@lab.command(cls=Command)
@click.pass_obj
def demo(name: str) -> int:
    """Show in the lab that is up what the mesh does. Ends with 1 if something does not hold."""
    console = Console(highlight=False, soft_wrap=True)
    held = True
    with opened(name) as there:
        for evidence in demonstrate(there):
            held = held and evidence.holds
            console.print("[green]holds[/] " if evidence.holds else "[red]FAILS[/] ", evidence.claim, sep="")
            for line in evidence.seen:
                console.print(f"        {line}", style="dim", markup=False)
    if held:
        console.print(_NEXT, markup=False)
    return 0 if held else 1


for command in (*COMMANDS, dashboard):
    lab.add_command(command)

_NEXT = """
What to try next:
    warren lab status
    warren lab check
    warren lab dashboard                        # the live map, for a browser
    warren lab authz node1 explain client web
    warren lab exec deploy/client -- curl -s http://web/
    warren lab exec deploy/client -- bash
    warren lab logs tunnel node1 --follow       # each connection
    warren lab stop tunnel; warren lab check    # what is seen of a fault
    warren lab up --again --manifests YOUR_MANIFESTS
    warren lab down"""
_COLUMNS = {
    "nodes": ("name", "addresses", "processes"),
    "pods": ("namespace", "name", "node", "addresses", "enrolled", "captured", "processes"),
    "services": ("namespace", "name", "addresses", "ports"),
}


def _cell(value: Any) -> str:
    """A field of `agent.lab.status` for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "\n".join(f"{role} {_cell(found) or 'ended'}" for role, found in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(f"{one['pid']} ({one['resident_bytes'] / _MEGABYTE:.0f} MB)" for one in value)
    return "\n".join(value) if isinstance(value, list) else str(value)
