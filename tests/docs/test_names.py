"""What pages name there is: metrics, reasons, variables, files that are linked, functions in them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from agent.cli.main import warren

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
METRICS = re.findall(r"warren_\w+", (ROOT / "docs" / "metrics.md").read_text())
CORE = "".join(path.read_text() for path in (ROOT / "tunnel" / "src").rglob("*.rs"))


def is_metric(name: str) -> bool:
    """One of docs/metrics.md, or (with _ at its end) what several begin with."""
    return any(one.startswith(name) if name.endswith("_") else one == name for one in METRICS)


def is_reason(name: str) -> bool:
    return f'"{name}"' in CORE


def variables(group: click.Group) -> Iterator[str]:
    """Of all options of all commands."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield from (str(parameter.envvar) for parameter in command.params)
        if isinstance(command, click.Group):
            yield from variables(command)


@pytest.fixture(scope="module")
def is_variable() -> Callable[[str], bool]:
    return frozenset(variables(warren)).__contains__


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_name_is_one(page: Path, is_variable: Callable[[str], bool]) -> None:
    text = page.read_text()
    named = {
        is_metric: re.findall(r"\bwarren_\w+", text),
        is_reason: re.findall(r'\breason="?([a-z_]+)', text),
        is_variable: re.findall(r"\bWARREN_[A-Z_]+", text),
    }
    assert [name for known, names in named.items() for name in names if not known(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_that_is_linked_is_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_each_function_of_the_tours_is_in_its_file() -> None:
    tours = re.findall(r"\]\(([^)\s]+)\),\s+`(\w+)`", (ROOT / "README.md").read_text())
    assert len(tours) > 5
    assert [
        name for file, name in tours if not re.search(rf"(fn|def) {name}\b", (ROOT / file).read_text())
    ] == []
