"""One object for what is equal: pods come by the thousand from few templates."""

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import TypeVar

H = TypeVar("H", bound=Hashable)

_LATELY = 4096  # templates that are remembered


@lru_cache(_LATELY)
def shared(value: H) -> H:
    """An equal value that was asked for lately, else this one."""
    return value


@lru_cache(_LATELY)
def shared_mapping(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """A mapping of these items, not to be written to."""
    return dict(items)
