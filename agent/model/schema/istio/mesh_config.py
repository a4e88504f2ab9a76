"""Istio's MeshConfig, of which we act on the providers of telemetry and of external authorization.

It is no object but a file (the key `mesh` of Istio's ConfigMap), with settings for parts of Istio that we do
not have: at its top level, and in `defaultConfig`, what is not listed here is passed over, and `not_acted_on`
names it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from agent.model.schema.istio.base import Strict
from agent.model.schema.objects import Port
from agent.model.schema.syntax import FieldError

Text = Annotated[str, msgspec.Meta(min_length=1)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
# Of the providers those whose settings are not looked into.
_OTHERS = (
    "lightstep",
    "datadog",
    "stackdriver",
    "opencensus",
    "skywalking",
    "envoyHttpAls",
    "envoyTcpAls",
    "sds",
)


class Passing(Struct, frozen=True, gc=False, rename="camel"):
    """A piece in which fields that are not listed are passed over."""


class Service(Strict, frozen=True):
    """Where a provider is. service: a host name, or `namespace/host name`."""

    service: Text
    port: Port


class RequestBody(Strict, frozen=True):
    """`includeRequestBodyInCheck`."""

    max_request_bytes: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class ExtAuthzGrpc(Service, frozen=True):
    """timeout: a duration; empty: 600 s. status_on_error: an HTTP status; empty: 403."""

    timeout: str = ""
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_request_body_in_check: RequestBody | None = None


class ExtAuthzHttp(ExtAuthzGrpc, frozen=True):
    path_prefix: str = ""
    include_headers_in_check: tuple[str, ...] = ()  # by its older name
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: Mapping[str, str] = {}
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


class HttpHeader(Strict, frozen=True):
    name: Text
    value: str = ""
    env_name: str = ""


class HttpExport(Strict, frozen=True):
    """OTLP over HTTP. timeout: a duration; empty: Envoy's 10 s."""

    path: str = ""
    timeout: str = ""
    headers: tuple[HttpHeader, ...] = ()


class GrpcExport(Strict, frozen=True):
    timeout: str = ""
    initial_metadata: tuple[HttpHeader, ...] = ()


class OpenTelemetryTracing(Service, frozen=True):
    max_tag_length: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    http: HttpExport | None = None
    grpc: GrpcExport | None = None
    resource_detectors: Any = None
    dynatrace_sampler: Any = None
    service_attribute_enrichment: str = ""


class Zipkin(Service, frozen=True):
    max_tag_length: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    enable_64bit_trace_id: bool = False
    path: str = ""
    trace_context_option: str = ""
    timeout: str = ""
    headers: tuple[HttpHeader, ...] = ()


class LogFormat(Strict, frozen=True):
    """text: a line; labels: of a JSON or OTLP one. Both with Envoy's command operators."""

    text: str = ""
    labels: Mapping[str, Any] = {}


class FileLog(Strict, frozen=True):
    """path: /dev/stdout, /dev/stderr, or a file."""

    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: bool = False


class OpenTelemetryLog(Service, frozen=True):
    log_name: str = ""
    log_format: LogFormat | None = None
    filter_state_objects_to_log: tuple[str, ...] = ()


class Prometheus(Strict, frozen=True):
    """It asks us; there is nothing to set."""


class ExtensionProvider(Strict, frozen=True):
    """One of `extensionProviders`: a name, and what it is. Raises FieldError for none, and for several."""

    name: Text
    prometheus: Prometheus | None = None
    opentelemetry: OpenTelemetryTracing | None = None
    zipkin: Zipkin | None = None
    envoy_file_access_log: FileLog | None = None
    envoy_otel_als: OpenTelemetryLog | None = None
    envoy_ext_authz_grpc: ExtAuthzGrpc | None = None
    envoy_ext_authz_http: ExtAuthzHttp | None = None
    lightstep: Any = None
    datadog: Any = None
    stackdriver: Any = None
    opencensus: Any = None
    skywalking: Any = None
    envoy_http_als: Any = None
    envoy_tcp_als: Any = None
    sds: Any = None

    def __post_init__(self) -> None:
        if len(self.given) != 1:
            what = " and ".join(self.given) or "nothing"
            raise FieldError(f"provider {self.name!r} is {what}; write one kind of provider", "name")

    @property
    def given(self) -> list[str]:
        """What it is, as it is written."""
        fields = zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True)
        return [written for field, written in fields if field != "name" and getattr(self, field) is not None]

    @property
    def kind(self) -> str:
        return self.given[0]

    @property
    def is_supported(self) -> bool:
        """Whether this version has such a provider."""
        return self.kind not in _OTHERS


class DefaultProviders(Strict, frozen=True):
    """By name, for where no Telemetry names any. None: not written."""

    metrics: tuple[str, ...] | None = None
    tracing: tuple[str, ...] | None = None
    access_logging: tuple[str, ...] | None = None


class TracingDefaults(Passing, frozen=True):
    """`defaultConfig.tracing`. sampling: None: not written."""

    sampling: Percent | None = None


class ProxyConfig(Passing, frozen=True):
    tracing: TracingDefaults = TracingDefaults()


class MeshConfig(Passing, frozen=True):
    """What all of the mesh has in common. Raises FieldError for two providers of a name.

    extension_providers: beside the built-in `prometheus` and `envoy` (the access log on standard output).
    """

    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_providers: DefaultProviders = DefaultProviders()
    default_config: ProxyConfig = ProxyConfig()

    def __post_init__(self) -> None:
        names = [one.name for one in self.extension_providers]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise FieldError(f"another provider is called {name!r}", "extensionProviders", index, "name")

    def provider(self, name: str) -> ExtensionProvider | None:
        """The one of a name; None: there is none."""
        given = (one for one in self.extension_providers if one.name == name)
        return next(given, _BUILT_IN.get(name))


# What nobody has to write (Istio's built-in providers).
_BUILT_IN = {
    "prometheus": ExtensionProvider("prometheus", prometheus=Prometheus()),
    "envoy": ExtensionProvider("envoy", envoy_file_access_log=FileLog("/dev/stdout")),
}


def not_acted_on(written: Mapping[str, Any]) -> list[str]:
    """The fields of a MeshConfig that are written and do nothing."""
    top = [name for name in written if name not in MeshConfig.__struct_encode_fields__]
    defaults = written.get("defaultConfig") or {}
    inner = [f"defaultConfig.{name}" for name in defaults if name not in ProxyConfig.__struct_encode_fields__]
    return sorted([*top, *inner])
