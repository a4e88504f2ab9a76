"""What the agent tells Prometheus, read from where it is known at the time of the question."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from agent.build import build
from agent.model.model import Model
from agent.model.schema.istio.policy import Policy
from agent.node.cni import CniServer
from agent.node.enrolment import Enrolment
from agent.node.pods import Pods
from agent.node.watch import Watch
from agent.sources.source import Source
from agent.xds.server import XdsServer
from agent.zds.server import ZdsServer


class Sources(Struct, frozen=True):
    """Where the figures come from."""

    model: Model
    source: Source
    xds: XdsServer
    zds: ZdsServer
    enrolment: Enrolment
    watch: Watch
    pods: Pods
    cni: CniServer
    verdicts: Mapping[str, int]
    fill: Mapping[str, tuple[int, int]]


def exposition(sources: Sources) -> str:
    """All figures, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(PROCESS_COLLECTOR)
    registry.register(_Figures(sources))
    return generate_latest(registry).decode()


class _Figures(Collector):
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        yield build("warren-agent")
        yield from _configuration(self._sources)
        yield from _capture(self._sources.enrolment, self._sources.watch)
        yield from _starting(self._sources.pods, self._sources.cni)
        yield from _tunnels(self._sources)
        verdicts = _counter("warren_verdicts", "What the kernel's programs decided.", ["verdict"])
        for name, count in self._sources.verdicts.items():
            verdicts.add_metric([name], count)
        yield verdicts
        entries = ((name, now) for name, (now, _) in self._sources.fill.items())
        yield _labelled("warren_map_entries", "Of maps in the kernel that can be full.", "map", entries)
        most = ((name, most) for name, (_, most) in self._sources.fill.items())
        yield _labelled("warren_map_max_entries", "That there can be.", "map", most)


def _configuration(sources: Sources) -> Iterator[Metric]:
    model = sources.model
    version = _gauge("warren_agent_config_info", "Version of what is served.", ["version"])
    version.add_metric([model.version], 1)
    yield version
    objects = Counter(key.kind for key in model.store.objects)
    yield _labelled("warren_agent_objects", "Objects of the source.", "kind", objects.items())
    resources = sources.xds.cache.count()
    yield _labelled("warren_agent_resources", "xDS resources that are served.", "type", resources.items())
    yield from _source(sources.source)
    yield _single("warren_agent_problem_objects", "In force in part, named in the log.", len(model.problems))
    text = "Policies that were refused, by what is in force of them: strictest_reading or last_good_version."
    refused = _gauge("warren_agent_refused_policies", text, ["kind", "in_force"])
    for labels, count in Counter(map(_held, model.store.each(Policy, "refused"))).items():
        refused.add_metric(labels, count)
    yield refused


def _held(policy: Policy) -> tuple[str, str]:
    return type(policy).__name__, "strictest_reading" if policy.strictest else "last_good_version"


def _source(source: Source) -> Iterator[Metric]:
    health = source.health
    yield _single("warren_agent_rejected_objects", "Named in the log.", len(source.rejected))
    yield _single("warren_agent_source_age_seconds", "Since the source was last heard, if away.", health.age)
    restarts = _counter("warren_agent_watch_restarts", "Lists and watches asked for again.", ["reason"])
    for reason, count in health.restarts.items():
        restarts.add_metric([reason], count)
    yield restarts
    kinds = _gauge("warren_agent_kinds", "Kinds that are read, or cannot be.", ["kind", "state"])
    for kind, state in health.kinds.items():
        kinds.add_metric([kind, state], 1)
    yield kinds
    text = "Kinds that cannot be read, while which nothing new is let in."
    yield _labelled("warren_agent_kinds_unsynced", text, "kind", ((kind, 1) for kind in health.unsynced))
    yield _single("warren_agent_changes_held", "Until all kinds are synced again.", health.held)


def _capture(enrolment: Enrolment, watch: Watch) -> Iterator[Metric]:
    yield _single("warren_agent_pods_wanted", "Of this node, to be captured.", len(enrolment.wanted()))
    yield _single("warren_agent_pods_enrolled", "For which every step is done.", enrolment.enrolled())
    yield _single("warren_agent_pods_failing", "Of this node, being retried.", len(enrolment.failing))
    yield _single(
        "warren_agent_pods_captured", "With which nothing is wrong in the kernel.", watch.captured()
    )
    text = "With which something is wrong in the kernel."
    yield _labelled("warren_agent_pods_broken", text, "reason", watch.counts().items())
    repairs = _counter("warren_agent_repairs", "What was taken away and put back.", ["reason"])
    for reason, count in watch.mended.items():
        repairs.add_metric([reason], count)
    yield repairs


def _starting(pods: Pods, cni: CniServer) -> Iterator[Metric]:
    yield _single("warren_agent_pods_not_found", "To be captured, and nobody says where.", len(pods.lost()))
    calls = _counter("warren_agent_cni_calls", "Of the container runtime.", ["command", "result"])
    for labels, count in cni.calls.items():
        calls.add_metric(labels, count)
    yield calls
    yield SummaryMetricFamily(
        "warren_agent_cni_add_seconds",
        "For which pods' starts were held.",
        sum_value=cni.held,
        count_value=sum(count for (command, _), count in cni.calls.items() if command == "ADD"),
    )


def _tunnels(sources: Sources) -> Iterator[Metric]:
    states = Counter(
        (one.type_url, "rejected" if one.rejection else "current" if one.current else "behind")
        for one in sources.xds.subscribed()
    )
    subscriptions = _gauge("warren_agent_xds_subscriptions", "Of connected clients.", ["type", "state"])
    for labels, count in states.items():
        subscriptions.add_metric(labels, count)
    yield subscriptions
    answers = _counter("warren_agent_xds_answers", "Responses taken or refused.", ["type", "answer"])
    for labels, count in sources.xds.answers().items():
        answers.add_metric(labels, count)
    yield answers
    yield _convergence(sources.xds)
    tunnels = sources.zds.tunnels()
    yield _single("warren_agent_zds_tunnels", "Tunnels that are connected.", len(tunnels))
    refused = sum(len(refusals) for refusals in tunnels.values())
    yield _single("warren_agent_zds_refused_pods", "Pods that a tunnel does not serve.", refused)


def _convergence(xds: XdsServer) -> Metric:
    text = "From when a change is heard of until a tunnel has acknowledged it."
    buckets = [(str(bound).replace("inf", "+Inf"), count) for bound, count in xds.convergence.cumulative()]
    return HistogramMetricFamily("warren_xds_convergence_seconds", text, buckets, xds.convergence.sum)


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _labelled(name: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = _gauge(name, text, [label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=labels)
