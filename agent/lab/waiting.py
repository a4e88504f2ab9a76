"""Waiting for a condition."""

import time
from collections.abc import Callable


def wait(condition: Callable[[], bool], within: float) -> bool:
    """Whether `condition()` has become true within so many seconds; asked at least once."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
