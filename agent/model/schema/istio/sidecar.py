"""Istio's Sidecar, of which we act on `outboundTrafficPolicy`; read as strictly as policies are."""

from typing import Any, Literal

from msgspec.structs import force_setattr

from agent.model.schema.istio.base import Strict, WorkloadSelector
from agent.model.schema.istio.policy import Policy
from agent.model.schema.objects import Labels, Port
from agent.model.schema.syntax import FieldError, is_dns_label, is_dns_name

OutboundTrafficPolicy = Literal["ALLOW_ANY", "REGISTRY_ONLY"]

_NOT_ACTED_ON = {"ingress": "ingress", "egress": "egress", "inbound_connection_pool": "inboundConnectionPool"}


class ProxyPort(Strict, frozen=True):
    number: Port


class EgressProxy(Strict, frozen=True):
    """A destination in the place of all others; not acted on."""

    host: str
    port: ProxyPort
    subset: str = ""

    def __post_init__(self) -> None:
        if not is_dns_name(self.host):
            raise FieldError(f"{self.host!r} is no DNS name", "host")
        if self.subset and not is_dns_label(self.subset):
            raise FieldError(f"{self.subset!r} cannot be a subset's name", "subset")


class Outbound(Strict, frozen=True):
    """`outboundTrafficPolicy`. mode: what is not written is, as in Istio's protocol, REGISTRY_ONLY."""

    mode: OutboundTrafficPolicy = "REGISTRY_ONLY"
    egress_proxy: EgressProxy | None = None

    def __post_init__(self) -> None:
        if self.egress_proxy and self.mode != "ALLOW_ANY":
            raise FieldError(f"mode {self.mode} has none; remove it, or use ALLOW_ANY", "egressProxy")


class SidecarSpec(Strict, frozen=True):
    """None: not written. Of what we do not act on only that it is written is kept: true."""

    workload_selector: WorkloadSelector = WorkloadSelector()
    outbound_traffic_policy: Outbound | None = None
    ingress: Any = None
    egress: Any = None
    inbound_connection_pool: Any = None

    def __post_init__(self) -> None:
        for name in _NOT_ACTED_ON:
            force_setattr(self, name, True if getattr(self, name) else None)


class Sidecar(Policy, frozen=True):
    spec: SidecarSpec = SidecarSpec()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.spec.outbound_traffic_policy and not self.not_acted_on:
            raise FieldError(
                "nothing is asked for; write outboundTrafficPolicy, or remove the object", "spec"
            )

    @property
    def selector(self) -> Labels:
        return self.spec.workload_selector.labels

    @property
    def of_strictest(self) -> str:
        return "REGISTRY_ONLY is in force"

    @property
    def not_acted_on(self) -> list[str]:
        """The fields that are written and do nothing, as they are written."""
        fields = [written for name, written in _NOT_ACTED_ON.items() if getattr(self.spec, name)]
        outbound = self.spec.outbound_traffic_policy
        if outbound and outbound.egress_proxy:
            fields.append("outboundTrafficPolicy.egressProxy")
        return fields
