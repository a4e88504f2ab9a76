"""JSON that nests deeper than a decoder goes: whoever may write an object may write such a one."""

import re
from collections.abc import Iterator

DEEPEST = 100  # levels; what we read of any object has less than 20

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def shallow(text: bytes) -> bytes:
    """The same JSON, with null for what lies deeper than DEEPEST: what nobody reads makes no difference."""
    return b"".join(_pieces(text))


def _pieces(text: bytes) -> Iterator[bytes]:
    depth = start = 0
    for token in _TOKEN.finditer(text):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth == DEEPEST + 1:
                yield text[start : token.start()] + b"null"
        elif first in b"]}":
            if depth == DEEPEST + 1:
                start = token.end()
            depth -= 1
    yield text[start:] if depth <= DEEPEST else b""
