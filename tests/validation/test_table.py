"""Istio's verdict on each manifest of the table is ours, save for the listed differences."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.model.model import Model, apply
from agent.sources.manifests import Manifest, parse
from tests.validation.differences import LAXER, STRICTER
from tests.validation.table import CASES, Row, rows

TABLE = [*rows()]


def read(row: Row) -> Manifest:
    return parse(row.text.encode())


def is_taken(row: Row) -> bool:
    manifest = read(row)
    return not manifest.problems and not manifest.strangers


def is_listed(row: Row, differences: Mapping[str, tuple[str, ...]]) -> bool:
    return any(piece in row.name for pieces in differences.values() for piece in pieces)


@pytest.mark.parametrize("path", sorted(CASES.iterdir()), ids=lambda path: path.stem)
def test_we_judge_as_istio_does(path: Path) -> None:
    others = [row for row in TABLE if row.name.startswith(f"{path.stem}: ") and is_taken(row) != row.taken]
    assert [row for row in others if not is_listed(row, STRICTER if row.taken else LAXER)] == []


def test_every_difference_is_still_one() -> None:
    for differences, taken in ((STRICTER, True), (LAXER, False)):
        found = [row.name for row in TABLE if row.taken == taken and is_taken(row) != taken]
        pieces = [piece for pieces in differences.values() for piece in pieces]
        assert [piece for piece in pieces if not any(piece in name for name in found)] == []


def test_the_table_is_large_and_says_each_thing_once() -> None:
    assert len(TABLE) > 1500
    assert len({row.text for row in TABLE}) == len(TABLE)
    assert {row.taken for row in TABLE} == {True, False}


def test_what_is_taken_can_be_translated() -> None:
    for row in TABLE:
        apply(Model(), read(row).objects.items())


def test_what_is_refused_is_told_in_one_line_with_its_place() -> None:
    for row in TABLE:
        for problem in read(row).problems:
            assert problem.line >= 1
            assert problem.reason
            assert "\n" not in problem.reason, row.name
