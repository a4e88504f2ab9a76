"""A machine that hangs is ended, and its test named."""

from pathlib import Path

import pytest

from tests.kernels.console import Outcome, follow


def said(tmp_path: Path, script: str, silence: float = 60.0) -> Outcome:
    """What becomes of a machine that a shell stands in for."""
    return follow(["sh", "-c", script], tmp_path / "log", silence)


def test_a_test_that_hangs_is_named_although_the_kernel_complains(tmp_path: Path) -> None:
    hanging = "while sleep 0.1; do echo '[   12.345678] rcu: INFO: self-detected stall'; done"
    problem, _ = said(
        tmp_path, f"echo 'tests/a.py::test_good PASSED'; printf 'tests/a.py::test_bad '; {hanging}", 1
    )
    assert problem.startswith("silent for 1 s: tests/a.py::test_bad")


def test_a_boot_takes_its_time_as_long_as_the_kernel_goes_on(tmp_path: Path) -> None:
    boot = 'for second in 1 2 3 4 5; do echo "[    $second.000000] x86: Booting"; sleep 0.3; done'
    assert said(tmp_path, f"{boot}; echo '=== 3 passed in 1s ==='; echo 'exit code 0'", 1) == Outcome(
        "", "3 passed in 1s"
    )
    assert (
        said(tmp_path, "echo '[    0.000000] Linux version'; exec sleep 60", 1).problem
        == "silent for 1 s: its boot"
    )


def test_only_an_exit_code_of_nought_is_success(tmp_path: Path) -> None:
    assert said(tmp_path, "echo '=== 1 failed in 1s ==='; echo 'exit code 1'") == Outcome(
        "exit code 1", "1 failed in 1s"
    )
    panic = "printf 'tests/a.py::test_bad \\033[0m'; echo '[   12.345678] Kernel panic - not syncing'"
    assert said(tmp_path, panic).problem.startswith("it ended without a word: tests/a.py::test_bad")


def test_tests_are_shown_as_they_come_and_all_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bios, kernel, test = r"\033[2JSeaBIOS", "[    0.000000] Linux version", "tests/a.py::test_good PASSED"
    said(tmp_path, rf"printf '{bios}\r\n{kernel}\r\ncollecting\rcollected\r\n{test}\r\n'")
    shown = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["SeaBIOS", "collected", "tests/a.py::test_good PASSED"]
    assert "Linux version" in (tmp_path / "log").read_text()
