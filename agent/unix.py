"""Unix sockets in the run folder, for root alone or a group as well."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.errors import SettingsError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def listen(path: Path, serve: Serve, backlog: int = 100, group: int | None = None) -> asyncio.Server:
    """Listen, with mode 0600, or 0660 for a group. Raises SettingsError."""
    former = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(serve, path, backlog=backlog)
        if group is not None:
            os.chown(path, -1, group)
            os.chmod(path, 0o660)  # noqa: PTH101 - a socket's folder does not block
        return server
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"--run-dir: cannot listen at {path}: {reason}") from error
    finally:
        os.umask(former)
