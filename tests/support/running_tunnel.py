"""`warren tunnel` as a process of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.support.ports import free_port
from tests.support.wait import PATIENCE


class Answer(NamedTuple):
    """Of an HTTP endpoint."""

    status: int
    body: str


@dataclass
class RunningTunnel:
    """The process, its log, and the ports of its endpoints."""

    process: asyncio.subprocess.Process
    log: Path
    admin: int
    metrics: int
    ready: int

    async def ask(self, port: int, path: str, method: str = "GET", address: str = "127.0.0.1") -> Answer:
        """What an endpoint answers; status 0 when nobody listens."""
        return await asyncio.to_thread(_ask, f"http://{address}:{port}{path}", method)

    async def becomes_ready(self) -> None:
        """Wait until it says so."""
        async with asyncio.timeout(PATIENCE):
            while (await self.ask(self.ready, "/healthz/ready")) != (200, "ready\n"):
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.01)


def _ask(url: str, method: str) -> Answer:
    try:
        with urlopen(Request(url, method=method), timeout=5) as response:
            return Answer(response.status, response.read().decode())
    except HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())
    except OSError:
        return Answer(0, "")


def command(settings: Mapping[str, object]) -> list[str]:
    """The command line."""
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "agent.cli.main", "tunnel", *options]


@asynccontextmanager
async def tunnel(
    log: Path, settings: Mapping[str, object], measured: bool = True
) -> AsyncIterator[RunningTunnel]:
    """Run one, with free ports for its endpoints. `measured`: its coverage may be, which costs memory."""
    ports = {f"{name}-port": free_port() for name in ("admin", "metrics", "ready")}
    environment = os.environ if measured else {k: v for k, v in os.environ.items() if "COVERAGE" not in k}
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            *command({**ports, **settings}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:
        yield RunningTunnel(process, log, *ports.values())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        written = await asyncio.to_thread(log.read_text)
        assert " panicked at " not in written, written
