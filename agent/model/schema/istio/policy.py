"""What kinds of policies have in common. They are read strictly: what is unknown in a policy is refused.

A field that is passed over could make a policy allow more than its author wrote. The rules of Istio's webhook
and of the API server's schema hold.
"""

from typing import Any

import msgspec
from msgspec.structs import force_setattr

from agent.model.schema.istio.base import IstioObject, Strict
from agent.model.schema.objects import Labels
from agent.model.schema.syntax import check_selector


class Selector(Strict, frozen=True):
    match_labels: Labels = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_selector(self.match_labels.items(), "matchLabels")


class AnySelector(Selector, frozen=True):
    """One that is not understood: it may select any workload."""


class Refusal:
    """Why a policy is not in force as it was written.

    strictest: its strictest reading is in force, else its last good version. No Struct: what somebody has
    written is never decoded to this.
    """

    __slots__ = ("reason", "strictest")

    def __init__(self, reason: str, *, strictest: bool) -> None:
        self.reason, self.strictest = reason, strictest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refusal) and hash(self) == hash(other)

    def __hash__(self) -> int:
        return hash((self.reason, self.strictest))


class Policy(IstioObject, frozen=True):
    """What kinds of them have in common. What others wrote into an object's status is dropped.

    refusal: of its newest version, if that is refused (`agent.model.engine.refusal`).
    """

    status: Any = None
    refusal: Refusal | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        force_setattr(self, "status", None)

    @property
    def strictest(self) -> bool:
        """Whether it is a refused object's strictest reading: that counts before others of its level."""
        return self.refusal is not None and self.refusal.strictest

    @property
    def selector(self) -> Labels:
        """The labels of the workloads for which it is; none: it is for all within its reach."""
        raise NotImplementedError

    @property
    def in_force(self) -> str:
        """What is in force of it while it is refused."""
        return self.of_strictest if self.strictest else "a good version stays in force"

    @property
    def of_strictest(self) -> str:
        """What is in force of its strictest reading."""
        raise NotImplementedError
