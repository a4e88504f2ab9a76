"""Refusals, as the `Status` objects that Kubernetes answers with."""

from collections.abc import Sequence
from typing import Any

from tests.support.kubernetes.kinds import Kind


class Refused(Exception):
    """A request that is answered with a failure: `code` is the HTTP status, `reason` Kubernetes' word."""

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None, go_on: str = ""
    ) -> None:
        """`go_on`: a continue token by which a list that expired can be finished all the same."""
        super().__init__(message)
        self.code, self.reason, self.message, self.details, self.go_on = code, reason, message, details, go_on

    def status(self) -> dict[str, Any]:
        """The object that goes into the body, or into an ERROR event."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.go_on} if self.go_on else {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            **({"details": self.details} if self.details is not None else {}),
            "code": self.code,
        }


def details(kind: Kind, name: str, what: str = "") -> dict[str, Any]:
    """What a refusal says about its object; `what` is its plural unless given."""
    found = {"name": name, "group": kind.group, "kind": what or kind.plural}
    return {key: value for key, value in found.items() if value}


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def not_served() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource", {})


def not_found(kind: Kind, name: str) -> Refused:
    return Refused(404, "NotFound", f'{kind.resource} "{name}" not found', details(kind, name))


def no_such_method() -> Refused:
    message = "the server does not allow this method on the requested resource"
    return Refused(405, "MethodNotAllowed", message, {})


def already_exists(kind: Kind, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', details(kind, name))


def conflict(kind: Kind, name: str, why: str = "") -> Refused:
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return Refused(409, "Conflict", message, details(kind, name))


def unsupported(accepted: Sequence[str]) -> Refused:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return Refused(415, "UnsupportedMediaType", message + ", ".join(accepted))


class Cause(dict[str, str]):
    """One thing that is wrong with an object: `field` is its path, `reason` one of Kubernetes' words."""

    def __init__(self, reason: str, field: str, message: str) -> None:
        super().__init__(reason=reason, message=message, field=field)

    def __str__(self) -> str:
        return f"{self['field']}: {self['message']}"


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> Refused:
    """422 for an object."""
    what = f"{kind.name}.{kind.group}" if kind.group else kind.name
    listed = ", ".join(map(str, causes))
    message = f'{what} "{name}" is invalid: ' + (listed if len(causes) == 1 else f"[{listed}]")
    return Refused(422, "Invalid", message, {**details(kind, name, kind.name), "causes": list(causes)})


def wrong_options(kind: str, causes: Sequence[Cause]) -> Refused:
    """422 for a query; `kind`: ListOptions and the like."""
    listed = ", ".join(map(str, causes))
    message = f'{kind}.meta.k8s.io "" is invalid: ' + (listed if len(causes) == 1 else f"[{listed}]")
    return Refused(422, "Invalid", message, {"group": "meta.k8s.io", "kind": kind, "causes": list(causes)})


def forbidden(kind: Kind, name: str, why: str, cause: Cause | None = None) -> Refused:
    about = details(kind, name) | ({"causes": [cause]} if cause else {})
    return Refused(403, "Forbidden", f'{kind.resource} "{name}" is forbidden: {why}', about)


def too_large(asked: int, current: int) -> Refused:
    """504 for a resourceVersion that is yet to come."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    return Refused(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})


def expired(message: str, go_on: str = "") -> Refused:
    """410: the history that was asked for has been compacted."""
    return Refused(410, "Expired", message, go_on=go_on)
