"""How commands print: for people in 80 columns with colours, for programs as JSON or YAML."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli.command import option

F = TypeVar("F", bound=Callable[..., Any])
Form = Literal["text", "json", "yaml"]
Cell = str | Text
_UNBROKEN = 10_000  # columns: a program that reads lines gets them whole

output = option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    envvar="WARREN_OUTPUT",
    help="for people, or for programs",
)


def console() -> Console:
    """As wide as the terminal; a pipe gets lines unbroken, unless COLUMNS says otherwise."""
    made = Console(highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _UNBROKEN
    return made


def data(value: object, form: Form) -> None:
    """Print for programs."""
    plain = msgspec.to_builtins(value)
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2))
    else:
        import yaml  # noqa: PLC0415  (only for those who ask for it)

        click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], empty: str) -> None:
    """Print aligned columns under their names, or what it means that there are no rows."""
    given = list(rows)
    out = console()
    if not given:
        out.print(Text(empty, "dim"))
        return
    out.print(made_table(columns, given))


def made_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Aligned columns under their names."""
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def notes(texts: Iterable[str]) -> None:
    """What could not be found out, to standard error."""
    for text in texts:
        click.secho(f"note: {text}", err=True, fg="yellow" if sys.stderr.isatty() else None)


def good(text: str) -> Text:
    """In the colour of what is well."""
    return Text(text, "green")


def bad(text: str) -> Text:
    """In the colour of what is not."""
    return Text(text, "bold red")
