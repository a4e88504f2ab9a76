"""What was measured, and its medians."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """What was measured: a workload over a path, maybe with everything on one CPU.

    `round` is None for what is measured once, before or after the rounds.
    """

    path: str
    workload: str
    one_cpu: bool = False
    round: int | None = None


@dataclass(frozen=True)
class Record:
    """One measurement that counts. `figures` holds its numbers by name.

    `foreign` is the number of CPUs busy with something else meanwhile, `attempts` how often it was tried
    until that was little (or until we gave up: `noisy`), `processes` the CPU seconds of all who took part.
    """

    cell: Cell
    figures: dict[str, float]
    foreign: float = 0.0
    attempts: int = 1
    noisy: bool = False
    processes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A measurement that failed, and why."""

    cell: Cell
    reason: str


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of `count` values."""

    median: float
    low: float
    high: float
    count: int


Summary = dict[str, dict[str, Spread]]
"""Spreads by figure (`key`) and path."""


def key(workload: str, figure: str, one_cpu: bool = False) -> str:
    """The name of a figure in a summary, as in `connect@1cpu.per_second`."""
    return f"{workload}{'@1cpu' if one_cpu else ''}.{figure}"


def summarise(records: Iterable[Record]) -> Summary:
    """Spread of each figure over the rounds, path by path."""
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for figure, value in record.figures.items():
            by_path = values.setdefault(key(record.cell.workload, figure, record.cell.one_cpu), {})
            by_path.setdefault(record.cell.path, []).append(value)
    return {name: {path: spread(v) for path, v in by_path.items()} for name, by_path in values.items()}


def spread(values: list[float]) -> Spread:
    """Median, minimum and maximum of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratio(summary: Summary, name: str, path: str, reference: str) -> float | None:
    """Median of `path` in proportion to that of `reference`; None where there is no such proportion."""
    by_path = summary.get(name, {})
    if path not in by_path or reference not in by_path or by_path[reference].median == 0:
        return None
    return by_path[path].median / by_path[reference].median
