"""Istio's Telemetry: which metrics, log lines and traces there are of the traffic of workloads."""

from collections.abc import Mapping
from typing import Literal

from agent.model.schema.http_values import check_duration
from agent.model.schema.istio.base import IstioObject, Strict
from agent.model.schema.istio.mesh_config import Percent, Text
from agent.model.schema.istio.targeting import Targeted, Targeting
from agent.model.schema.syntax import FieldError

Mode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
Metric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]


class ProviderRef(Strict, frozen=True):
    name: Text


class ModeSelector(Strict, frozen=True):
    mode: Mode = "CLIENT_AND_SERVER"


class MetricSelector(ModeSelector, frozen=True):
    """metric, custom_metric: one at most; neither is all metrics."""

    metric: Metric | None = None
    custom_metric: Text | None = None

    def __post_init__(self) -> None:
        if self.metric and self.custom_metric:
            raise FieldError("metric and customMetric exclude each other; keep one", "customMetric")


class TagOverride(Strict, frozen=True):
    """value: an expression (CEL); of REMOVE there is none."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str | None = None

    def __post_init__(self) -> None:
        if self.operation == "REMOVE" and self.value is not None:
            raise FieldError("a label that is removed has no value; remove it", "value")
        if self.operation == "UPSERT" and not self.value:
            raise FieldError("a label needs a value, such as request.host; write it", "value")


class MetricsOverride(Strict, frozen=True):
    """disabled: None: not written, so that it stays as it is."""

    match: MetricSelector = MetricSelector()
    disabled: bool | None = None
    tag_overrides: Mapping[str, TagOverride] = {}


class Metrics(Strict, frozen=True):
    """providers: none: those from above."""

    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverride, ...] = ()
    reporting_interval: str | None = None

    def __post_init__(self) -> None:
        if self.reporting_interval is not None:
            check_duration(self.reporting_interval, "reportingInterval")


class Filter(Strict, frozen=True):
    """expression: CEL; empty: all."""

    expression: str = ""


class AccessLogging(Strict, frozen=True):
    match: ModeSelector = ModeSelector()
    providers: tuple[ProviderRef, ...] = ()
    disabled: bool | None = None
    filter: Filter | None = None


class Literal_(Strict, frozen=True):
    value: Text


class Named(Strict, frozen=True):
    """Of a variable, or of a request's header."""

    name: Text
    default_value: str = ""


class CustomTag(Strict, frozen=True):
    """One of them, or nothing at all."""

    literal: Literal_ | None = None
    environment: Named | None = None
    header: Named | None = None
    formatter: Literal_ | None = None

    def __post_init__(self) -> None:
        written = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(written) > 1:
            raise FieldError(f"{written[0]} and {written[1]} exclude each other; keep one", written[1])


class Tracing(Strict, frozen=True):
    """None: not written, so that it stays as it is; custom_tags: in the place of all from above."""

    match: ModeSelector = ModeSelector()
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Percent | None = None
    disable_span_reporting: bool | None = None
    custom_tags: Mapping[str, CustomTag] = {}
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: bool | None = None


class TelemetrySpec(Targeting, frozen=True):
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()
    tracing: tuple[Tracing, ...] = ()


class Telemetry(Targeted, IstioObject, frozen=True):
    """It lets nobody in: of one that is refused nothing is in force but its last good version."""

    spec: TelemetrySpec = TelemetrySpec()
    status: object = None

    @property
    def selects(self) -> bool:
        """Whether it is for some workloads, and not for all of its namespace."""
        return bool(self.selector or self.targets)
