"""The map in the agent: what it costs while nobody looks."""

import asyncio
from pathlib import Path

from agent.dashboard.live import NodeMap
from tests.support.eventually import eventually


async def test_a_map_that_nobody_has_opened_keeps_nothing(tmp_path: Path) -> None:
    node = NodeMap("node1", tmp_path)
    running = asyncio.create_task(node.run())
    first = node._site._ticked
    await eventually(lambda: node._site._ticked is not first)
    assert not node._board._ring
    running.cancel()
