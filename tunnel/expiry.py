"""What the core knows of pods, services and policies that are gone, forgotten also where nobody asks."""

import asyncio
from typing import NoReturn

from tunnel._core import Core

_EVERY = 60.0  # seconds; what is gone is kept for five minutes


async def run(core: Core, every: float = _EVERY) -> NoReturn:
    """Forget what is due, for ever. every: seconds."""
    while True:
        await asyncio.sleep(every)
        await asyncio.to_thread(core.expire)
