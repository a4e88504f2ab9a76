import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

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


@pytest.mark.skipif(
    not Path("/proc/self/fd").stat().st_size, reason="needs Linux 6.2, which counts descriptors"
)
def test_descriptors_are_counted_without_looking_at_each() -> None:
    few, took = usage().descriptors, _least_time()
    with _open(MANY):
        assert usage().descriptors == few + MANY
        assert _least_time() < 10 * took
    assert usage().descriptors == few
