"""How every `warren` command takes its options.

An option `--run-dir` is also the variable WARREN_RUN_DIR, and a command names all bad settings at once.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_PROBLEMS = "agent.cli.problems"


class Problems(click.UsageError):
    """Every bad option of one call; `lines` has one text for each."""

    def __init__(self, lines: list[str], ctx: click.Context) -> None:
        super().__init__("; ".join(lines), ctx)
        self.lines = lines


class _Option(click.Option):
    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        try:
            return super().handle_parse_result(ctx, opts, args)
        except click.BadParameter as problem:
            ctx.meta.setdefault(_PROBLEMS, []).append(_say(self, problem))
            return None, args


class Command(click.Command):
    """A click command that reads all of its options before it complains about any."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if lines := ctx.meta.get(_PROBLEMS):
            raise Problems(lines, ctx)
        return rest


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """`click.option`, also read from WARREN_<LONG NAME>, with its default in the help text."""
    long = max(names, key=len).split("/", maxsplit=1)[0]
    settings.setdefault("envvar", "WARREN_" + long.lstrip("-").replace("-", "_").upper())
    settings.setdefault("show_default", True)
    return click.option(*names, cls=_Option, **settings)


def _say(parameter: click.Parameter, problem: click.BadParameter) -> str:
    name = max(parameter.opts, key=len)
    if isinstance(problem, click.MissingParameter):
        return f"{name} is missing: give it, or set {parameter.envvar}"
    return f"{name}: {problem.message.rstrip('.')}"
