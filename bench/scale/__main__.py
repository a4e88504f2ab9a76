"""The command `python -m bench.scale`."""

import asyncio
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agent.errors import WarrenError
from bench.errors import BenchError
from bench.scale import loader, node, pods, report, run
from bench.scale.api import Api
from bench.scale.cluster import Size


@click.command(context_settings={"auto_envvar_prefix": "WARREN_BENCH_SCALE", "show_default": True})
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Of the API server to load the cluster into.  [default: the tests' own server]",
)
@click.option("--services", type=click.IntRange(10), default=Size().services)
@click.option("--pods", "pod_count", type=click.IntRange(10), default=Size().pods)
@click.option("--nodes", type=click.IntRange(1), default=Size().nodes)
@click.option("--rate", type=click.FloatRange(1), default=100.0, help="Pod changes per second.")
@click.option("--seconds", type=click.FloatRange(2), default=60.0, help="For how long pods change.")
@click.option("--rounds", type=click.IntRange(0), default=3, help="0: load, and measure another time.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build/bench-scale"), help="For results."
)
def main(
    *,
    kubeconfig: Path | None,
    services: int,
    pod_count: int,
    nodes: int,
    rate: float,
    seconds: float,
    rounds: int,
    out: Path,
) -> None:
    """Load a large cluster into an API server, and measure one agent and its tunnel on it.

    Writes OUT/results.json and OUT/results.md. The cluster stays in the server: a second run finds it there.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    console = Console(stderr=True, highlight=False)
    plan = run.Plan(Size(services, pod_count, nodes), rate, seconds)
    try:
        if os.geteuid() != 0:
            raise BenchError("needs root: the agent loads its programs, pods are network namespaces")
        with ExitStack() as stack:
            out = out.resolve()
            out.mkdir(parents=True, exist_ok=True)
            server = kubeconfig or stack.enter_context(node.own_server(out))
            at = stack.enter_context(node.place(out, server))
            figures = asyncio.run(measure(plan, at, rounds, console))
        if figures:
            report.write(out, _environment(plan, kubeconfig), figures)
            console.print((out / "results.md").read_text(), markup=False, soft_wrap=True)
    except* WarrenError as group:
        for error in _errors(group):
            console.print(f"bench: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)


async def measure(plan: run.Plan, at: node.Place, rounds: int, console: Console) -> list[run.Figures]:
    """Load, then all rounds. Raises BenchError."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    async with Api.connect(at.kubeconfig) as api:
        with Progress(*columns, console=console) as progress:
            kinds = loader.kinds(plan.size)
            bars = {kind: progress.add_task(kind, total=count) for kind, (count, _) in kinds.items()}
            await loader.load(api, plan.size, lambda kind, more: progress.advance(bars[kind], more))
        figures = []
        with pods.namespaces() as spaces:
            for number in range(rounds):
                console.print(f"round {number + 1} of {rounds}")
                figures.append(await run.round_(plan, at, api, spaces, console.print))
        return figures


def _interrupted(number: int, _: FrameType | None) -> None:
    """End by way of every `finally`."""
    sys.exit(128 + number)


def _environment(plan: run.Plan, kubeconfig: Path | None) -> dict[str, object]:
    return {
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "CPUs": os.cpu_count(),
        "load": " ".join(f"{one:.1f}" for one in os.getloadavg()),
        "kernel": platform.release(),
        "API server": str(kubeconfig or "the tests' own"),
        **plan.size._asdict(),
        "changes per second": plan.rate,
        "for seconds": plan.seconds,
    }


def _errors(group: BaseExceptionGroup[WarrenError]) -> Iterator[WarrenError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _errors(error)
        else:
            yield error


if __name__ == "__main__":
    main()
