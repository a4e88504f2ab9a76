"""An agent beside the one that it will replace."""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.standby import stand_by
from tests.agent.test_web import ask
from tests.support.ports import free_port
from tests.support.wait import PATIENCE


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """As by an agent."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def test_it_is_ready_while_it_waits_and_goes_on_when_the_other_one_ends(tmp_path: Path) -> None:
    port = free_port()
    with held(tmp_path):
        waiting = asyncio.create_task(stand_by(tmp_path, "127.0.0.1", port))

        async def ready() -> str:
            try:
                return await ask(port, "GET /healthz/ready HTTP/1.1\r\n\r\n")
            except ConnectionRefusedError:
                return ""

        async with asyncio.timeout(PATIENCE):
            while "standing by: another agent runs on this node" not in await ready():
                pass
        assert not waiting.done()
    await asyncio.wait_for(waiting, PATIENCE)
    server = await asyncio.start_server(
        lambda *_: None, "127.0.0.1", port
    )  # the agent itself may listen there
    server.close()


async def test_alone_it_does_not_wait(tmp_path: Path) -> None:
    await asyncio.wait_for(stand_by(tmp_path, "127.0.0.1", 0), PATIENCE)
    await asyncio.wait_for(stand_by(tmp_path / "not made yet", "127.0.0.1", 0), PATIENCE)
