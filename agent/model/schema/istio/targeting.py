"""For what policies are: workloads by their labels, or objects that they are attached to."""

from typing import Annotated, Literal

import msgspec

from agent.model.schema.istio.base import Strict
from agent.model.schema.istio.policy import Selector
from agent.model.schema.objects import Labels
from agent.model.schema.syntax import FieldError

_TARGETS = {  # the API group of each kind that a policy may be attached to; Kubernetes' own has two names
    "Service": ("", "core"),
    "ServiceEntry": ("networking.istio.io",),
    "Gateway": ("gateway.networking.k8s.io",),
    "GatewayClass": ("gateway.networking.k8s.io",),
}
_MAX_REFERENCES = 16


class TargetRef(Strict, frozen=True):
    """`namespace`: only the object's own may be meant, and it is not to be written."""

    kind: Literal["Gateway", "GatewayClass", "Service", "ServiceEntry"]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    group: str = ""
    namespace: Literal[""] = ""

    def __post_init__(self) -> None:
        groups = _TARGETS[self.kind]
        if self.group not in groups:
            raise FieldError(f"a {self.kind} is not of group {self.group!r}; write {groups[0]!r}", "group")

    @property
    def is_service(self) -> bool:
        return self.kind in ("Service", "ServiceEntry")


class Targeting(Strict, frozen=True):
    """The part of a spec that says it. selector, target_refs, target_ref: None where it is not written."""

    selector: Selector | None = None
    target_refs: Annotated[tuple[TargetRef, ...], msgspec.Meta(max_length=_MAX_REFERENCES)] | None = None
    target_ref: TargetRef | None = None

    def __post_init__(self) -> None:
        targets = (
            ("selector", self.selector),
            ("targetRef", self.target_ref),
            ("targetRefs", self.target_refs),
        )
        written = [name for name, value in targets if value is not None]
        if len(written) > 1:
            raise FieldError(f"{written[0]} and {written[1]} exclude each other; keep one", written[1])

    @property
    def labels(self) -> Labels:
        """Of the workloads that are selected; none: all."""
        return self.selector.match_labels if self.selector else {}

    @property
    def targets(self) -> tuple[TargetRef, ...]:
        return (self.target_ref,) if self.target_ref else self.target_refs or ()


class Targeted:
    """An object whose spec says it."""

    __slots__ = ()
    spec: Targeting

    @property
    def selector(self) -> Labels:
        return self.spec.labels

    @property
    def targets(self) -> tuple[TargetRef, ...]:
        return self.spec.targets
