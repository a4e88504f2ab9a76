"""Faults that a VirtualService's HTTP rule injects (Istio's HTTPFaultInjection)."""

from typing import Annotated

import msgspec

from agent.model.schema.http_values import check_durations
from agent.model.schema.istio.base import Strict
from agent.model.schema.syntax import FieldError, Step

GRPC_STATUSES = (  # by number: google.rpc.Code
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
_Status = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]


class Percent(Strict, frozen=True):
    value: float = 0.0


class Abort(Strict, frozen=True):
    http_status: _Status | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None

    def __post_init__(self) -> None:
        names = ("http_status", "grpc_status", "http2_error")
        if sum(getattr(self, name) is not None for name in names) > 1:
            raise FieldError("httpStatus, grpcStatus and http2Error exclude each other; keep one")
        if self.http2_error is not None:
            raise FieldError("not implemented in Istio either; use httpStatus or grpcStatus", "http2Error")
        if self.http_status is not None:
            check_status(self.http_status, "httpStatus")
        if self.grpc_status is not None and self.grpc_status not in GRPC_STATUSES:
            raise FieldError(f"{self.grpc_status!r} is no gRPC status such as UNAVAILABLE", "grpcStatus")
        _check_fault_percentage(self.percentage)


class Delay(Strict, frozen=True):
    """percent: deprecated. Without one of both nothing is delayed."""

    fixed_delay: str = ""
    exponential_delay: str = ""
    percentage: Percent | None = None
    percent: _Status = 0

    def __post_init__(self) -> None:
        if self.exponential_delay:
            raise FieldError("not implemented in Istio either; use fixedDelay", "exponentialDelay")
        check_durations(self, fixed_delay="fixedDelay")
        _check_fault_percentage(self.percentage)


class Fault(Strict, frozen=True):
    delay: Delay | None = None
    abort: Abort | None = None

    def __post_init__(self) -> None:
        if not self.delay and not self.abort:
            raise FieldError("nothing is injected; write delay or abort")


def check_status(status: int, *steps: Step) -> None:
    if not 200 <= status <= 599:
        raise FieldError(f"{status} is no status (200 to 599)", *steps)


def check_percentage(percent: Percent | None, *steps: Step) -> None:
    if percent and not 0 <= percent.value <= 100:
        raise FieldError(f"{percent.value} is no percentage (0 to 100)", *steps, "value")


def _check_fault_percentage(percent: Percent | None) -> None:
    check_percentage(percent, "percentage")
    if percent and 0 < percent.value < 0.0001:
        raise FieldError("less than 0.0001 is never; write 0", "percentage", "value")
