"""Where traffic goes by the locality of client and endpoints (Istio's LocalityLoadBalancerSetting)."""

from collections.abc import Iterable
from itertools import combinations
from typing import Annotated

import msgspec

from agent.model.schema.istio.base import Strict
from agent.model.schema.syntax import FieldError, Step

_TOPOLOGY = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)
_Weight = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Distribute(Strict, frozen=True):
    """from_: the clients' locality, region/zone/subzone, `*` at its end for all within; to: percent."""

    from_: str = msgspec.field(name="from", default="")
    to: dict[str, _Weight] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(self.to.values()) != 100:
            raise FieldError(f"the weights sum to {sum(self.to.values())}; make it 100", "to")
        _check_localities(self.to, "to")


class Failover(Strict, frozen=True):
    """Regions."""

    from_: str = msgspec.field(name="from", default="")
    to: str = ""

    def __post_init__(self) -> None:
        if self.from_ == self.to:
            raise FieldError("from and to are the same region; name another", "to")
        for name, region in (("from", self.from_), ("to", self.to)):
            if "/" in region or "*" in region:
                raise FieldError(f"{region!r} is no region; zones and * are not allowed", name)


class LocalityLb(Strict, frozen=True):
    """enabled: None is true. failover_priority: labels, or label=value, the most significant first."""

    enabled: bool | None = None
    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.distribute and self.failover:
            raise FieldError("distribute and failover exclude each other; keep one", "failover")
        if self.failover:
            _check_no_topology(self.failover_priority)
        _check_localities([one.from_ for one in self.distribute], "distribute")


class ZoneAwareLb(Strict, frozen=True):
    """Not acted on."""

    enabled: bool | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: Annotated[int, msgspec.Meta(ge=1, lt=2**32)] | None = None

    def __post_init__(self) -> None:
        _check_no_topology(self.failover_priority)


def _check_no_topology(labels: Iterable[str]) -> None:
    if found := next((label for label in labels if label in _TOPOLOGY), None):
        raise FieldError(f"{found} goes without saying beside failover; remove it", "failoverPriority")


def _check_localities(localities: Iterable[str], *steps: Step) -> None:
    for one in localities:
        if not all(one.split("/", 2)) or "*" in one[:-1]:
            raise FieldError(f"{one!r} is no region/zone/subzone, nor one that ends with *", *steps)
    for first, second in combinations(localities, 2):
        if _within(first, second) or _within(second, first):
            raise FieldError(f"{first} and {second} overlap; keep one", *steps)


def _within(one: str, other: str) -> bool:
    parts, wider = one.split("/", 2), other.removesuffix("/*").split("/", 2)
    return wider == ["*"] or parts[: len(wider)] == wider
