"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 60.0  # seconds, for whatever is waited for: a busy machine takes its time


def until(condition: Callable[[], T], timeout: float = PATIENCE, what: str = "") -> T:
    """Call `condition` until it returns something true, and return that.

    `timeout` is in seconds. Raises AssertionError, naming `what`, when the time is over.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return result
