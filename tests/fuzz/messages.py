"""Bytes that were a message once, and what somebody did to them."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

fuzzed = settings(
    max_examples=int(os.environ.get("WARREN_FUZZ_EXAMPLES", "60")),
    deadline=None,  # each example is a conversation over a socket: how long one takes says nothing
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Few examples in a run of all tests, many for `make fuzz`."""


def damaged(messages: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Whole ones, ones that are cut, ones with other bytes in them, and noise."""
    return st.one_of(
        messages,
        st.builds(lambda whole, at: whole[: at % (len(whole) + 1)], messages, st.integers(0)),
        st.builds(_spliced, messages, st.integers(0), st.binary(min_size=1, max_size=8)),
        st.binary(max_size=300),
    )


def _spliced(whole: bytes, at: int, other: bytes) -> bytes:
    at %= len(whole) + 1
    return whole[:at] + other + whole[at + len(other) :]


def built(make: Callable[..., Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Protobuf messages with such fields."""
    return st.builds(make, **fields).map(lambda message: message.SerializeToString())
