"""Buckets, with time given."""

import asyncio

import pytest

from agent.ca.limits import Buckets, Turns
from tests.support.wait import PATIENCE


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("agent.ca.limits.monotonic", lambda: now[0])
    return now


def test_a_burst_then_a_rate(clock: list[float]) -> None:
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert buckets.take("b")
    clock[0] += 0.4
    assert not buckets.take("a")
    clock[0] += 0.1
    assert [buckets.take("a") for _ in range(2)] == [True, False]
    clock[0] += 1000
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]


def test_only_so_many_names_are_remembered(clock: list[float]) -> None:
    buckets = Buckets(rate=0, burst=1, most=2)
    for name in "ab":
        assert buckets.take(name)
    assert not buckets.take("a")  # and is the one seen last
    assert buckets.take("c")
    assert not buckets.take("a")
    assert buckets.take("b")


async def test_one_at_a_time_and_nobody_waits_for_another_name() -> None:
    turns, order = Turns(most=2), []
    held = asyncio.Event()

    async def take(name: str) -> bool:
        async with turns.turn(name) as granted:
            if granted:
                order.append(name)
                await held.wait()
            return granted

    first, second = asyncio.create_task(take("a")), asyncio.create_task(take("a"))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        assert not await take("a")  # the line is long enough
    other = asyncio.create_task(take("b"))
    await asyncio.sleep(0)
    assert order == ["a", "b"]
    held.set()
    assert all(await asyncio.gather(first, second, other))
    assert order == ["a", "b", "a"]
    assert await take("a")
