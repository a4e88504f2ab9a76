"""Serves the map of several nodes on this machine, from commands that print what each sees."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from agent.dashboard.board import Board
from agent.dashboard.look import Look
from agent.dashboard.site import Site

_AGAIN = 2.0  # seconds before a command that ended is run again
_LONGEST = 16 << 20  # bytes of a line


class Feed(NamedTuple):
    """A command that prints looks, a line each, and its environment."""

    argv: Sequence[str]
    environment: Mapping[str, str] | None = None


async def serve(feeds: Mapping[str, Feed], port: int, say: Callable[[str], None]) -> None:
    """Until it is cancelled; `say` gets the link. feeds: by node. Raises SettingsError."""
    board = Board()
    site = Site(board, secrets.token_urlsafe(32))
    server = await site.serve(port)
    async with server, asyncio.TaskGroup() as tasks:
        for node, feed in feeds.items():
            tasks.create_task(_follow(node, feed, board))
        tasks.create_task(site.run())
        say(site.link)


async def _follow(node: str, feed: Feed, board: Board) -> None:
    while True:
        why = await _read(feed, board)
        board.take(Look(node, problem=f"{node} cannot be seen: {why}"))
        await asyncio.sleep(_AGAIN)


async def _read(feed: Feed, board: Board) -> str:
    """Until the command ends; gives why."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *feed.argv,
            env=feed.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            limit=_LONGEST,
        )
    except OSError as error:
        return str(error)
    assert process.stdout and process.stderr
    complaint = asyncio.create_task(process.stderr.read(4096))
    try:
        async for line in process.stdout:
            board.take(msgspec.json.decode(line, type=Look))
        await process.wait()
        return (await complaint).decode(errors="replace").strip() or f"it ended with {process.returncode}"
    except (ValueError, msgspec.MsgspecError) as error:
        return f"it does not speak as this version does: {error}"
    finally:
        complaint.cancel()
        if process.returncode is None:
            process.terminate()
            await process.wait()
