"""A process that nothing else uses: what other tests have left in this one changes at any moment."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def alone(measure: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of a module gives in such a process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(measure, *args, **kwargs).result()
