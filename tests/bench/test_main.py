"""The command's options."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import SIGNALS, choose, main
from bench.errors import BenchError
from bench.tools import executable, require


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The command sets handlers of signals; the test's own come back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_all_paths_leave_out_a_ztunnel_that_is_not_there() -> None:
    assert choose("all", {}) == (
        "none",
        "hops",
        "warren",
        "envoy",
        "none-node",
        "warren-node",
        "envoy-node",
    )
    assert "ztunnel" in choose("all", {"ztunnel": Path("/z")})
    assert choose("envoy, none", {}) == ("none", "envoy")


def test_another_build_is_measured_on_both_ways_where_it_is_named() -> None:
    found = choose("all", {"baseline": Path("/b"), "ztunnel": None})
    assert found[2:4] == ("warren", "baseline")
    assert found[6:8] == ("warren-node", "baseline-node")


@pytest.mark.parametrize(
    ("paths", "line"),
    [
        ("envoi", "'envoi' is none of"),
        ("ztunnel", "--ztunnel PATH"),
        ("warren,baseline", "--baseline PATH"),
    ],
)
def test_a_path_that_cannot_be_is_named(paths: str, line: str) -> None:
    with pytest.raises(BenchError, match=line):
        choose(paths, {})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--paths", "envoi"],
        ["--ztunnel", "/nowhere/ztunnel"],
        ["--baseline", "/nowhere"],
        ["--rounds", "0"],
    ],
)
def test_bad_options_end_with_status_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert arguments[0] in done.output or arguments[1] in done.output


def test_missing_programs_are_named_with_their_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="apt-get install iproute2 wrk"):
        require("wrk", "ss")


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(BenchError, match="no such program"):
        executable(tmp_path / "text")
