"""`warren check`: what the kernel holds on this node, and what is wrong with it.

Changes nothing, and needs no agent: one that runs is asked whether it is ready, which objects it refuses, and
which pods it captures.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from agent.cli.command import Command, option
from agent.node import features
from agent.node.features import Feature
from agent.node.report import Report, ask
from agent.node.view import NodeView, look

AGENT = "http://127.0.0.1:15014"


def _own_agent() -> str:
    """Where the agent answers that has our environment, as in its container."""
    address = os.environ.get("WARREN_HTTP_ADDRESS", "127.0.0.1")
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{os.environ.get('WARREN_METRICS_PORT', '15014')}"


@click.command(cls=Command)
@option(
    "--cgroup",
    type=click.Path(path_type=Path),
    default="/sys/fs/cgroup",
    help="cgroup v2 directory at which the programs are attached",
)
@option(
    "--bpffs",
    type=click.Path(path_type=Path),
    default="/sys/fs/bpf/warren",
    help="directory in a bpffs where the programs are pinned",
)
@option(
    "--agent",
    default=_own_agent,
    show_default="by WARREN_HTTP_ADDRESS and WARREN_METRICS_PORT",
    help="where the agent answers: its metrics port",
)
@option("--json", "as_json", envvar="WARREN_JSON", is_flag=True, help="for machines")
def check(cgroup: Path, bpffs: Path, agent: str, as_json: bool) -> int:
    """Say what the kernel holds on this node: features, programs, pods, verdicts.

    Exit code 1 if something is wrong; it is named.
    """
    return report(cgroup, bpffs, ask(agent), as_json)


def report(cgroup: Path, bpffs: Path, told: Report | None, as_json: bool) -> int:
    """Print what there is of one node, and give the exit code. told: by its agent, None if none answers."""
    found = features.features()
    view = look(cgroup, bpffs, told.wanted if told else None)
    lack = features.missing()
    unready = [f"the agent is not ready: {reason}" for reason in told.unready] if told else []
    refused = [f"refused object: {reason}" for reason in told.refused] if told else []
    problems = [*unready, *refused, *([lack] if lack else []), *view.problems]
    if as_json:
        click.echo(json.dumps(_plain(found, view, problems), indent=2))
    else:
        _show(Console(), found, view, problems)
    return 1 if problems else 0


def _plain(found: list[Feature], view: NodeView, problems: list[str]) -> dict[str, object]:
    return {
        "features": [dataclasses.asdict(feature) for feature in found],
        "programs": view.programs,
        "pods": {
            str(cookie): dataclasses.asdict(pod) | {"addresses": [str(address) for address in pod.addresses]}
            for cookie, pod in view.pods.items()
        },
        "tunnels": view.tunnels,
        "kubelets": view.kubelets,
        "verdicts": view.verdicts,
        "problems": problems,
    }


def _show(console: Console, found: list[Feature], view: NodeView, problems: list[str]) -> None:
    console.print(_table("Kernel", ("feature", "", "since", "needed for"), [_feature_row(f) for f in found]))
    programs = [(name, _mark(attached)) for name, attached in view.programs.items()]
    console.print(_table("Programs", ("program", "attached"), programs))
    pods = [
        (
            pod.name,
            "not known" if pod.wanted is None else _mark(pod.wanted),
            " ".join(map(str, pod.addresses)),
            *map(_mark, (pod.captured, pod.listening, pod.routing)),
            " ".join(map(str, pod.probe_ports)),
        )
        for pod in view.pods.values()
    ]
    columns = ("pod", "wanted", "addresses", "captured", "tunnel", "routing", "probes on")
    console.print(_table("Pods", columns, pods))
    verdicts = [(name.replace("_", " "), str(number)) for name, number in view.verdicts.items() if number]
    console.print(_table("Verdicts", ("verdict", "times"), verdicts))
    for problem in problems:
        console.print(f"wrong: {problem}", style="bold red", markup=False, highlight=False)
    if not problems:
        console.print("all is well", style="green")


def _feature_row(feature: Feature) -> tuple[str, ...]:
    return feature.name, _mark(feature.present), feature.since, feature.needed_for


def _mark(good: bool) -> str:
    return "[green]yes[/]" if good else "[red]no[/]"


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
