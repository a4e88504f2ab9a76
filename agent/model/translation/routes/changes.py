"""What both APIs' rules do to a request: headers, retries, percentages."""

from collections.abc import Iterable, Mapping

from agent.model.schema.http_values import is_authority
from protocols import routes_pb2 as pb

PARTS = 10_000  # of a million in a percent
_MILLION = 1_000_000
_BACKOFF = 25  # milliseconds, Envoy's; at most ten times as many
DEFAULT_CONDITIONS = (pb.CONNECT_FAILURE, pb.REFUSED_STREAM, pb.GRPC_UNAVAILABLE, pb.GRPC_CANCELLED)
_ATTEMPTS = 2
_CONDITIONS = {
    "5xx": pb.SERVER_ERROR,
    "gateway-error": pb.GATEWAY_ERROR,
    "reset": pb.RESET,
    "reset-before-request": pb.RESET_BEFORE_REQUEST,
    "connect-failure": pb.CONNECT_FAILURE,
    "envoy-ratelimited": pb.ENVOY_RATELIMITED,
    "retriable-4xx": pb.RETRIABLE_4XX,
    "refused-stream": pb.REFUSED_STREAM,
    "http3-post-connect-failure": pb.HTTP3_POST_CONNECT_FAILURE,
    "cancelled": pb.GRPC_CANCELLED,
    "deadline-exceeded": pb.GRPC_DEADLINE_EXCEEDED,
    "internal": pb.GRPC_INTERNAL,
    "resource-exhausted": pb.GRPC_RESOURCE_EXHAUSTED,
    "unavailable": pb.GRPC_UNAVAILABLE,
}


def parts(percent: float) -> int:
    """Of a million."""
    return min(round(percent * PARTS), _MILLION)


def header_changes(
    set_: Mapping[str, str], add: Mapping[str, str], remove: Iterable[str]
) -> pb.HeaderChanges | None:
    """In Istio's order; the authority and pseudo-headers are not among them. None: nothing changes."""
    changes = [
        pb.HeaderChange(name=name.lower(), value=value, append=append)
        for values, append in ((set_, False), (add, True))
        for name, value in sorted(values.items())
        if not is_authority(name) and not name.startswith(":")
    ]
    removed = [name.lower() for name in remove if not is_authority(name) and not name.startswith(":")]
    return pb.HeaderChanges(remove=removed, changes=changes) if changes or removed else None


def authority(set_: Mapping[str, str], add: Mapping[str, str]) -> str:
    """What headers set it to; empty: nothing."""
    return next((value for name, value in (*set_.items(), *add.items()) if is_authority(name)), "")


def default_retry() -> pb.Retry:
    """Where a rule says nothing (Istio's default policy)."""
    return retry(_ATTEMPTS, DEFAULT_CONDITIONS)


def retry(
    attempts: int,
    conditions: Iterable[pb.RetryOn],
    statuses: Iterable[int] = (),
    *,
    per_try: int = 0,
    backoff: int = 0,
    avoid_previous: bool = True,
    other_priorities: bool = False,
) -> pb.Retry:
    """per_try and backoff: milliseconds, 0 is the default."""
    base = backoff or _BACKOFF
    return pb.Retry(
        attempts=attempts,
        per_try_timeout_ms=per_try,
        conditions=conditions,
        statuses=statuses,
        avoid_previous_hosts=avoid_previous,
        other_priorities=other_priorities,
        backoff_base_ms=base,
        backoff_max_ms=10 * base,
    )


def conditions(retry_on: str) -> tuple[list[pb.RetryOn], list[int]]:
    """`retryOn` -> conditions, and statuses. What asks for a list that there is none of never occurs."""
    tokens = retry_on.split(",") if retry_on else []
    named = [_CONDITIONS[token] for token in tokens if token in _CONDITIONS]
    statuses = [int(token) for token in tokens if token.isdecimal()]
    return named if tokens else list(DEFAULT_CONDITIONS), statuses
