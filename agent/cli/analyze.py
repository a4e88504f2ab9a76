"""`warren analyze`: what is wrong with objects, before they are applied or as they are in force; for CI."""

from pathlib import Path

import click
import msgspec

from agent.cli.admin_client import ask_agent
from agent.cli.command import Command, option
from agent.cli.output import Cell, Form, bad, console, data, good, output, table
from agent.cli.types import FOLDER
from protocols.proposal import File, Finding

_LEVELS = ("error", "warning", "info")


@click.command(cls=Command)
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[PATH...]")
@option("--live", is_flag=True, envvar=None, help="beside what is in force on this node's agent")
@option("--fail-on", type=click.Choice(_LEVELS), default="error", envvar=None, help="what is exit code 1")
@option(
    "--run-dir", type=FOLDER, default="/run/warren", help="with --live: the agent's folder for its sockets"
)
@output
def analyze(paths: tuple[Path, ...], *, live: bool, fail_on: str, run_dir: Path, form: Form) -> int:
    """Say what is wrong with manifests (files or folders) before they are applied, or with what is in force.

    Codes are those of istioctl analyze; WRN0001 is whatever else does not work as written. With PATH alone
    only the files are read: what they name and do not hold is missing.

    Exit code 0 if nothing is found, 1 if something of --fail-on or worse is, 2 if there is no answer.

    \b
    Examples:
      warren analyze manifests/
      warren analyze --live
      warren analyze --live new.yaml --fail-on warning -o json
    """
    if not paths and not live:
        raise click.UsageError("analyze what? name files or folders, or --live")
    files = [File(str(path), path.read_text(errors="replace")) for path in _files(paths)]
    if live:
        given = msgspec.json.encode(files) if files else None
        found = ask_agent(run_dir, "/analysis", list[Finding], given=given)
    else:
        from agent.analysis import analyze as analyzed  # noqa: PLC0415  (the model: a moment's imports)
        from agent.model.model import Model  # noqa: PLC0415

        found = analyzed(Model(), files)
    if form != "text":
        data(found, form)
    elif found:
        table(("LEVEL", "CODE", "OBJECT", "WHAT"), map(_cells, found), "")
    else:
        console().print(good("nothing is wrong"))
    worst = _LEVELS[: _LEVELS.index(fail_on) + 1]
    return 1 if any(one.level in worst for one in found) else 0


def _files(paths: tuple[Path, ...]) -> list[Path]:
    """Those named, and the YAML files of folders."""
    found = []
    for path in paths:
        if path.is_dir():
            found += sorted(one for one in path.rglob("*") if one.suffix in (".yaml", ".yml", ".json"))
        else:
            found.append(path)
    return found


def _cells(one: Finding) -> tuple[Cell, ...]:
    level: Cell = bad(one.level) if one.level == "error" else one.level
    place = f" ({one.place})" if one.place else ""
    return level, one.code, one.object + place, one.text
