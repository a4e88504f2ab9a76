"""Waiting for a condition."""

import time
from collections.abc import Callable

_SHORTEST, _LONGEST = 0.002, 0.05  # seconds between two looks


def wait(condition: Callable[[], bool], within: float) -> bool:
    """Whether `condition()` has become true within so many seconds; asked at least once.

    The longer it takes, the more rarely it is asked: what is waited for needs the processor.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > within:
            return False
        time.sleep(min(max(_SHORTEST, waited / 10), _LONGEST))
    return True
