"""The command `python -m bench.l7`."""

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from agent.errors import WarrenError
from bench import tools
from bench.errors import BenchError
from bench.l7.report import GRPC, HTTP1, markdown
from bench.l7.stage import PLANS, stage
from bench.l7.workloads import workloads
from bench.measure import measure
from bench.path import DataPath
from bench.processes import Processes
from bench.results import Cell, Record, summarise
from bench.workloads import Workload

READY_WITHIN = 30.0  # seconds
LACKING = {"warren-l4": (HTTP1, GRPC), "warren-1000": (GRPC, "download")}
"""Workloads that a path is not there for."""


@click.command(context_settings={"auto_envvar_prefix": "WARREN_BENCH_L7"})
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=3, show_default=True, type=click.IntRange(1), help="For a measurement.")
@click.option("--paths", default="all", show_default=True, help=f"Some of {','.join(PLANS)}.")
@click.option(
    "--ztunnel",
    type=click.Path(path_type=Path),
    help="The binary of a ztunnel: two, with Envoy as a waypoint, are measured as well (path ambient).",
)
@click.option("--out", type=click.Path(path_type=Path), default="build/bench-l7", show_default=True)
def main(*, rounds: int, seconds: int, paths: str, ztunnel: Path | None, out: Path) -> None:
    """Measure routed requests through Warren beside two Envoys, and beside ztunnel with a waypoint.

    Writes OUT/results.json and OUT/results.md.
    """
    console = Console(stderr=True, highlight=False)
    try:
        ztunnel = tools.executable(ztunnel) if ztunnel else None
        names = choose(paths, ztunnel)
        records = _run(names, console, ztunnel=ztunnel, rounds=rounds, seconds=seconds, out=out.resolve())
    except WarrenError as error:
        console.print(f"bench-l7: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    (out / "results.json").write_text(json.dumps([asdict(record) for record in records], indent=1) + "\n")
    page = markdown(summarise(records))
    (out / "results.md").write_text(page)
    click.echo(page)


def choose(paths: str, ztunnel: Path | None) -> list[str]:
    """The paths that `paths` names; of "all", those for which there is what they need. Raises BenchError."""
    lacking = [name for name, plan in PLANS.items() if plan.through == "ztunnel" and not ztunnel]
    if paths == "all":
        return [name for name in PLANS if name not in lacking]
    names = paths.split(",")
    for name in names:
        if name not in PLANS:
            raise BenchError(f"--paths: {name!r} is none of {', '.join(PLANS)}")
        if name in lacking:
            raise BenchError(f"--paths names {name}: --ztunnel PATH must say where it is")
    return names


def _run(
    names: list[str], console: Console, *, ztunnel: Path | None, rounds: int, seconds: int, out: Path
) -> list[Record]:
    """Every path in each round, another one first each time. Raises WarrenError."""
    if os.geteuid() != 0:
        raise BenchError("needs root: it makes network namespaces")
    tools.require("wrk", "h2load", "nghttpd", "curl")
    (out / "logs").mkdir(parents=True, exist_ok=True)
    processes = Processes(tools.build_load(tools.ROOT / "build/load"), out / "logs")
    todo, records = workloads(seconds, out), []
    with stage(names, processes, out, ztunnel) as (paths, servers):
        for path in paths:
            _wait(processes, path, servers[path.name], workloads(1, out))
        for number in range(rounds):
            first = number % len(paths)
            for path in [*paths[first:], *paths[:first]]:
                for workload in _of(path, todo):
                    console.print(f"round {number + 1} of {rounds}: {path.name}, {workload.name}")
                    found = measure(processes.load, path, workload, servers[path.name], None)
                    figures = {**found.values, "cpu": found.proxies_per_unit}
                    records.append(
                        Record(Cell(path.name, workload.name, False, number), figures, found.foreign)
                    )
    return records


def _of(path: DataPath, todo: list[Workload]) -> list[Workload]:
    return [workload for workload in todo if workload.name not in LACKING.get(path.name, ())]


def _wait(processes: Processes, path: DataPath, server: int, todo: list[Workload]) -> None:
    """Until a path carries each workload. Raises BenchError when it does not in time."""
    deadline = time.monotonic() + READY_WITHIN
    for workload in _of(path, todo):
        while True:
            try:
                measure(processes.load, path, workload, server, None)
                break
            except BenchError as error:
                processes.check()
                if time.monotonic() > deadline:
                    raise BenchError(f"{path.name} does not carry {workload.name}: {error}") from error
            time.sleep(0.2)


if __name__ == "__main__":
    main()
