"""Telemetry -> `warren.telemetry.Telemetry`: an object's own word, with what comes from above it.

The mesh's object (the root namespace's that selects nothing) stands first, then the namespace's, then the one
that selects the workload; of several on a level the oldest is in force. Each later one has the last word in
whatever it writes, as istiod merges them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, get_args

from agent.model.engine.invalidation import endpoints_of
from agent.model.engine.members import Workload, labels_of
from agent.model.engine.store import Entry
from agent.model.engine.view import ServiceLike, View
from agent.model.mesh import ROOT_NAMESPACE
from agent.model.schema.http_values import milliseconds
from agent.model.schema.istio.mesh_config import ExtensionProvider, MeshConfig
from agent.model.schema.istio.telemetry import (
    AccessLogging,
    CustomTag,
    Metric,
    MetricsOverride,
    ModeSelector,
    ProviderRef,
    Telemetry,
    Tracing,
)
from agent.model.schema.objects import Key, fits, key_of
from agent.model.translation.expression import ExpressionError, parse
from protocols import telemetry_pb2 as proto

T = TypeVar("T")

_ALL: tuple[Metric, ...] = get_args(Metric)[1:]
_SAMPLING = 1.0  # percent: Istio's default (PILOT_TRACE_SAMPLING)
_KINDS = {
    "envoyFileAccessLog": proto.Provider.FILE,
    "envoyOtelAls": proto.Provider.OPENTELEMETRY,
    "opentelemetry": proto.Provider.OPENTELEMETRY,
    "zipkin": proto.Provider.ZIPKIN,
}
_OWN_LOG = ("", "/dev/stdout", "/dev/stderr")  # the tunnel has one log
# By what they are named for: the kinds of providers that do it.
FOR = {
    "metrics": ("prometheus",),
    "accessLogging": ("envoyFileAccessLog", "envoyOtelAls"),
    "tracing": ("opentelemetry",),
}


def of_namespace(view: View, namespace: str) -> Telemetry | None:
    """The one that is in force for all workloads of a namespace, or (the root's) of the mesh."""
    return _oldest(view.store.each(Telemetry, "telemetry of all", namespace))


def chain(view: View, item: Telemetry | None, namespace: str) -> list[Telemetry]:
    """What is in force, the most general first: the mesh's, the namespace's, and an object that selects."""
    levels = [of_namespace(view, ROOT_NAMESPACE)]
    levels += [of_namespace(view, namespace)] if namespace not in ("", ROOT_NAMESPACE) else []
    return [one for one in (*levels, item) if one is not None]


def name_for(view: View, item: Workload) -> str:
    """By which a workload names what selects it; empty: nothing does."""
    selecting = _oldest((*_selecting(view, item), *_attached(view, item)))
    return f"{selecting.metadata.namespace}/{selecting.metadata.name}" if selecting else ""


def entries(item: Telemetry) -> Iterator[Entry]:
    """By which the two above find it."""
    namespace = item.metadata.namespace
    if not item.selects:
        yield "telemetry of all", namespace
    yield from (("telemetry", namespace, *label) for label in sorted(item.selector.items())[:1])
    for target in item.targets:
        yield "telemetry attached", namespace
        yield "telemetry attached", namespace, target.kind, target.name


def naming(view: View, item: Telemetry) -> Iterator[Key]:
    """The workloads that name it."""
    namespace = item.metadata.namespace
    yield from map(key_of, view.selected(namespace, item.selector))
    for target in item.targets:
        service = view.store.objects.get(Key(target.kind, namespace, target.name))
        if isinstance(service, ServiceLike):
            yield from endpoints_of(view, service)


def merged(config: MeshConfig, name: str, chain: Sequence[Telemetry]) -> proto.Telemetry:
    """What a chain of objects says, the most general one first."""
    return proto.Telemetry(
        name=name, client=_side(config, "CLIENT", chain), server=_side(config, "SERVER", chain)
    )


def is_default(message: proto.Telemetry) -> bool:
    """Whether it says nothing."""
    return not (message.client.ByteSize() or message.server.ByteSize())


def _oldest(items: Iterable[Telemetry]) -> Telemetry | None:
    return min(items, key=lambda item: (item.metadata.creation_timestamp, key_of(item)), default=None)


def _selecting(view: View, item: Workload) -> Iterator[Telemetry]:
    labels = labels_of(item)
    for one in view.store.labelled("telemetry", item.metadata.namespace, labels):
        if isinstance(one, Telemetry) and fits(one.selector, labels):
            yield one


def _attached(view: View, item: Workload) -> Iterator[Telemetry]:
    """Those of its services."""
    namespace = item.metadata.namespace
    if view.store.find("telemetry attached", namespace):
        for service in view.store.selecting(namespace, labels_of(item)):
            where = ("telemetry attached", namespace, type(service).__name__, service.metadata.name)
            yield from view.store.each(Telemetry, *where)


def _side(config: MeshConfig, mode: str, chain: Sequence[Telemetry]) -> proto.Side:
    side = proto.Side(metrics=_metrics(config, mode, chain))
    if (logging := _logging(config, mode, chain)) is not None:
        side.access_logging.CopyFrom(logging)
    if (tracing := _tracing(config, mode, chain)) is not None:
        side.tracing.CopyFrom(tracing)
    return side


def _concerns(match: ModeSelector, mode: str) -> bool:
    return match.mode in (mode, "CLIENT_AND_SERVER")


def _usable(config: MeshConfig, what: str, names: Iterable[str]) -> list[ExtensionProvider]:
    found = (config.provider(name) for name in names)
    return [one for one in found if one is not None and one.kind in FOR[what]]


def ignored(provider: ExtensionProvider) -> Iterator[str]:
    """The fields of a supported provider that do nothing, as they are written in the mesh config."""
    traces, file, records = provider.opentelemetry, provider.envoy_file_access_log, provider.envoy_otel_als
    if traces is not None:
        yield from ["opentelemetry.resourceDetectors"] if traces.resource_detectors is not None else ()
        yield from ["opentelemetry.dynatraceSampler"] if traces.dynatrace_sampler is not None else ()
    if file is not None:
        yield from ["envoyFileAccessLog.path"] if file.path not in _OWN_LOG else ()
        yield from ["envoyFileAccessLog.logFormat"] if file.log_format is not None else ()
    if records is not None and records.log_format is not None:
        yield "envoyOtelAls.logFormat"


def _names(refs: Iterable[ProviderRef], otherwise: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(ref.name for ref in refs) or otherwise


def _metrics(config: MeshConfig, mode: str, chain: Sequence[Telemetry]) -> list[proto.Metric]:
    given = config.default_providers.metrics
    providers = ("prometheus",) if given is None else given
    known = {name: proto.Metric(name=name) for name in _ALL}
    for item in chain:
        for entry in item.spec.metrics:
            providers = _names(entry.providers, providers)
            if _usable(config, "metrics", providers):
                for override in entry.overrides:
                    _override(known, mode, override)
    if not _usable(config, "metrics", providers):
        return [proto.Metric(name=metric.name, disabled=True) for metric in known.values()]
    return [metric for metric in known.values() if metric.disabled or metric.tags or metric.removed]


def _override(known: dict[Metric, proto.Metric], mode: str, override: MetricsOverride) -> None:
    match = override.match
    if match.custom_metric or not _concerns(match, mode):
        return
    named = _ALL if match.metric in (None, "ALL_METRICS") else (match.metric,)
    for metric in (known[name] for name in named if name):
        if override.disabled is not None:
            metric.disabled = override.disabled
        for tag, how in override.tag_overrides.items():
            _retag(metric, tag, how.value)


def _retag(metric: proto.Metric, tag: str, value: str | None) -> None:
    """None: without it. A value that is not understood changes nothing."""
    expression = _parsed(value) if value is not None else None
    if value is not None and expression is None:
        return
    removed = {*metric.removed} - {tag} | ({tag} if expression is None else set())
    metric.tags.pop(tag, None)
    if expression is not None:
        metric.tags[tag].CopyFrom(expression)
    metric.ClearField("removed")
    metric.removed.extend(sorted(removed))


def _parsed(text: str) -> proto.Expression | None:
    try:
        return parse(text)
    except ExpressionError:
        return None


def _logging(config: MeshConfig, mode: str, chain: Sequence[Telemetry]) -> proto.AccessLogging | None:
    """None: nobody says anything."""
    given = config.default_providers.access_logging
    said = [one for item in chain for one in item.spec.access_logging if _concerns(one.match, mode)]
    if given is None and not said:
        return None
    providers, disabled, filters = given if given is not None else ("envoy",), set[str](), dict[str, str]()
    for entry in said:
        providers = _names(entry.providers, providers)
        _switch(entry, providers, disabled, filters)
    usable = _usable(config, "accessLogging", (name for name in providers if name not in disabled))
    return proto.AccessLogging(logs=[_log(one, filters.get(one.name, "")) for one in usable])


def _switch(
    entry: AccessLogging, providers: tuple[str, ...], disabled: set[str], filters: dict[str, str]
) -> None:
    if entry.disabled is not None:
        (disabled.update if entry.disabled else disabled.difference_update)(providers)
    if entry.filter is not None:
        filters.update(dict.fromkeys(providers, entry.filter.expression))


def _log(provider: ExtensionProvider, filter_: str) -> proto.Log:
    """A filter that is not understood withholds nothing."""
    log = proto.Log(provider=_provider(provider))
    if filter_ and (expression := _parsed(filter_)) is not None:
        log.filter.CopyFrom(expression)
    return log


def _tracing(config: MeshConfig, mode: str, chain: Sequence[Telemetry]) -> proto.Tracing | None:
    """None: nobody says anything, or there is nobody to tell."""
    providers = config.default_providers.tracing or ()
    said = [one for item in chain for one in item.spec.tracing if _concerns(one.match, mode)]
    for entry in said:
        providers = _names(entry.providers, providers)
    if not (usable := _usable(config, "tracing", providers)):
        return None
    sampling = (one.random_sampling_percentage for one in said)
    by_default = config.default_config.tracing.sampling
    tags = next((one.custom_tags for one in reversed(said) if one.custom_tags), {})
    return proto.Tracing(
        providers=[_provider(one) for one in usable[:1]],
        sampling=_last(sampling, _SAMPLING if by_default is None else by_default),
        custom_tags={name: _tag(tag) for name, tag in tags.items() if tag.formatter is None},
        disable_span_reporting=_last((one.disable_span_reporting for one in said), False),
        use_request_id_for_trace_sampling=_last((_request_id(one) for one in said), True),
        enable_istio_tags=_last((one.enable_istio_tags for one in said), True),
        disable_context_propagation=_last((one.disable_context_propagation for one in said), False),
    )


def _request_id(entry: Tracing) -> bool | None:
    return entry.use_request_id_for_trace_sampling


def _last(values: Iterable[T | None], otherwise: T) -> T:
    """The last that is written."""
    *_, last = (otherwise, *(value for value in values if value is not None))
    return last


def _tag(tag: CustomTag) -> proto.CustomTag:
    if tag.header:
        return proto.CustomTag(header=tag.header.name.lower(), default_value=tag.header.default_value)
    if tag.environment:
        named = tag.environment
        return proto.CustomTag(environment=named.name, default_value=named.default_value)
    return proto.CustomTag(literal=tag.literal.value if tag.literal else "")


def _provider(given: ExtensionProvider) -> proto.Provider:
    message = proto.Provider(name=given.name, kind=_KINDS[given.kind])
    if (file := given.envoy_file_access_log) is not None:
        message.path = file.path
    where = given.opentelemetry or given.zipkin or given.envoy_otel_als
    if where is not None:
        message.service, message.port = where.service, where.port
    if (tracing := given.opentelemetry) is not None:
        message.max_tag_length = tracing.max_tag_length
        if tracing.http is not None:
            message.http, message.http_path = True, tracing.http.path
            message.timeout = _milliseconds(tracing.http.timeout)
            message.headers.update({one.name.lower(): one.value for one in tracing.http.headers})
        if tracing.grpc is not None:
            message.timeout = _milliseconds(tracing.grpc.timeout)
            message.headers.update({one.name.lower(): one.value for one in tracing.grpc.initial_metadata})
    if (zipkin := given.zipkin) is not None:
        message.http_path, message.max_tag_length = zipkin.path, zipkin.max_tag_length
    log = given.envoy_file_access_log or given.envoy_otel_als
    if log is not None and log.log_format is not None:
        message.text_format = log.log_format.text
        message.labels.update({name: str(value) for name, value in log.log_format.labels.items()})
    if given.envoy_otel_als is not None:
        message.log_name = given.envoy_otel_als.log_name
    return message


def _milliseconds(text: str) -> int:
    return milliseconds(text) if text else 0
