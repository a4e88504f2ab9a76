"""Route tables ask the same of us and of Envoy: answers, and what servers see, are equal or listed."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.routes.generated import generated
from tests.routes.stage import Outcome, Stage, stage
from tests.routes.tables import Table, written
from tests.support.backend import Fields

TABLES = [*written(), *generated(24)]
LISTED: list[dict[str, str]] = yaml.safe_load(Path(__file__).with_name("differences.yaml").read_text())
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Difference(NamedTuple):
    """about: `status`, `body`, `answer NAME` or, of the nth request that a server saw, `v1 N NAME`."""

    table: str
    request: str
    about: str
    ours: object
    envoys: object

    def is_listed(self, listed: dict[str, str]) -> bool:
        return all(
            fnmatchcase(getattr(self, key), listed.get(key, "*")) for key in ("table", "request", "about")
        )


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> list[Difference]:
    """Of all tables."""
    with stage(TABLES, tmp_path_factory.mktemp("routes")) as made:
        return list(_compared(made))


def _compared(made: Stage) -> Iterator[Difference]:
    for table, request, ours, envoys in made.outcomes():
        our, their = _facts(ours), _facts(envoys)
        for about in sorted({*our, *their}):
            if our.get(about) != their.get(about):
                yield Difference(table.name, request, about, our.get(about), their.get(about))


def _facts(outcome: Outcome) -> dict[str, Any]:
    """By what they are about."""
    found: dict[str, Any] = {"status": outcome.answer.status, "body": outcome.answer.body}
    found |= {f"answer {name}": values for name, values in _fields(outcome.answer.headers).items()}
    for server, requests in outcome.seen.items():
        found[f"{server} requests"] = len(requests)
        for number, request in enumerate(requests):
            found |= {f"{server} {number} line": request.line, f"{server} {number} body": request.body}
            headers = _fields(request.headers)
            found |= {f"{server} {number} {name}": values for name, values in headers.items()}
    return found


def _fields(headers: Fields) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        if name != "x-case":
            found.setdefault(name, []).append(_comparable(name, value))
    return found


def _comparable(name: str, value: str) -> str:
    """Of what is made by chance, and of times, it counts that they are there."""
    if name == "x-envoy-upstream-service-time" and value.isdecimal():
        return "(a time)"
    if name == "x-envoy-expected-rq-timeout-ms":  # of a second try it is less
        return str(-(-int(value) // 100) * 100)
    return "(a UUID)" if _UUID.fullmatch(value) else value


def test_there_are_enough() -> None:
    assert len(TABLES) >= 60
    assert sum(len(table.ask) for table in TABLES) >= 300


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.host)
def test_requests_come_to_the_same(differences: list[Difference], table: Table) -> None:
    own = [one for one in differences if one.table == table.name]
    unlisted = [one for one in own if not any(one.is_listed(listed) for listed in LISTED)]
    assert not unlisted, "\n".join(
        f"{one.request}: {one.about}: {one.ours!r}, not {one.envoys!r}" for one in unlisted
    )


@pytest.mark.parametrize(
    "listed", LISTED, ids=lambda listed: f"{listed.get('table', 'all')}: {listed['about']}"
)
def test_what_is_listed_is_so(differences: list[Difference], listed: dict[str, str]) -> None:
    assert any(one.is_listed(listed) for one in differences), listed["reason"]
