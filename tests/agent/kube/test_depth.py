"""JSON that nests without end."""

import json
from typing import Any

import pytest

from agent.kube.depth import DEEPEST, shallow


def nested(depth: int, inner: str = "1") -> str:
    return (
        '{"a":' * (depth // 2)
        + "[" * (depth - depth // 2)
        + inner
        + "]" * (depth - depth // 2)
        + "}" * (depth // 2)
    )


@pytest.mark.parametrize(
    "text", ["{}", '"x"', "7", '{"a":[{"b":"]}[{"},1]}', r'{"a":"\\\"[["}', nested(DEEPEST)]
)
def test_what_is_not_deep_stays_as_it_is(text: str) -> None:
    assert shallow(text.encode()) == text.encode()


@pytest.mark.parametrize("inner", ["1", '"]"', r'"\"}"', '{"b":[1,2]},{"c":{}}', ""])
def test_what_is_deeper_is_null(inner: str) -> None:
    text = f'{{"x":{nested(DEEPEST + 5, inner)},"y":"z","z":[[]]}}'
    found: Any = json.loads(shallow(text.encode()))
    assert (found["y"], found["z"]) == ("z", [[]])
    value, depth = found["x"], 1
    while value is not None:
        value, depth = value["a"] if isinstance(value, dict) else value[0], depth + 1
    assert depth == DEEPEST


def test_text_that_ends_in_the_deep() -> None:
    assert shallow(b"[" * 5000) == b"[" * DEEPEST + b"null"
