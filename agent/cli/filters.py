"""Which connections and requests are wanted: `--pod`, `--verdict` and others, and `--not NAME=VALUE`."""

from collections.abc import Callable, Iterable
from typing import Any

import click

from agent.cli.command import option
from protocols.record import Record

# By its option: whether a record is of a value.
_FITS: dict[str, Callable[[Record, str], bool]] = {
    "pod": lambda one, value: any(value in f"{end}:" for end in (one.source, one.destination)),
    "namespace": lambda one, value: value in (one.source_namespace, one.namespace),
    "service": lambda one, value: value in one.service,
    "identity": lambda one, value: value in one.source_identity or value in one.identity,
    "verdict": lambda one, value: one.verdict == value,
    "port": lambda one, value: value in (_port(one.address), _port(one.through)),
    "direction": lambda one, value: one.direction == value,
    "path": lambda one, value: one.how == value,
}
_HELP = {
    "pod": "a part of the name or address of either end",
    "namespace": "of either end",
    "service": "a part of the name of the service that was meant",
    "identity": "a part of the SPIFFE identity of either end",
    "verdict": "ok, refused (by a policy), or failed",
    "port": "of the destination: the service's or the pod's",
    "direction": "inbound or outbound, as seen from this node's pod",
    "path": "tunnel, direct, plain or requests",
}
Wanted = Callable[[Record], bool]


class _Not(click.ParamType[tuple[str, str]]):
    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, text = str(value).partition("=")
        if not equals or name not in _FITS:
            self.fail(f"{value!r} is not NAME=VALUE, with a name of {', '.join(_FITS)}", param, ctx)
        return name, text


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options; values of one are alternatives, and all options must fit."""
    settings: dict[str, Any] = {"multiple": True, "envvar": None}
    command = option("--not", "unwanted", type=_Not(), help="none of these", **settings)(command)
    for name in reversed(_FITS):
        command = option(f"--{name}", help=_HELP[name], **settings)(command)
    return command


def wanted(unwanted: Iterable[tuple[str, str]], **given: tuple[str, ...]) -> Wanted:
    """Whether a record is, by the values of the options."""
    unwanted = tuple(unwanted)

    def fits(one: Record) -> bool:
        asked = ((_FITS[name], values) for name, values in given.items() if values)
        named = all(any(is_of(one, value) for value in values) for is_of, values in asked)
        return named and not any(_FITS[name](one, value) for name, value in unwanted)

    return fits


def _port(address: str) -> str:
    return address.rpartition(":")[2]
