"""The successor of an agent that still runs: ready to take over, so that an upgrade may end the older one.

A DaemonSet with `maxSurge` starts a node's new pod beside the old one, and ends that when the new one is
ready. The new tunnel serves pods from its start on, as the older agent tells both; the new agent takes over
when that ends.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
from pathlib import Path

from agent import web
from protocols.web import Request, Response

log = logging.getLogger(__name__)


async def stand_by(run_dir: Path, http_address: str, port: int) -> None:
    """Return once no other agent holds `run_dir`; be ready meanwhile. port: 0 for no page.

    Raises SettingsError when the page cannot be served.
    """
    if _is_free(run_dir):
        return
    log.info("another agent runs on this node: standing by until it ends")
    server = await web.serve(http_address, port, {("GET", "/healthz/ready"): _page}) if port else None
    await asyncio.to_thread(_is_free, run_dir, wait=True)
    if server:
        server.close()
        await server.wait_closed()
    log.info("the other agent has ended: taking over")


async def _page(_: Request) -> Response:
    return Response("standing by: another agent runs on this node\n")


def _is_free(run_dir: Path, *, wait: bool = False) -> bool:
    """Whether nobody holds the directory, as an agent does. wait: until then."""
    with contextlib.suppress(FileNotFoundError):
        directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        finally:
            os.close(directory)
    return True
