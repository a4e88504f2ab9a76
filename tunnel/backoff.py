"""How long to wait before the next attempt."""

import random


class Backoff:
    """Seconds that double from `first` to `most`, each varied by up to `jitter` (a fraction) either way."""

    def __init__(self, first: float, most: float, jitter: float) -> None:
        self._first = first
        self._most = most
        self._jitter = jitter
        self._next = first

    def next(self) -> float:
        """The wait after one more failure."""
        wait = self._next
        self._next = min(wait * 2, self._most)
        return wait * random.uniform(1 - self._jitter, 1 + self._jitter)

    def reset(self) -> None:
        """It worked: the next failure waits for as long as a first one."""
        self._next = self._first
