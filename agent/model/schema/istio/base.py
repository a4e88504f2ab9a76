"""What Istio's kinds have in common: read strictly, since their author may rely on any field."""

from datetime import UTC, datetime
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

from agent.model.schema.objects import Labels, Metadata, Object
from agent.model.schema.syntax import FieldError, check_selector

DRY_RUN = "istio.io/dry-run"
REVISION = "istio.io/rev"
# What istiod writes into objects that it makes itself.
_INTERNAL = tuple(
    f"internal.istio.io/{name}" for name in ("parents", "parent-namespace", "webhook-always-reject")
)


class Strict(Struct, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True):
    """A piece of an object."""


class WorkloadSelector(Strict, frozen=True):
    """Of Sidecars and ServiceEntries; without labels it selects all workloads of the namespace."""

    labels: Labels = {}

    def __post_init__(self) -> None:
        check_selector(self.labels.items(), "labels")


class Dated(Metadata, frozen=True):
    """creation_timestamp: RFC 3339 in UTC, as the API server writes it, so that text order is time order."""

    creation_timestamp: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.creation_timestamp:
            force_setattr(self, "creation_timestamp", _in_utc(self.creation_timestamp))


class IstioObject(Object, frozen=True, forbid_unknown_fields=True):
    """An object of one of Istio's kinds.

    Where an object stands in a manifest: its `apiVersion` and `kind`. Raises FieldError for annotations that
    nobody may set, and for a dry run of a kind that knows none.
    """

    knows_dry_run: ClassVar[bool] = False

    metadata: Dated
    api_version: str = ""
    kind: str = ""

    def __post_init__(self) -> None:
        for name in self.metadata.annotations:
            if name in _INTERNAL:
                raise FieldError("only istiod may set this; remove it", "metadata", "annotations", name)
        if DRY_RUN in self.metadata.annotations and not self.knows_dry_run:
            raise FieldError(
                "only AuthorizationPolicies have a dry run; remove it", "metadata", "annotations", DRY_RUN
            )


def _in_utc(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise FieldError(f"{text!r} is no time such as 2026-01-31T10:00:00Z", "creationTimestamp")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
