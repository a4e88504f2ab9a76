"""How often someone may ask."""

from collections import OrderedDict
from time import monotonic
from typing import NamedTuple


class _Bucket(NamedTuple):
    tokens: float
    at: float  # when it had them, by the monotonic clock


class Buckets:
    """A token bucket for each name; the names that were not seen for longest are forgotten.

    rate: per second. burst: what a name may take at once.
    """

    def __init__(self, rate: float, burst: int, most: int = 4096) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def has(self, name: str) -> bool:
        """Whether there is one left to take."""
        return self._tokens(name) >= 1

    def take(self, name: str) -> bool:
        """Take one; whether there was one."""
        tokens = self._tokens(name)
        taken = tokens >= 1
        self._buckets[name] = _Bucket(tokens - taken, monotonic())
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return taken

    def _tokens(self, name: str) -> float:
        bucket = self._buckets.get(name)
        if bucket is None:
            return self._burst
        return min(self._burst, bucket.tokens + (monotonic() - bucket.at) * self._rate)
