"""Buckets, with time given."""

import pytest

from agent.ca.limits import Buckets


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
    assert not buckets.has("a")
    clock[0] += 0.1
    assert buckets.has("a")
    assert [buckets.take("a") for _ in range(2)] == [True, False]
    clock[0] += 1000
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]


def test_asking_whether_there_is_one_takes_none(clock: list[float]) -> None:
    buckets = Buckets(rate=0, burst=1)
    assert buckets.has("a")
    assert buckets.has("a")
    assert buckets.take("a")
    assert not buckets.has("a")


def test_only_so_many_names_are_remembered(clock: list[float]) -> None:
    buckets = Buckets(rate=0, burst=1, most=2)
    for name in "ab":
        assert buckets.take(name)
    assert not buckets.take("a")  # and is the one seen last
    assert buckets.take("c")
    assert not buckets.take("a")
    assert buckets.take("b")
