"""Processes whose lines coverage does not count: with it, a lab takes twice the processor to come up."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def unmeasured() -> Iterator[None]:
    """What starts from now on is not measured: other tests run the same lines in processes that are."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield
