"""The command `python -m bench.hostile`."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from agent.errors import WarrenError
from bench import tools
from bench.errors import BenchError
from bench.hostile import flood
from bench.hostile.attack import UNREAD, UNREAD_COUNT, Outcome, Strength, attack
from bench.hostile.bounds import broken
from bench.hostile.report import markdown
from bench.hostile.stage import stage
from bench.processes import Processes


@click.command(context_settings={"auto_envvar_prefix": "WARREN_HOSTILE"})
@click.option("--seconds", default=60.0, show_default=True, help="For all attacks at once.")
@click.option("--each", default=5.0, show_default=True, help="Seconds for each alone, before; 0: none.")
@click.option("--rate", default=100.0, show_default=True, help="MB/s at most.")
@click.option("--only", default="", help="Some of the attacks, with commas between them.")
@click.option("--list", "listing", is_flag=True, help="Say what attacks there are.")
@click.option("--out", type=click.Path(path_type=Path), default="build/hostile", show_default=True)
def main(*, seconds: float, each: float, rate: float, only: str, listing: bool, out: Path) -> None:
    """Attack a tunnel of a lab as a peer with a right certificate, from one CPU.

    Ends with status 1 when a bound is broken. Writes OUT/results.md and OUT/results.json.
    """
    console = Console(stderr=True, highlight=False)
    try:
        load = tools.build_load(tools.ROOT / "build/load")
        known = _attacks(load)
        if listing:
            for name, about in known.items():
                console.print(f"{name:14} {about}", soft_wrap=True)
            return
        names = _choose(only, list(known))
        outcomes = _run(load, names, (seconds, each, rate), out.resolve(), console)
    except WarrenError as error:
        console.print(f"hostile: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    sys.exit(any(broken(outcome) for outcome in outcomes))


def _attacks(load: Path) -> dict[str, str]:
    """What each attack does, by its name."""
    told = subprocess.run([load, "attacks"], capture_output=True, text=True, check=True).stdout
    about = dict(line.split("\t") for line in told.splitlines())
    about[UNREAD] = f"{UNREAD_COUNT} downloads that an application does not read"
    return {**about, **flood.about()}


def _choose(only: str, known: list[str]) -> list[str]:
    names = [name.strip() for name in only.split(",")] if only else known
    if unknown := [name for name in names if name not in known]:
        raise BenchError(f"--only: {unknown[0]!r} is none of {', '.join(known)}")
    return names


def _run(
    load: Path, names: list[str], how: tuple[float, float, float], out: Path, console: Console
) -> list[Outcome]:
    """Nothing, each alone, and all at once. Raises WarrenError."""
    seconds, each, rate = how
    if os.geteuid() != 0:
        raise BenchError("needs root: it makes network namespaces")
    (out / "logs").mkdir(parents=True, exist_ok=True)
    plan: list[tuple[list[str], float]] = [([], each or seconds)]
    plan += [([name], each) for name in names if each]
    attacks = [name for name in names if name not in flood.about()]
    plan += [(attacks, seconds)] if seconds and len(attacks) > 1 else []
    outcomes = []
    cpu = max(os.sched_getaffinity(0))
    with stage(Processes(load, out / "logs"), out) as place:
        for chosen, length in plan:
            console.print(f"{length:g} s: {', '.join(chosen) or 'no attack'}", soft_wrap=True)
            outcome = attack(place, chosen, Strength(length, rate, cpu))
            for what in broken(outcome):
                console.print(f"  BROKEN: {what}", style="red", markup=False, soft_wrap=True)
            outcomes.append(outcome)
            (out / "results.json").write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n")
    page = markdown(outcomes)
    (out / "results.md").write_text(page)
    click.echo(page)
    return outcomes


if __name__ == "__main__":
    main()
