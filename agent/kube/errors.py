"""What an API server answers when it does not do what it was asked for."""

import msgspec

from agent.errors import WarrenError


class ApiError(WarrenError):
    """A request that was refused, or was not answered.

    status: HTTP's, or 0 when no whole answer came. reason: Kubernetes' own word for it, like NotFound or
    Conflict, else one of ours: Unreachable, Silent, Ended, TooLong, Malformed. retry_after: seconds that the
    server asked for.
    """

    def __init__(self, status: int, reason: str, text: str, retry_after: float = 0) -> None:
        super().__init__(text)
        self.status, self.reason, self.retry_after = status, reason, retry_after


class Status(msgspec.Struct):
    """`kind: Status` of meta/v1: the body of a refusal, and the object in a watch's ERROR event."""

    code: int = 0
    reason: str = ""
    message: str = ""


def refused(request: str, body: bytes, status: int = 0, retry_after: str | None = None) -> ApiError:
    """The error for a `kind: Status`. request: method and path; status: HTTP's, if it has one."""
    try:
        told = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = Status(message=body[:200].decode(errors="replace"))
    text = " ".join(told.message.split()) or told.reason
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    status = status or told.code
    return ApiError(status, told.reason, f"{request}: {status} {text:.300}", seconds)


def unanswered(request: str, error: Exception) -> ApiError:
    """The error for an answer that did not come, or not whole."""
    return ApiError(0, "Unreachable", f"{request}: {' '.join(str(error).split()):.300}")
