"""What Warren is to reach, between nodes beside Envoy and on one node beside no mesh, and whether it does.

Beside another build of itself it is to be no slower.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.results import Summary, key, ratio


@dataclass(frozen=True)
class Target:
    """A bound on a figure: on its ratio to the reference, or on itself where `absolute` names the unit."""

    label: str
    figure: str
    bound: Literal["at least", "at most"]
    value: float
    absolute: str = ""

    @property
    def text(self) -> str:
        """The bound in words."""
        return f"{self.bound} {self.value:g}{' ' + self.absolute if self.absolute else 'x'}"


@dataclass(frozen=True)
class Outcome:
    """What was found for a target; None where it was not measured."""

    target: Target
    found: float | None

    @property
    def reached(self) -> bool:
        """Whether the bound holds. What was not measured is not reached."""
        if self.found is None:
            return False
        if self.target.bound == "at least":
            return self.found >= self.target.value
        return self.found <= self.target.value

    @property
    def text(self) -> str:
        """What was found, in the target's unit."""
        if self.found is None:
            return "not measured"
        return f"{self.found:.2f}{' ' + self.target.absolute if self.target.absolute else 'x'}"


@dataclass(frozen=True)
class Comparison:
    """A path, what it is held against, and who else is measured beside them."""

    subject: str
    reference: str
    others: tuple[str, ...]
    targets: tuple[Target, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        return (self.subject, self.reference, *self.others)


BETWEEN_NODES = (
    Target("one stream, throughput", key("stream1", "gbps"), "at least", 1.5),
    Target("one stream, proxies' CPU per GB", key("stream1", "proxies_cpu"), "at most", 0.6),
    Target("connections per second", key("connect", "per_second"), "at least", 3),
    Target("connections per second, one CPU", key("connect", "per_second", True), "at least", 2.5),
    Target("proxies' CPU per connection", key("connect", "proxies_cpu"), "at most", 0.35),
    Target("proxies' CPU per connection, one CPU", key("connect", "proxies_cpu", True), "at most", 0.35),
    Target("round trip p50", key("round_trip", "p50"), "at most", 0.5),
    Target("round trip p50, one CPU", key("round_trip", "p50", True), "at most", 0.7),
    Target("round trip p99", key("round_trip", "p99"), "at most", 0.7),
    Target("round trip p99, one CPU", key("round_trip", "p99", True), "at most", 0.7),
    Target("round trip beside four flows, p50", key("beside", "p50"), "at most", 1000, "us"),
    Target("round trip beside four flows, p99", key("beside", "p99"), "at most", 5000, "us"),
    Target(
        "CPU with 10,000 idle connections, both tunnels", key("idle10000", "cpu_percent"), "at most", 1, "%"
    ),
    Target("memory of an idle connection, larger tunnel", key("idle10000", "kb_each"), "at most", 20, "kB"),
    Target("memory of an idle tunnel, the larger", key("fresh", "memory_mb"), "at most", 30, "MB"),
)
ON_ONE_NODE = (
    Target("one stream, throughput", key("stream1", "gbps"), "at least", 0.97),
    Target("one stream, throughput, one CPU", key("stream1", "gbps", True), "at least", 0.97),
    Target("round trip p50", key("round_trip", "p50"), "at most", 1.05),
    Target("round trip p50, one CPU", key("round_trip", "p50", True), "at most", 1.05),
    Target("connections per second", key("connect", "per_second"), "at least", 0.85),
    Target("connections per second, one CPU", key("connect", "per_second", True), "at least", 0.85),
)


def _no_worse(label: str, workload: str, figure: str, more: bool) -> list[Target]:
    """At most 3 % worse than the reference, at default scheduling and with everything on one CPU."""
    return [
        Target(label + where, key(workload, figure, one_cpu), "at least", 0.97)
        if more
        else Target(label + where, key(workload, figure, one_cpu), "at most", 1.03)
        for where, one_cpu in (("", False), (", one CPU", True))
    ]


NOT_SLOWER = (
    *_no_worse("one stream, throughput", "stream1", "gbps", True),
    *_no_worse("eight streams, throughput", "stream8", "gbps", True),
    *_no_worse("round trip p50", "round_trip", "p50", False),
    *_no_worse("round trip p99", "round_trip", "p99", False),
    Target("four flows beside round trips, throughput", key("beside", "gbps"), "at least", 0.95),
    *_no_worse("connections per second", "connect", "per_second", True),
    *_no_worse("HTTP requests per second", "http", "per_second", True),
    *_no_worse("all CPU per GB", "stream1", "all_cpu", False),
    *_no_worse("all CPU per connection", "connect", "all_cpu", False),
)
COMPARISONS = (
    Comparison("warren", "envoy", ("none", "hops", "ztunnel"), BETWEEN_NODES),
    Comparison("warren-node", "none-node", ("envoy-node",), ON_ONE_NODE),
    Comparison("warren", "baseline", (), NOT_SLOWER),
    Comparison("warren-node", "baseline-node", (), NOT_SLOWER),
)


def comparisons(paths: Iterable[str]) -> list[Comparison]:
    """Those of which subject and reference are among the paths."""
    return [each for each in COMPARISONS if {each.subject, each.reference} <= set(paths)]


def check(summary: Summary, comparison: Comparison) -> list[Outcome]:
    """Every target beside what was measured."""
    return [Outcome(target, _found(summary, target, comparison)) for target in comparison.targets]


def _found(summary: Summary, target: Target, comparison: Comparison) -> float | None:
    if not target.absolute:
        return ratio(summary, target.figure, comparison.subject, comparison.reference)
    spread = summary.get(target.figure, {}).get(comparison.subject)
    return spread.median if spread else None
