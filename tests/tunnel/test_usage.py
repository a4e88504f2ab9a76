import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.alone import alone
from tunnel.usage import usage

MANY = 10_000


@contextmanager
def _open(count: int) -> Iterator[None]:
    """So many more descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(limits[1], 2 * count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for _ in range(count):
            stack.callback(os.close, os.dup(0))
        yield


def _least_time() -> float:
    """CPU seconds of one look, without what comes in between."""

    def one() -> float:
        before = time.thread_time()
        usage()
        return time.thread_time() - before

    return min(one() for _ in range(20))


def _figures() -> tuple[list[int], float]:
    """Descriptors before, with MANY more and after; the time of a look then as a multiple of one before."""
    few, took = usage().descriptors, _least_time()
    with _open(MANY):
        many, times = usage().descriptors, _least_time() / took
    return [few, many, usage().descriptors], times


@pytest.mark.skipif(
    not Path("/proc/self/fd").stat().st_size, reason="needs Linux 6.2, which counts descriptors"
)
def test_descriptors_are_counted_without_looking_at_each() -> None:
    (few, many, after), times = alone(_figures)
    assert (many, after) == (few + MANY, few)
    assert times < 10
