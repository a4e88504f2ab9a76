"""Telemetry -> `warren.telemetry.Telemetry`: what is told of the traffic of workloads."""

from collections.abc import Iterable, Iterator

from agent.model.engine.kind import TELEMETRY as GROUP
from agent.model.engine.kind import Derived, Descriptor
from agent.model.engine.view import View
from agent.model.mesh import ROOT_NAMESPACE, Mesh
from agent.model.resources import TELEMETRY, Resource, telemetry_resource
from agent.model.schema.istio.telemetry import MetricsOverride, ProviderRef, Telemetry
from agent.model.schema.objects import Key, key_of
from agent.model.translation.expression import ExpressionError, parse
from agent.model.translation.telemetry import (
    FOR,
    chain,
    entries,
    ignored,
    is_default,
    merged,
    naming,
    of_namespace,
)

_OF_ALL = "TelemetryOfAll"  # one for each namespace, and one for the mesh
_OF_THE_MESH = Key(_OF_ALL, "", "")


def _translate(view: View, item: Telemetry) -> Iterator[Resource]:
    """Of one that selects workloads."""
    if item.selects:
        namespace = item.metadata.namespace
        name = f"{namespace}/{item.metadata.name}"
        yield telemetry_resource(merged(view.mesh.config, name, chain(view, item, namespace)))


def _of_all(view: View, key: Key) -> Iterator[Resource]:
    """What is in force for a namespace that has a word of its own, or (empty) for the mesh, if it is any."""
    namespace = key.namespace
    message = merged(view.mesh.config, namespace, chain(view, None, namespace))
    if of_namespace(view, namespace) if namespace else not is_default(message):
        yield telemetry_resource(message)


def _dependants(view: View, item: Telemetry) -> Iterator[Key]:
    """Whoever names it, those below it, and whoever may take its place."""
    namespace = item.metadata.namespace
    yield from naming(view, item)
    if namespace == ROOT_NAMESPACE and not item.selects:
        yield _OF_THE_MESH
        for other in view.store.each(Telemetry, "Telemetry"):
            yield key_of(other)
            if other.metadata.namespace != ROOT_NAMESPACE:
                yield Key(_OF_ALL, other.metadata.namespace, "")
    elif namespace != ROOT_NAMESPACE:
        yield Key(_OF_ALL, namespace, "")
        yield from view.store.find("Telemetry", namespace)


def _problems(view: View, item: Telemetry) -> Iterator[str]:
    in_force = item if item.selects else of_namespace(view, item.metadata.namespace)
    if in_force is not None and in_force is not item:
        yield f"ignored: {key_of(in_force)} takes precedence (oldest wins, ties by name)"
    for target in item.targets:
        if not target.is_service:
            yield f"targetRefs: {target.kind} {target.name} is ignored: write a selector for its pods"
    for index, metrics in enumerate(item.spec.metrics):
        where = f"metrics[{index}]"
        yield from _providers(view, "metrics", where, metrics.providers)
        if metrics.reporting_interval is not None:
            yield f"{where}.reportingInterval does nothing: bytes are counted as they pass"
        for number, override in enumerate(metrics.overrides):
            yield from _override(f"{where}.overrides[{number}]", override)
    for index, logging in enumerate(item.spec.access_logging):
        where = f"accessLogging[{index}]"
        yield from _providers(view, "accessLogging", where, logging.providers)
        if logging.filter and logging.filter.expression:
            yield from _expression(f"{where}.filter.expression", logging.filter.expression)
    yield from _of_tracing(view, item)


def _of_tracing(view: View, item: Telemetry) -> Iterator[str]:
    for index, tracing in enumerate(item.spec.tracing):
        where = f"tracing[{index}]"
        yield from _providers(view, "tracing", where, tracing.providers)
        if len(tracing.providers) > 1:
            yield f"{where}.providers: only the first is used"
        for name, tag in tracing.custom_tags.items():
            if tag.formatter is not None:
                yield f"{where}.customTags.{name}.formatter is not supported: the tag is left out"


def _override(where: str, override: MetricsOverride) -> Iterator[str]:
    if override.match.custom_metric:
        yield f"{where}.match.customMetric: there are no custom metrics"
    for name, tag in override.tag_overrides.items():
        if tag.value:
            yield from _expression(f"{where}.tagOverrides.{name}.value", tag.value)


def _expression(where: str, text: str) -> Iterator[str]:
    try:
        parse(text)
    except ExpressionError as error:
        yield f"{where} is ignored: {error}"


def _providers(view: View, what: str, where: str, refs: Iterable[ProviderRef]) -> Iterator[str]:
    for index, ref in enumerate(refs):
        provider = view.mesh.config.provider(ref.name)
        if provider is None:
            yield f"{where}.providers[{index}]: the mesh config has no provider {ref.name!r}"
        elif provider.kind not in FOR[what]:
            yield f"{where}.providers[{index}]: {ref.name!r} ({provider.kind}) is not supported for {what}"
        else:
            for field in ignored(provider):
                yield f"{where}.providers[{index}]: {field} of {ref.name!r} is ignored"


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    whole = "" if key.namespace == ROOT_NAMESPACE else key.namespace
    return type_url == TELEMETRY and name in (whole, key.namespace, f"{key.namespace}/{key.name}")


KIND = Descriptor(
    "Telemetry",
    *GROUP,
    "telemetries",
    Telemetry,
    index=lambda item: (("Telemetry",), *entries(item)),
    dependants=_dependants,
    translate=_translate,
    problems=_problems,
    may_make=_may_make,
    derived=(Derived(_OF_ALL, _of_all, always=(_OF_THE_MESH,)),),
)
