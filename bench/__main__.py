"""The command `python -m bench`."""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agent.errors import WarrenError
from bench import tools
from bench.baseline import built
from bench.environment import describe
from bench.errors import BenchError
from bench.output import write
from bench.processes import Processes
from bench.quiet import Patience
from bench.run import Run
from bench.settings import NAMES, NEEDS, Settings
from bench.stage import stage
from bench.workloads import workloads

LOCK = Path("/run/lock/warren-bench")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(context_settings={"auto_envvar_prefix": "WARREN_BENCH"})
@click.option(
    "--rounds", type=click.IntRange(1), help="How often each path is measured.  [5; with --quick 1]"
)
@click.option(
    "--ztunnel", type=click.Path(path_type=Path), help="The binary of a ztunnel to measure as well."
)
@click.option(
    "--baseline", type=click.Path(path_type=Path), help="Another built checkout of Warren, to compare with."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default="build/bench", show_default=True, help="For results."
)
@click.option("--paths", default="all", show_default=True, help=f"Some of {','.join(NAMES)}.")
@click.option("--quick", is_flag=True, help="Short measurements, no waiting: to see that all works.")
@click.option(
    "--patience", default=300.0, show_default=True, help="Seconds in all to wait for a quiet machine."
)
def main(
    *,
    rounds: int | None,
    ztunnel: Path | None,
    baseline: Path | None,
    out: Path,
    paths: str,
    quick: bool,
    patience: float,
) -> None:
    """Measure Warren beside no mesh, Envoy, ztunnel and another build of itself in pods of a lab.

    Writes OUT/results.json, OUT/results.md and OUT/results.png.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupted)
    console = Console(stderr=True, highlight=False)
    try:
        ztunnel = tools.executable(ztunnel) if ztunnel else None
        baseline = built(baseline) if baseline else None
        names = choose(paths, {"ztunnel": ztunnel, "baseline": baseline})
        rounds = rounds or (1 if quick else 5)
        wait = 0.0 if quick else patience
        bench(Settings(names, rounds, ztunnel, baseline, out.resolve(), quick, wait), console)
    except WarrenError as error:
        console.print(f"bench: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


def _interrupted(number: int, _: FrameType | None) -> None:
    """End by way of every `finally`, once: a second signal must not interrupt the cleaning up."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def choose(paths: str, options: Mapping[str, Path | None]) -> tuple[str, ...]:
    """The paths that `paths` names, in order; of "all", those whose option (by its name) is given."""
    lacking = {name: option for name, option in NEEDS.items() if not options.get(option)}
    if paths == "all":
        return tuple(name for name in NAMES if name not in lacking)
    asked = [name.strip() for name in paths.split(",")]
    for name in asked:
        if name not in NAMES:
            raise BenchError(f"--paths: {name!r} is none of {', '.join(NAMES)}")
        if name in lacking:
            raise BenchError(f"--paths names {name}: --{lacking[name]} PATH must say where it is")
    return tuple(name for name in NAMES if name in asked)


def bench(settings: Settings, console: Console) -> None:
    """Everything: check, build, measure, write. Raises WarrenError."""
    if os.geteuid() != 0:
        raise BenchError("needs root: it makes network namespaces")
    tools.require("iperf3", "wrk", "ss")
    tools.require_plots()
    logs = settings.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    environment = describe(settings)
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_alone())
        progress = stack.enter_context(_progress(console))
        progress.console.print(f"paths: {', '.join(settings.paths)}; rounds: {settings.rounds}")
        processes = Processes(tools.build_load(tools.ROOT / "build/load"), logs)
        paths = stack.enter_context(stage(settings, processes))
        run = Run(processes, paths, Patience(settings.patience), one_cpu=max(os.sched_getaffinity(0)))
        _measure(run, progress, settings)
    environment["minutes"] = round((time.monotonic() - started) / 60, 1)
    write(settings, environment, run.records, run.failures)
    console.print(f"results: {settings.out}/results.md, results.json, results.png", soft_wrap=True)
    if run.failures:
        raise BenchError(f"{len(run.failures)} measurements failed, the first: {run.failures[0].reason}")


@contextmanager
def _alone() -> Iterator[None]:
    """Two benchmarks at once would measure each other. Raises BenchError when there is another."""
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError("another benchmark runs: wait for its end") from None
        yield


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console, transient=True)


def _measure(run: Run, progress: Progress, settings: Settings) -> None:
    """Everything in order, on a bar."""
    todo = workloads(settings.quick)
    task = progress.add_task("", total=settings.rounds * len(settings.paths) * len(todo) * 2)

    def say(what: str) -> None:
        progress.update(task, description=what)

    def step(what: str) -> None:
        progress.update(task, description=what, advance=1)

    seconds = 1.0 if settings.quick else 2.0
    run.prepare()
    run.once_fresh(seconds, say)
    for number in range(settings.rounds):
        run.round(number, todo, seconds, step)
        progress.console.print(f"round {number + 1} of {settings.rounds} done")
    run.many_idle(seconds if settings.quick else 10.0, say)


if __name__ == "__main__":
    main()
