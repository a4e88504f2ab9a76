"""The agent's admin sockets: who may ask what."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.cli.admin_client import NoAgent, ask_agent
from agent.errors import SettingsError
from agent.inspection import AdminServer
from protocols.agent import Logging


def modes(folder: Path) -> dict[str, int]:
    """Of the sockets that are there."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    inspected: Any = SimpleNamespace(cost=None)
    server = AdminServer(tmp_path, os.getgid(), inspected)
    await server.start()
    yield tmp_path
    await server.stop()
    assert not modes(tmp_path)


async def test_root_has_a_socket_and_the_group_one_that_changes_nothing(folder: Path) -> None:
    assert modes(folder) == {"admin.sock": 0o600, "read.sock": 0o660}
    assert (await asyncio.to_thread(ask_agent, folder, "/logging", Logging)).level
    (folder / "admin.sock").unlink()
    (folder / "read.sock").rename(folder / "admin.sock")  # the one of the group, asked as root asks
    assert (await asyncio.to_thread(ask_agent, folder, "/logging", Logging)).level
    with pytest.raises(NoAgent, match="405"):
        await asyncio.to_thread(ask_agent, folder, "/logging", Logging, {"level": "debug"}, b"")
    (folder / "admin.sock").rename(folder / "read.sock")


async def test_a_wrong_level_is_answered_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(SettingsError, match="none of debug, info, warning, error"):
        await asyncio.to_thread(ask_agent, folder, "/logging", Logging, {"level": "loud"}, b"")


async def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(NoAgent, match=r"no agent answers in .*--run-dir names its folder") as error:
        await asyncio.to_thread(ask_agent, tmp_path, "/logging", Logging)
    assert error.value.exit_code == 2
