"""What holds for all tests: each of several workers has a place of its own."""

import pytest

from tests.support import apart


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        apart.leave_the_others()
