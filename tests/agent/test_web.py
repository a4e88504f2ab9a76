"""The page server of agent and authority at an address that is taken. What it answers: tests/protocols."""

import asyncio

import pytest

from agent import web
from agent.errors import SettingsError
from tests.support.wait import PATIENCE


async def test_a_port_that_is_taken() -> None:
    server = await web.serve("127.0.0.1", 0, {})
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(SettingsError, match=f"--metrics-port {port}: .*another port, or 0 for none"):
        await web.serve("127.0.0.1", port, {})
    server.close()
    await server.wait_closed()


async def ask(port: int, request: str) -> str:
    """All that is answered to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return answer.decode()
