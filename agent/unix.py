"""Unix sockets in the run folder, for root alone."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.errors import SettingsError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def listen(path: Path, serve: Serve, backlog: int = 100) -> asyncio.Server:
    """Listen, with mode 0600. Raises SettingsError."""
    former = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(serve, path, backlog=backlog)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"--run-dir: cannot listen at {path}: {reason}") from error
    finally:
        os.umask(former)
