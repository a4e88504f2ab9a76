"""Istio's Sidecar, of which we act on `outboundTrafficPolicy`; read as strictly as policies are."""

from typing import Any

import msgspec
from msgspec.structs import force_setattr

from agent.model.mesh import OutboundTrafficPolicy
from agent.model.objects import Labels
from agent.model.security import Policy, Strict

_NOT_ACTED_ON = {"ingress": "ingress", "egress": "egress", "inbound_connection_pool": "inboundConnectionPool"}


class WorkloadSelector(Strict, frozen=True):
    labels: Labels = msgspec.field(default_factory=dict)


class Outbound(Strict, frozen=True):
    """`outboundTrafficPolicy`. mode: what is not written is, as in Istio's protocol, REGISTRY_ONLY."""

    mode: OutboundTrafficPolicy = "REGISTRY_ONLY"
    egress_proxy: Any = None


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

    @property
    def selector(self) -> Labels:
        return self.spec.workload_selector.labels

    @property
    def not_acted_on(self) -> list[str]:
        """The fields that are written and do nothing, as they are written."""
        fields = [written for name, written in _NOT_ACTED_ON.items() if getattr(self.spec, name)]
        outbound = self.spec.outbound_traffic_policy
        if outbound and outbound.egress_proxy:
            fields.append("outboundTrafficPolicy.egressProxy")
        return fields
