"""A plugin of pytest: a test that hangs fails under its name, with where each thread is; the others go on."""

import faulthandler
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "seconds that the setup, the call and the teardown of a test may take, each"
    parser.addoption("--bound", type=float, default=240.0, help=text)


@contextmanager
def _bounded(item: pytest.Item, phase: str) -> Iterator[None]:
    seconds: float = item.config.getoption("--bound")

    def over(_signal: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback()
        pytest.fail(f"{item.nodeid}: {phase} is not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    with _bounded(item, "setup"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with _bounded(item, "call"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    with _bounded(item, "teardown"):
        return (yield)
