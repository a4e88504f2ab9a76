"""What is sampled in a soak, and what the samples say: slopes by the hour, with how sure they are."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import NamedTuple

HOUR = 3600.0
WARM_UP = 0.25  # of the time: caches fill, pools grow to what the load needs
JUDGED = 450.0  # seconds after it: less, and what pools do by chance looks like growth
_SURE = 2.0  # standard errors


class Limit(NamedTuple):
    """Of a figure: by how much it may grow in an hour."""

    prefix: str
    unit: str
    an_hour: float


LIMITS = (
    Limit("memory", "kB", 1024.0),
    Limit("descriptors", "", 5.0),
    Limit("map", "entries", 5.0),
    Limit("processes", "", 1.0),
    Limit("namespaces", "", 1.0),
    Limit("latency", "x without the mesh", 3.0),
)


class Sample(NamedTuple):
    """Figures by name, such as `memory node1 agent`, at a time in seconds."""

    at: float
    figures: dict[str, float]


class Trend(NamedTuple):
    """Of one figure after the warm-up. slope, error: per hour; grows: for certain by more than its limit."""

    name: str
    first: float
    last: float
    slope: float
    error: float
    unit: str
    limit: float
    seconds: float

    @property
    def grows(self) -> bool:
        return self.seconds >= JUDGED and self.slope - _SURE * self.error > self.limit


def latencies(took: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of the slowest tenth of calls by path, in seconds: ms without the mesh (`plain`), else times that."""
    slow = {path: mean(sorted(times)[-(len(times) // 10) :]) for path, times in took.items()}
    plain = slow.pop("plain")
    return {"plain latency": 1000 * plain} | {f"latency {path}": one / plain for path, one in slow.items()}


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """Of each figure that has a limit, and enough samples after the warm-up."""
    if not samples:
        return []
    begin = samples[0].at + WARM_UP * (samples[-1].at - samples[0].at)
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        if sample.at >= begin:
            for name, value in sample.figures.items():
                series[name].append((sample.at, value))
    return [
        Trend(
            name,
            points[0][1],
            points[-1][1],
            *slope(points),
            limit.unit,
            limit.an_hour,
            samples[-1].at - begin,
        )
        for name, points in sorted(series.items())
        for limit in LIMITS
        if name.startswith(limit.prefix) and len(points) > 2
    ]


def slope(points: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: the change in an hour, and its standard error. Three points at least."""
    times, values = zip(*points, strict=True)
    count, middle = len(times), sum(times) / len(times)
    spread = sum((time - middle) ** 2 for time in times)
    mean = sum(values) / count
    rate = sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True)) / spread
    rest = sum((v - mean - rate * (t - middle)) ** 2 for t, v in zip(times, values, strict=True))
    return rate * HOUR, math.sqrt(rest / (count - 2) / spread) * HOUR
