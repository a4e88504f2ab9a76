"""`make soak`: a mesh under load, churn and restarts, and whether anything grows (exit code 1)."""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.soak.samples import JUDGED, WARM_UP, Sample, Trend, trends
from tests.soak.stage import Stage, stage

EVERY = 5.0  # seconds from one sample to the next
CALM = 30.0  # seconds for what has ended to be let go
# What may be left when all is calm again: sockets that are made ahead, and what pools keep.
LEFT = {"descriptors": 32.0, "map": 0.0, "processes": 0.0, "namespaces": 0.0}


@click.command(context_settings={"show_default": True})
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=1 / 3)
@click.option("--seed", type=int, default=1, help="Of what happens, and in which order.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build/soak"), help="For soak.json, logs."
)
def main(*, hours: float, seed: int, out: Path) -> None:
    """Load, churn and restarts for so many hours; prints slopes and a verdict, keeps all in OUT."""
    out.mkdir(parents=True, exist_ok=True)
    with stage(f"soak-{os.getpid()}", out, seed) as running:
        before = running.sample()
        samples = soak(running, hours * 3600)
        left = leftovers(running, before)
    found = trends(samples)
    verdict = verdicts(found, left, running.errors)
    (out / "soak.json").write_text(
        json.dumps(
            {
                "hours": hours,
                "seed": seed,
                "events": running.events,
                "errors": running.errors,
                "left": left,
                "verdict": verdict or ["nothing grows, nothing is left, nothing failed"],
                "trends": [{**one._asdict(), "grows": one.grows} for one in found],
                "samples": [{"at": round(at, 1), **figures} for at, figures in samples],
            },
            indent=1,
        )
    )
    show(found, running, verdict, fit=round(hours * 3600 / EVERY))
    sys.exit(bool(verdict))


def soak(running: Stage, seconds: float) -> list[Sample]:
    """A sample and an event, in turns, until the time is over."""
    samples, began = [], time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        samples.append(Sample(at, running.sample()))
        running.churn()
        time.sleep(max(0.0, began + at + EVERY - time.monotonic()))
    return samples


def leftovers(running: Stage, before: dict[str, float]) -> dict[str, float]:
    """What there is more of than before when nobody calls any more, and by how much."""
    running.settle()
    deadline = time.monotonic() + CALM
    while True:
        now = running.sample()
        more = {
            name: now[name] - before[name]
            for name in before.keys() & now.keys()
            if (most := LEFT.get(name.partition(" ")[0])) is not None and now[name] > before[name] + most
        }
        if not more or time.monotonic() > deadline:
            return more


def verdicts(found: Sequence[Trend], left: dict[str, float], errors: Sequence[str]) -> list[str]:
    """What is wrong; nothing where all is well."""
    grown = [
        f"{one.name} grows by {one.slope:.0f} ± {one.error:.0f} {one.unit} an hour"
        for one in found
        if one.grows
    ]
    kept = [f"{name}: {more:.0f} more are left than there were" for name, more in left.items()]
    failed = [f"{len(errors)} calls failed: {errors[0]}"] if errors else []
    return [*grown, *kept, *failed]


def show(found: Sequence[Trend], running: Stage, verdict: Sequence[str], fit: int) -> None:
    """fit: how many events there are time for."""
    table = Table("figure", "first", "last", "an hour", "±", "at most")
    for one in found:
        numbers = (one.first, one.last, one.slope, one.error)
        table.add_row(one.name, *(f"{number:,.1f}" for number in numbers), f"{one.limit:g} {one.unit}")
    console = Console(highlight=False)
    console.print(table)
    events = running.events
    console.print(
        f"after a warm-up of {WARM_UP:.0%}; {events.total()} events, on an idle machine {fit}: "
        f"{', '.join(f'{number} x {event}' for event, number in events.items())}"
    )
    if found and found[0].seconds < JUDGED:
        console.print("too short to judge slopes: ten minutes are needed")
    console.print("\n".join(verdict) or "nothing grows, nothing is left, nothing failed", markup=False)


if __name__ == "__main__":
    main()
