"""Waiting for a condition while the event loop goes on."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.wait import PATIENCE

T = TypeVar("T")


async def eventually(condition: Callable[[], T], deadline: float = PATIENCE) -> T:
    """Call `condition` until it returns something true, and return that. `deadline` is in seconds."""
    end = time.monotonic() + deadline
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {deadline} s: {condition}"
        await asyncio.sleep(0.002)
    return result
