"""Conditions in the status of an object, beside those of others."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from agent.kube.client import MERGE, Client
from agent.kube.errors import ApiError

_TIMEOUT = 10.0  # seconds
_TRIES = 5  # each after another writer was faster


class Condition(NamedTuple):
    """`status.conditions[]`. Its status is False: what is well has no condition of ours.

    generation: for which version of the object it holds; 0: the present one.
    """

    type: str
    reason: str
    message: str
    generation: int


def put(client: Client, path: str, condition: Condition) -> None:
    """Let the object at `path` have this condition; nothing is written if it does. Raises ApiError."""
    _change(client, path, condition.type, condition)


def remove(client: Client, path: str, type_: str) -> None:
    """Let the object at `path` have no condition of this type. Raises ApiError."""
    _change(client, path, type_, None)


def _change(client: Client, path: str, type_: str, condition: Condition | None) -> None:
    def changed(conditions: list[Any], generation: int) -> list[Any]:
        former = next((one for one in conditions if one.get("type") == type_), None)
        wanted = _written(condition, former, generation) if condition else None
        others = [one for one in conditions if one.get("type") != type_]
        return conditions if wanted == former else [*others, wanted] if wanted else others

    update(client, path, "conditions", changed)


def update(client: Client, path: str, field: str, changed: Callable[[list[Any], int], list[Any]]) -> None:
    """Write a list of `status`, unless it stays as it is. Raises ApiError.

    changed: the list as it is, and the object's generation -> as it has to be.
    """
    write(client, path, lambda status, generation: {field: changed(status.get(field) or [], generation)})


def write(client: Client, path: str, changed: Callable[[Mapping[str, Any], int], Mapping[str, Any]]) -> None:
    """Write fields of `status`, unless they stay as they are. Raises ApiError.

    changed: the status as it is, and the object's generation -> fields as they have to be.
    """
    for remaining in reversed(range(_TRIES)):
        item = client.read(path)
        former = item.get("status") or {}
        wanted = changed(former, item["metadata"].get("generation", 0))
        if all((former.get(field) or []) == value for field, value in wanted.items()):
            return
        body = {"metadata": {"resourceVersion": item["metadata"]["resourceVersion"]}, "status": wanted}
        try:
            client.request("PATCH", f"{path}/status", body=body, content_type=MERGE, timeout=_TIMEOUT)
        except ApiError as error:
            if error.status != 409 or not remaining:
                raise
        else:
            return


def _written(condition: Condition, former: Any, generation: int) -> Any:
    since = former.get("lastTransitionTime") if former and former.get("status") == "False" else None
    return {
        "type": condition.type,
        "status": "False",
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": condition.generation or generation,
        "lastTransitionTime": since or now(),
    }


def now() -> str:
    """RFC 3339, as an API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
