"""`warren check`: whether Warren does its work on this node, and what to do where it does not.

Changes nothing. Agent and tunnel are asked over HTTP, so that it runs from either container; the agent looks
at the kernel, and this program does where no agent answers.
"""

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli.admin_client import TUNNEL
from agent.cli.checks import CHECKS
from agent.cli.checks.check import Result, Seen, run
from agent.cli.checks.cluster import gather
from agent.cli.command import Command, option
from agent.cli.health import Health, Parts, diagnose, inspect
from agent.cli.types import READABLE_FILE
from agent.errors import WarrenError
from agent.node import features
from agent.node.features import Feature
from agent.node.report import Report
from agent.node.view import NodeView, look

if TYPE_CHECKING:
    from agent.kube.client import Client

AGENT = "http://127.0.0.1:15014"
_CGROUP = Path("/sys/fs/cgroup")
_ROOT = 1  # inode of the root of the cgroup v2 hierarchy
_WIDTH = 80  # columns of what is to be read at 3 a.m.
_NAMED = 3  # pods with the same fault that are named
_SHOWN = 5  # problems of one kind that are shown without -v: what else there is must stay in sight
_POD = re.compile(r"pod (\S+): (.*)", re.DOTALL)


def _own_agent() -> str:
    """Where the agent answers that has our environment, as in its container and its tunnel's."""
    address = os.environ.get("WARREN_HTTP_ADDRESS", "127.0.0.1")
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{os.environ.get('WARREN_METRICS_PORT', '15014')}"


@click.command(cls=Command)
@option(
    "--cgroup",
    type=click.Path(path_type=Path),
    default=_CGROUP,
    help="cgroup v2 directory at which the programs are attached, where no agent answers",
)
@option(
    "--bpffs",
    type=click.Path(path_type=Path),
    default="/sys/fs/bpf/warren",
    help="directory in a bpffs where the programs are pinned, where no agent answers",
)
@option(
    "--agent",
    default=_own_agent,
    show_default="by WARREN_HTTP_ADDRESS and WARREN_METRICS_PORT",
    help="where the agent answers: its metrics port",
)
@option("--tunnel", default=TUNNEL, envvar=None, help="where the tunnel answers: its admin port")
@option("--before", is_flag=True, envvar=None, help="before installing: what has to be there for it")
@option(
    "--list", "listing", is_flag=True, envvar=None, help="name all checks, and what to do where one fails"
)
@option("--kubeconfig", type=READABLE_FILE, envvar=None, help="look at the cluster, too, as this user")
@option(
    "-v", "--verbose", is_flag=True, envvar=None, help="list all checks, programs, pods and verdicts, too"
)
@option("--json", "as_json", envvar="WARREN_JSON", is_flag=True, help="for machines")
def check(
    cgroup: Path,
    bpffs: Path,
    *,
    agent: str,
    tunnel: str,
    before: bool,
    listing: bool,
    kubeconfig: Path | None,
    verbose: bool,
    as_json: bool,
) -> int:
    """Say whether agent, tunnel, CA, certificates, objects and kernel of this node are as they should be.

    Exit code 1 if something is wrong; it is named, with what to do. Takes 2 seconds at most. docs/checks.md
    has a line for each check.

    \b
    Examples:
      warren check
      warren check --before --kubeconfig ~/.kube/config
      warren check --list
    """
    if listing:
        _list()
        return 0
    cluster = _cluster(kubeconfig) if kubeconfig else None
    if before:
        return _report_before(cgroup, bpffs, cluster, verbose=verbose, as_json=as_json)
    return report(cgroup, bpffs, inspect(agent, tunnel), verbose=verbose, as_json=as_json, cluster=cluster)


def report(
    cgroup: Path,
    bpffs: Path,
    parts: Parts,
    *,
    verbose: bool,
    as_json: bool,
    cluster: dict[str, Any] | None = None,
) -> int:
    """Print what there is to say of one node, and give the exit code."""
    health, view = diagnose(parts), _view(cgroup, bpffs, parts)
    if not isinstance(parts.agent, Report) and (lack := features.missing()):
        health.problems.append(lack)
    if view:
        health.problems.extend(view.problems)
    else:
        health.remarks.append("kernel: cannot be seen from this container; run `warren check` in the agent's")
    found = features.features()
    results = run(CHECKS, Seen(tuple(found), parts, view, cgroup=cgroup, bpffs=bpffs, cluster=cluster))
    _judge(results, health)
    if as_json:
        told = {**_plain(found, view or NodeView(), health), "checks": [*map(_told, results)]}
        click.echo(json.dumps(told, indent=2))
    else:
        _show(health, view, results, verbose=verbose)
        if verbose:
            _show_checks(results)
            _show_kernel(Console(), view or NodeView())
    return 1 if health.problems else 0


def _report_before(
    cgroup: Path, bpffs: Path, cluster: dict[str, Any] | None, *, verbose: bool, as_json: bool
) -> int:
    seen = Seen(tuple(features.features()), cgroup=cgroup, bpffs=bpffs, cluster=cluster)
    results = run([one for one in CHECKS if one.before], seen)
    health = Health([], [], {})
    _judge(results, health)
    if as_json:
        told = {"problems": health.problems, "remarks": health.remarks, "checks": [*map(_told, results)]}
        click.echo(json.dumps(told, indent=2))
    else:
        _show(health, None, results, verbose=verbose)
        if verbose:
            _show_checks(results)
    return 1 if health.problems else 0


def _judge(results: Iterable[Result], health: Health) -> None:
    """Add what failed and is not told in words of its own."""
    for result in results:
        if result.state == "wrong" and not result.check.told:
            health.problems.append(result.line)
        elif result.state == "note" and not result.check.told:
            health.remarks.append(result.line)


def _told(result: Result) -> dict[str, str]:
    check = result.check
    names = {"name": check.name, "state": result.state, "said": result.said}
    return {**names, "asks": check.asks, "remedy": check.remedy, "page": check.page}


def _cluster(kubeconfig: Path) -> dict[str, Any]:
    from agent.kube.client import Client  # noqa: PLC0415  (a third of a second, for those who ask)

    client = Client.load(kubeconfig)
    try:
        return gather(lambda path: _read(client, path), lambda: client.dated("/version")[1])
    finally:
        client.close()


def _read(client: "Client", path: str) -> Any:
    """Raises OSError where it may not be read."""
    try:
        return client.read(path)
    except WarrenError as error:
        raise OSError(str(error)) from error


def _list() -> None:
    console = Console(highlight=False)
    _lines(
        console, ((one.name, f"{one.asks}. Else: {one.remedy}.") for one in CHECKS), ("bold", ""), colon=""
    )


def _view(cgroup: Path, bpffs: Path, parts: Parts) -> NodeView | None:
    """As the agent tells it, else as it is seen from here; None: it is not, a container has its own root."""
    if isinstance(parts.agent, Report):
        return parts.agent.view
    if cgroup == _CGROUP and cgroup.is_dir() and cgroup.stat().st_ino != _ROOT:
        return None
    return look(cgroup, bpffs)


def _plain(found: list[Feature], view: NodeView, health: Health) -> dict[str, object]:
    return {
        "problems": health.problems,
        "remarks": health.remarks,
        "parts": health.parts,
        "features": [dataclasses.asdict(feature) for feature in found],
        "programs": view.programs,
        "pods": {str(cookie): dataclasses.asdict(pod) for cookie, pod in view.pods.items()},
        "tunnels": view.tunnels,
        "kubelets": view.kubelets,
        "verdicts": view.verdicts,
    }


def _show(health: Health, view: NodeView | None, results: Sequence[Result], *, verbose: bool) -> None:
    console = Console(highlight=False)
    console.width = min(console.width, _WIDTH)
    problems, remarks = grouped(health.problems), iter(health.remarks)
    if not verbose:
        problems, remarks = shortened(problems), shortened(remarks)
    _lines(console, (("wrong", problem) for problem in problems), ("bold red", "bold"))
    _lines(console, (("note", remark) for remark in remarks), ("yellow", ""))
    parts = health.parts | ({"kernel": _in_kernel(view)} if view else {})
    _lines(console, parts.items(), ("dim", "dim"))
    if count := len(health.problems):
        console.print(f"{count} problem{'s' if count > 1 else ''}", style="red")
    else:
        console.print("all is well", style="green")
    counts = Counter(result.state for result in results)
    parts_of = [f"{counts[state]} {state}" for state in ("well", "wrong", "note", "unknown") if counts[state]]
    console.print(f"{len(results)} checks: {', '.join(parts_of)}", style="dim")


def _lines(
    console: Console, lines: Iterable[tuple[str, str]], styles: tuple[str, str], colon: str = ":"
) -> None:
    """Each with its word in front, wrapped beside it."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for word, text in lines:
        grid.add_row(Text(f"{word}{colon}", styles[0]), Text(text, styles[1]))
    if grid.rows:
        console.print(grid)


def grouped(problems: Sequence[str]) -> Iterator[str]:
    """Those that pods have in common once, with the names of the first pods."""
    pods: dict[str, list[str]] = {}
    for problem in problems:
        if match := _POD.fullmatch(problem):
            pods.setdefault(match[2], []).append(match[1])
        else:
            yield problem
    for text, names in pods.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"pod{'s' if len(names) > 1 else ''} {', '.join(names[:_NAMED])}{more}: {text}"


def shortened(lines: Iterable[str]) -> Iterator[str]:
    """Of each kind, which is what stands before the colon, the first ones, and how many more there are."""
    kinds: dict[str, list[str]] = {}
    for line in lines:
        kinds.setdefault(line.partition(":")[0], []).append(line)
    for kind, those in kinds.items():
        yield from those[:_SHOWN]
        if len(those) > _SHOWN:
            yield f"{kind}: {len(those) - _SHOWN} more, which -v shows"


def _in_kernel(view: NodeView) -> str:
    captured = sum(pod.captured for pod in view.pods.values())
    return f"{sum(view.programs.values())} programs attached, {captured} pods captured"


def _show_checks(results: Sequence[Result]) -> None:
    """Those that failed first."""
    order = ("wrong", "note", "unknown", "well")
    styles = {"wrong": "bold red", "note": "yellow", "unknown": "dim", "well": "green"}
    rows = [
        (f"[{styles[one.state]}]{one.state}[/]", one.check.name, one.said or one.check.asks)
        for one in sorted(results, key=lambda one: order.index(one.state))
    ]
    Console(highlight=False).print(_table("Checks", ("", "check", ""), rows))


def _show_kernel(console: Console, view: NodeView) -> None:
    programs = [(name, _mark(attached)) for name, attached in view.programs.items()]
    console.print(_table("Programs", ("program", "attached"), programs))
    pods = [
        (
            pod.name,
            "not known" if pod.wanted is None else _mark(pod.wanted),
            " ".join(pod.addresses),
            *map(_mark, (pod.captured, pod.listening, pod.routing)),
            " ".join(map(str, pod.probe_ports)),
        )
        for pod in view.pods.values()
    ]
    columns = ("pod", "wanted", "addresses", "captured", "tunnel", "routing", "probes on")
    console.print(_table("Pods", columns, pods))
    verdicts = [(name.replace("_", " "), str(number)) for name, number in view.verdicts.items() if number]
    console.print(_table("Verdicts", ("verdict", "times"), verdicts))


def _mark(good: bool) -> str:
    return "[green]yes[/]" if good else "[red]no[/]"


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
