"""Another checkout must be built before it is compared with."""

from pathlib import Path

import pytest

from bench.baseline import built, lab_up
from bench.errors import BenchError
from bench.tools import ROOT


def test_a_checkout_is_taken_when_it_is_built() -> None:
    assert built(ROOT) == ROOT


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no \.venv/bin/python.*`make setup`"):
        built(tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    with pytest.raises(BenchError, match=r"no tunnel/_core\*\.so"):
        built(tmp_path)


def test_why_the_other_lab_is_not_up_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"nowhere\.yaml"):
        lab_up(ROOT, "wt-baseline", tmp_path / "nowhere.yaml")
