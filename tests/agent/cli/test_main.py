"""The command line: what a user is told, and with what exit code."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agent.cli import main
from agent.cli.command import Command, option
from agent.errors import SettingsError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """`warren check` raises what is put into this list."""
    errors: list[Exception] = []

    @click.command(cls=Command)
    @option("--left", type=int, required=True)
    @option("--right-hand", type=int, required=True)
    def check(left: int, right_hand: int) -> int:
        if errors:
            raise errors.pop()
        return left

    def find(self: object, ctx: object, name: str) -> click.Command | None:
        return check if name == "check" else None

    monkeypatch.setattr(main._Commands, "get_command", find)
    return errors


def test_all_bad_settings_at_once(failing: list[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["check", "--left", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == [
        "warren check: --left: 'x' is not a valid integer",
        "warren check: --right-hand is missing: give it, or set WARREN_RIGHT_HAND",
    ]


def test_settings_from_the_environment(failing: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARREN_RIGHT_HAND", "1")
    assert main.run(["check", "--left", "7"]) == 7


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SettingsError("--x: bad"), 2, "warren: --x: bad"),
        (FileNotFoundError(2, "No such file", "/x"), 1, "warren: /x: No such file"),
        (
            ModuleNotFoundError("m", name="grpc"),
            1,
            "warren: the Python module grpc is missing: install warren-mesh with its dependencies",
        ),
        (ExceptionGroup("tasks", [SettingsError("no port")]), 1, "warren: no port\n"),
        (KeyError("k"), 1, "warren: internal error, please report it: KeyError: 'k' (test_main.py:"),
    ],
)
def test_no_traceback(
    failing: list[Exception], capsys: pytest.CaptureFixture[str], error: Exception, code: int, line: str
) -> None:
    failing.append(error)
    assert main.run(["check", "--left", "1", "--right-hand", "1"]) == code
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert len(err.splitlines()) <= 1


@pytest.mark.parametrize(
    ("args", "code"), [(["absent"], 2), (["--absent"], 2), ([], 2), (["--help"], 0), (["check", "--help"], 0)]
)
def test_usage(failing: list[Exception], args: list[str], code: int) -> None:
    assert main.run(args) == code


def test_nobody_reads_the_output_any_more() -> None:
    root = Path(main.__file__).parents[2]
    code = "from agent.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--help"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""


def test_interrupted(failing: list[Exception]) -> None:
    failing.append(click.Abort())
    assert main.run(["check", "--left", "1", "--right-hand", "1"]) == 130


def test_the_tunnels_command_loads_none_of_the_agents_libraries() -> None:
    code = (
        "import json, sys; from agent.cli.main import warren; import click\n"
        "warren.get_command(click.Context(warren), 'tunnel')\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    root = Path(main.__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    heavy = {"pyroute2", "cryptography", "msgspec", "yaml", "prometheus_client", "rich"}
    assert not heavy & set(json.loads(loaded.stdout))
