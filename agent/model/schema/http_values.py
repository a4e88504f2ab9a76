"""Values that Istio's and the Gateway API's routes share: durations, regular expressions, headers."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import re2

from agent.model.schema.syntax import FieldError, Step

_UNITS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000}
_UNITS |= {"us": 1_000, "µs": 1_000, "μs": 1_000, "ns": 1}  # nanoseconds
_DURATION = re.compile(r"(?:(?:\d+\.?\d*|\.\d+)(?:h|ms|us|µs|μs|ns|m|s))+", re.ASCII)
_PIECE = re.compile(r"(\d*\.?\d*)([a-zµμ]+)", re.ASCII)
_LONGEST_REGEX = 1024  # characters: Istio's measure for Envoy's limit on the size of a program
_LONGEST_DURATION = 2**53  # milliseconds
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~A-Za-z0-9]+")  # RFC 9110, section 5.6.2: token
_ESCAPES = re.compile(r"\\(.?)", re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STRING = r'"(?:[^"\\]|\\.)*" *'
_ARGUMENTS = rf" *\[ *{_STRING}(?:, *{_STRING})*\] *| *[^ \[](?:[^)\"\\]|\\.)*"
_FORMATTERS = re.compile(rf"(?:[^%]|%%|%[^%(]*(?:\((?:{_ARGUMENTS})\) *)?%)*", re.DOTALL)
_FORMATTER = re.compile(r"%([A-Z_]+)[^%]*%")
_KNOWN_FORMATTERS = frozenset(  # of Envoy's those that the tunnel has (tunnel/src/routes/headers.rs)
    {
        *("REQ", "RESP", "PROTOCOL", "RESPONSE_CODE", "RESPONSE_FLAGS", "ROUTE_NAME", "UPSTREAM_HOST"),
        *("DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_LOCAL_ADDRESS"),
        "START_TIME",
    }
)

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


def milliseconds(text: str) -> int:
    """A duration such as 1.5s, 100ms or 1h30m (Go's time.ParseDuration), cut to whole milliseconds.

    Raises FieldError for anything else, and for what is negative.
    """
    return _nanoseconds(text) // 1_000_000


def check_duration(text: str, *steps: Step, unit: int = 1) -> None:
    """A multiple of so many milliseconds, and not 0."""
    nanoseconds = _nanoseconds(text, *steps)
    if not nanoseconds or nanoseconds % (unit * 1_000_000):
        whole = "milliseconds" if unit == 1 else "seconds"
        raise FieldError(f"{text!r} is not one or more whole {whole}", *steps)


def check_durations(item: Any, **fields: str) -> None:
    """Those of an object's fields that are written. fields: as they are called there, and as written."""
    for name, written in fields.items():
        if text := getattr(item, name):
            check_duration(text, written)


def _nanoseconds(text: str, *steps: Step) -> int:
    if text == "0":
        return 0
    if not _DURATION.fullmatch(text):
        raise FieldError(f"{text!r} is no duration such as 1.5s, 100ms or 1h", *steps)
    total = 0
    for number, unit in _PIECE.findall(text):
        whole, _, fraction = number.partition(".")
        total += int(whole or 0) * _UNITS[unit] + int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction)
    if total > _LONGEST_DURATION * 1_000_000:
        raise FieldError(f"{text!r} is too long", *steps)
    return total


def check_regex(text: str, *steps: Step) -> None:
    """RE2's dialect, which has no look-around and no references back."""
    if not text:
        raise FieldError("a regular expression cannot be empty; for presence write {}", *steps)
    if len(text) > _LONGEST_REGEX:
        raise FieldError(f"more than {_LONGEST_REGEX} characters; write several matches", *steps)
    try:
        re2.compile(text, _OPTIONS)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise FieldError(f"{text!r} is no RE2 expression: {reason}", *steps) from None


def check_substitution(text: str, regex: str, *steps: Step) -> None:
    r"""What takes a match's place: `\0` to `\9` are groups that the expression has, `\\` a backslash."""
    groups = re2.compile(regex, _OPTIONS).groups
    for found in _ESCAPES.findall(text):
        if found != "\\" and not (found.isdecimal() and int(found) <= groups):
            raise FieldError(f"\\{found} is none of the {groups} groups, and no backslash", *steps)


def check_header_name(name: str, *steps: Step) -> None:
    if not _HEADER.fullmatch(name):
        raise FieldError(f"{name!r} is no header's name", *steps)


def check_header_value(value: str, *steps: Step) -> None:
    """A value that is set: `%NAME(argument)%` is a formatter of Envoy's, `%%` a percent sign."""
    if _UNPRINTABLE.search(value):
        raise FieldError(f"{value!r} has control characters; remove them", *steps)
    if not _FORMATTERS.fullmatch(value):
        raise FieldError(f"{value!r}: a % that begins no %FORMATTER% is written %%", *steps)
    for name in _FORMATTER.findall(value.replace("%%", "")):
        if name not in _KNOWN_FORMATTERS:
            raise FieldError(f"{value!r}: formatter {name} is not supported by this version", *steps)


def is_authority(name: str) -> bool:
    return name.lower() in ("host", ":authority")


def check_operations(values: Mapping[str, str], *steps: Step, authority: bool = False) -> None:
    """Headers that are set or added. authority: whether `Host` may be among them."""
    for name, value in values.items():
        check_operation(name, *steps, authority=authority)
        check_header_value(value, *steps, name)


def check_operation(name: str, *steps: Step, authority: bool = False) -> None:
    if not name:
        raise FieldError("a header has a name", *steps)
    if (name.startswith(":") or is_authority(name)) and not (authority and is_authority(name)):
        raise FieldError(f"{name} cannot be changed here; use rewrite.authority for the host", *steps)
    if not is_authority(name):
        check_header_name(name, *steps)


def matches_host(host: str, pattern: str) -> bool:
    """Whether all that a host name or wildcard stands for is a pattern's (Istio's host.Name.SubsetOf)."""
    if pattern.startswith("*"):
        longer = len(host) >= len(pattern) if host.startswith("*") else True
        return longer and host.removeprefix("*").endswith(pattern[1:])
    return host == pattern


def check_distinct_hosts(hosts: Iterable[str], *steps: Step) -> None:
    """No host may be there twice, nor under a wildcard that is there too."""
    ordered = sorted(hosts, key=lambda host: host[::-1])
    for first, second in pairwise(ordered):
        if matches_host(first, second) or matches_host(second, first):
            raise FieldError(f"{first} and {second} overlap; keep one", *steps)
