"""Istio's DestinationRule, read as strictly as Istio's webhook and the API server's schema do it."""

import msgspec

from agent.model.schema.istio.base import Strict
from agent.model.schema.istio.export import check_export_to
from agent.model.schema.istio.policy import Policy, Selector
from agent.model.schema.istio.route_values import check_host
from agent.model.schema.istio.traffic_policy import TrafficPolicy
from agent.model.schema.objects import Labels
from agent.model.schema.syntax import FieldError, check_labels, is_dns_label


class Subset(Strict, frozen=True):
    """labels: of its endpoints, beside the service's own selector."""

    name: str
    labels: Labels = msgspec.field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None

    def __post_init__(self) -> None:
        if not is_dns_label(self.name):
            raise FieldError(f"{self.name!r} cannot be a subset's name: letters, digits and -", "name")
        check_labels(self.labels.items(), "labels")


class DestinationRuleSpec(Strict, frozen=True):
    """host: without a dot it is in the rule's namespace. workload_selector: of clients; None: of all."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: Selector | None = None

    def __post_init__(self) -> None:
        check_host(self.host, "host")
        names = [subset.name for subset in self.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise FieldError(f"{name} is there twice; each subset has its own", "subsets", index, "name")


class DestinationRule(Policy, frozen=True, kw_only=True):
    spec: DestinationRuleSpec

    def __post_init__(self) -> None:
        super().__post_init__()
        spec, own = self.spec, self.metadata.namespace
        check_export_to(spec.export_to, own, "spec", "exportTo")
        if spec.workload_selector and spec.export_to and set(spec.export_to) - {".", own}:
            reason = "with a workloadSelector it is for its own namespace; write ."
            raise FieldError(reason, "spec", "exportTo")

    @property
    def selector(self) -> Labels:
        """The labels of the clients for which it is; none: it is for all."""
        return self.spec.workload_selector.match_labels if self.spec.workload_selector else {}

    @property
    def of_strictest(self) -> str:
        if self.spec.traffic_policy:
            return "its host answers with 503, since it asks for TLS"
        return "its subsets answer with 503, nothing else of it holds"
