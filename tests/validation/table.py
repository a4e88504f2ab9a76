"""The table of manifests: which of them Istio takes, and which it refuses.

A file of `cases` for each kind. A line with `@` says the kind's apiVersion, one with `=` how the manifests
below it look, with `@` for what is different in each; they begin with Istio's verdict, `+` (taken) or `-`
(refused). `\\n` is a new line, `#` begins a comment.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CASES = Path(__file__).parent / "cases"


class Row(NamedTuple):
    """A manifest. name: its kind and what is particular of it; taken: by Istio."""

    name: str
    text: str
    taken: bool


def rows() -> Iterator[Row]:
    """The whole table."""
    for path in sorted(CASES.glob("*.txt")):
        yield from _read(path)


def _read(path: Path) -> Iterator[Row]:
    head, frame = "", "@"
    for line in path.read_text().splitlines():
        mark, _, rest = line.partition(" ")
        match mark:
            case "@":
                head = f"apiVersion: {rest}\nkind: {path.stem}\n"
            case "=":
                frame = rest
            case "+" | "-":
                body = frame.replace("@", rest, 1)
                yield Row(f"{path.stem}: {body}", _manifest(head, body.replace("\\n", "\n")), mark == "+")


def _manifest(head: str, body: str) -> str:
    named = not head or body.startswith("metadata:")
    return head + ("" if named else "metadata: {name: a, namespace: shop}\n") + body + "\n"
