"""What an API server answers when it does not do what it was asked for."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from agent.errors import WarrenError


class ApiError(WarrenError):
    """A request that was refused, or was not answered.

    status: HTTP's, or 0 when no whole answer came. reason: Kubernetes' own word for it, like NotFound or
    Conflict, else one of ours: Unreachable, Silent, Ended, TooLong, Malformed. retry_after: seconds that the
    server asked for. date: when the server answered, by its own clock (RFC 9110 section 6.6.1), if it says.
    """

    def __init__(self, status: int, reason: str, text: str, retry_after: float = 0, date: str = "") -> None:
        super().__init__(text)
        self.status, self.reason, self.retry_after, self.date = status, reason, retry_after, date


class CredentialsError(WarrenError):
    """A kubeconfig, token or certificate that cannot be read."""


class Status(msgspec.Struct):
    """`kind: Status` of meta/v1: the body of a refusal, and the object in a watch's ERROR event."""

    code: int = 0
    reason: str = ""
    message: str = ""


def refused(
    request: str, body: bytes, status: int = 0, headers: Mapping[str, str] = MappingProxyType({})
) -> ApiError:
    """The error for a `kind: Status`. request: method and path; status, headers: HTTP's, if there are any."""
    try:
        told = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = Status(message=body[:200].decode(errors="replace"))
    text = " ".join(told.message.split()) or told.reason
    retry_after = headers.get("retry-after", "")
    seconds = float(retry_after) if retry_after.isdecimal() else 0.0
    status = status or told.code
    what = f"{request}: {status} {text:.300}"
    return ApiError(status, told.reason, what, seconds, headers.get("date", ""))


def unanswered(request: str, error: Exception) -> ApiError:
    """The error for an answer that did not come, or not whole."""
    return ApiError(0, "Unreachable", f"{request}: {' '.join(str(error).split()):.300}")
