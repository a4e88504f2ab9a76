"""Istio's PeerAuthentication; what it means is in `agent.model.translation.peer_authentication`."""

from typing import Literal

import msgspec

from agent.model.schema.istio.base import Strict
from agent.model.schema.istio.policy import Policy, Selector
from agent.model.schema.objects import Labels
from agent.model.schema.syntax import FieldError, check_port

Mode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class Mtls(Strict, frozen=True):
    mode: Mode = "UNSET"


class PeerAuthenticationSpec(Strict, frozen=True):
    """port_level_mtls: by the workload's port; None: not written."""

    selector: Selector = Selector()
    mtls: Mtls = Mtls()
    port_level_mtls: dict[str, Mtls] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for port in self.port_level_mtls:
            check_port(port, "portLevelMtls", port, least=1)
            if port.startswith("0"):
                raise FieldError(f"write {int(port)}", "portLevelMtls", port)
        if self.port_level_mtls and not self.selector.match_labels:
            raise FieldError("it needs a selector; ports are a workload's", "portLevelMtls")


class PeerAuthentication(Policy, frozen=True):
    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()

    @property
    def selector(self) -> Labels:
        return self.spec.selector.match_labels

    @property
    def of_strictest(self) -> str:
        return "plain text is refused"
