"""How long something took, counted in buckets."""

from bisect import bisect_left
from collections.abc import Iterator

# Seconds: as istiod's of the same, and finer where we are.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 30.0)


class Histogram:
    """`observe` durations, read the counts."""

    def __init__(self) -> None:
        self.sum = 0.0
        self._counts = [0] * (len(BOUNDS) + 1)

    def observe(self, seconds: float) -> None:
        self.sum += seconds
        self._counts[bisect_left(BOUNDS, seconds)] += 1

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bucket's upper bound, the last one infinite, and how many durations are at most that."""
        total = 0
        for bound, count in zip((*BOUNDS, float("inf")), self._counts, strict=True):
            total += count
            yield bound, total
