"""The rooms of the Rust core: which may know of which, and how long a file may be.

Read from its `crate::` paths; tests may use what they like. A room that imports what stands above it
would make a circle.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lengths import LONGEST, REASON

SOURCES = Path(__file__).parents[2] / "tunnel" / "src"

# From the lowest: a room may import those that are named, `base` and `sys`.
ROOMS: dict[str, set[str]] = {
    "base": set(),
    "sys": set(),
    "config": set(),
    "tls": set(),
    "h2": set(),
    "grpc": {"tls"},
    "limits": set(),
    "policy": {"limits", "config"},
    "routes": {"config", "tls"},  # tls: what a gateway terminates
    "observability": {"routes", "config"},
    "mesh": {"routes", "policy", "observability", "config"},
    "decision": {"routes", "mesh", "policy"},
    "dns": {"mesh"},
    "telemetry": {"decision", "mesh", "policy", "observability"},
    "relay": {"telemetry", "h2"},  # h2: a connection may end with one of its error codes
    "http": {"routes", "mesh", "policy", "telemetry"},
    "external": {"http", "policy", "grpc"},
    "hbone": {"relay", "telemetry", "decision", "h2", "tls"},
    "node": {"hbone", "relay", "telemetry", "decision", "mesh", "policy", "config", "h2", "tls"},
    "direct": {"node", "telemetry", "decision", "mesh", "policy"},
    "pending": {"node", "telemetry", "decision", "mesh"},
    "proxy": {
        *("direct", "pending", "node", "external", "http", "hbone", "relay", "dns"),
        *("telemetry", "decision", "routes", "mesh", "policy", "limits", "h2", "tls"),
    },
    "engine": {
        *("proxy", "direct", "pending", "node", "http", "relay"),
        *("telemetry", "decision", "routes", "mesh", "policy", "observability", "config", "tls"),
    },
    "python": {"engine", "http", "grpc", "telemetry", "config"},
}


def room(path: Path) -> str:
    return path.relative_to(SOURCES).parts[0]


def files() -> Iterator[Path]:
    """All that is product: a room's files, without its tests."""
    for path in sorted(SOURCES.glob("*/**/*.rs")):
        if not {"tests", "testing", "measure"} & {path.stem, *path.relative_to(SOURCES).parts}:
            yield path


def product(path: Path) -> str:
    """The file without the tests that stand at its end."""
    tests = r"#\[cfg\((?:test|any\(test)[^\n]*\]\n(?:#\[[^\n]*\]\n)*(?:pub )?mod \w+ \{"
    return re.split(tests, path.read_text())[0]


def imported(text: str) -> set[str]:
    """Rooms that are named: `crate::room::…`, or several in one `use crate::{…};`. Comments do not count."""
    text = re.sub(r"//[^\n]*", "", text)
    several = re.findall(r"\bcrate::\{([^;]*)\};", text)
    named = set(re.findall(r"\bcrate::(\w+)", text))
    return named | {item for group in several for item in re.findall(r"(?:^|,)\s*(\w+)", group)}


def test_every_room_has_its_place() -> None:
    assert {room(path) for path in files()} <= set(ROOMS)
    below = {"base", "sys"}
    for name, allowed in ROOMS.items():
        assert allowed <= below, f"{name} may import what stands above it: {allowed - below}"
        below.add(name)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_what_it_may(name: str) -> None:
    below = {"base": set(), "sys": {"base"}}.get(name, {"base", "sys"})
    for path in filter(lambda path: room(path) == name, files()):
        others = imported(product(path)) & set(ROOMS) - {name}
        forbidden = others - below - ROOMS[name]
        assert not forbidden, f"{path.relative_to(SOURCES)} imports {sorted(forbidden)}"


def test_only_one_room_knows_of_python() -> None:
    assert {room(path) for path in files() if "pyo3" in product(path)} == {"python"}


def test_a_file_is_short_or_says_why() -> None:
    long = [path for path in files() if len(product(path).splitlines()) > LONGEST]
    unexplained = [path for path in long if REASON not in path.read_text().split("\nuse ", 1)[0]]
    assert not unexplained, f"more than {LONGEST} lines, and no reason at the head: {unexplained}"
