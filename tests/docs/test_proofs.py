"""Each row of the failure modes and each claim of the security page names tests, and there are such tests."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAILURES, SECURITY = ROOT / "docs" / "failure-modes.md", ROOT / "SECURITY.md"
PROOF = re.compile(r"`([\w/]+\.(?:py|rs))::(\w+)`")
RUST = re.compile(r"#\[(?:tokio::)?test\b[^\n]*\n(?:\s*#\[[^\n]*\n)*\s*(?:async )?fn (\w+)\(")


@cache
def names_in(file: str) -> frozenset[str]:
    """Tests of Python below tests/, of Rust below tunnel/src/."""
    if file.endswith(".rs"):
        return frozenset(RUST.findall((ROOT / "tunnel" / "src" / file).read_text()))
    tree = ast.parse((ROOT / "tests" / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    named = (one.name for one in ast.walk(tree) if isinstance(one, functions))
    return frozenset(name for name in named if name.startswith("test_"))  # no helper proves anything


@pytest.mark.parametrize("page", [FAILURES, SECURITY], ids=lambda path: path.name)
def test_each_test_that_is_named_exists(page: Path) -> None:
    named = PROOF.findall(page.read_text())
    assert named
    assert [f"{file}::{name}" for file, name in named if name not in names_in(file)] == []


def test_each_failure_names_its_test() -> None:
    rows = [line for line in FAILURES.read_text().splitlines() if re.match(r"\| (?!fault|---)", line)]
    assert len(rows) > 30
    assert [row[:60] for row in rows if not PROOF.search(row)] == []


def test_each_claim_of_security_names_its_test() -> None:
    """Every item of a list; below the last two headings, which have none, the text as a whole."""
    parts = re.split(r"^## ", SECURITY.read_text(), flags=re.M)[1:]
    claims = [claim for part in parts for claim in re.split(r"^- ", part, flags=re.M)[1:]]
    claims += [part for part in parts if part.startswith(("What each process may do", "Rotating"))]
    assert len(claims) > 30
    assert [claim[:60] for claim in claims if not PROOF.search(claim)] == []
