"""How often someone may ask, and how much at once."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(OrderedDict[K, V]):
    """A dictionary that keeps `most` entries: those that were put last."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: K, value: V) -> None:
        """The only way to add one."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


class _Bucket(NamedTuple):
    tokens: float
    at: float  # when it had them, by the monotonic clock


class Buckets:
    """A token bucket for each name; the names that were not seen for longest are forgotten.

    rate: per second. burst: what a name may take at once.
    """

    def __init__(self, rate: float, burst: int, most: int = 4096) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: Recent[str, _Bucket] = Recent(most)

    def take(self, name: str) -> bool:
        """Take one; whether there was one."""
        tokens = self._tokens(name)
        taken = tokens >= 1
        self._buckets.put(name, _Bucket(tokens - taken, monotonic()))
        return taken

    def _tokens(self, name: str) -> float:
        bucket = self._buckets.get(name)
        if bucket is None:
            return self._burst
        return min(self._burst, bucket.tokens + (monotonic() - bucket.at) * self._rate)


class Turns:
    """One at a time for each name, the others of that name wait: a long line holds up no other one."""

    def __init__(self, most: int) -> None:
        """most: of one name, the one whose turn it is among them."""
        self._most = most
        self._lines: dict[Hashable, _Line] = {}

    @asynccontextmanager
    async def turn(self, name: Hashable) -> AsyncIterator[bool]:
        """Wait for it; False, at once, when too many do."""
        line = self._lines.setdefault(name, _Line())
        if line.length >= self._most:
            yield False
            return
        line.length += 1
        try:
            async with line.turn:
                yield True
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[name]


class _Line:
    def __init__(self) -> None:
        self.length, self.turn = 0, asyncio.Lock()
