"""What an API server says that it serves: the only proof that a kind is not there.

That a list is answered with 403 or 404 proves nothing: that is what a server says that has just started, or
waits for another one, and 403 is said to whoever has not the right.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import msgspec

from agent.kube.client import Client, path_of
from agent.kube.errors import ApiError

T = TypeVar("T")


class Resource(NamedTuple):
    """A kind as its paths name it."""

    group: str
    plural: str


class _Version(msgspec.Struct):
    version: str


class _Group(msgspec.Struct):
    name: str
    versions: list[_Version]


class _Groups(msgspec.Struct):
    groups: list[_Group]


class _Resource(msgspec.Struct):
    name: str


class _Resources(msgspec.Struct):
    resources: list[_Resource]


def missing(client: Client, wanted: Iterable[Resource]) -> set[Resource]:
    """Which of these no version of their group has. Blocks. Raises ApiError unless all answers are whole."""
    _check_ready(client)
    versions = {
        group.name: [each.version for each in group.versions] for group in _read(client, _Groups).groups
    }
    if not versions:
        raise ApiError(0, "Malformed", "GET /apis: no group at all")
    served: defaultdict[str, set[str]] = defaultdict(set)
    for group in {resource.group for resource in wanted} & versions.keys():
        for version in versions[group]:
            served[group] |= {one.name for one in _read(client, _Resources, group, version).resources}
    return {resource for resource in wanted if resource.plural not in served[resource.group]}


def _check_ready(client: Client) -> None:
    """Raises ApiError while the server says that it is not ready: it may not know all that it serves."""
    try:
        client.request("GET", "/readyz", accept="*/*", timeout=10)
    except ApiError as error:
        if error.status != 404:  # what stands before a server may not pass this on
            raise


def _read(client: Client, type_: type[T], *steps: str) -> T:
    path = path_of("apis", *steps)
    try:
        return msgspec.json.decode(client.request("GET", path, timeout=10), type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(0, "Malformed", f"GET {path}: no answer of discovery: {error}") from error
