"""What a refused object still says: its last good version, else its strictest reading.

A policy closes something: to leave one out because a part of it is not understood would open what its author
has closed. So a refused policy is an object like any other, and lets in nobody whom it might have kept out,
had it been understood:

| not understood | reading |
| --- | --- |
| a part of a rule of ALLOW | the rule allows nothing |
| a part of a rule of DENY, CUSTOM or AUDIT | it fits everybody; AUDIT enforces nothing all the same |
| the action, or all of the spec; the kind or its version | everybody is denied; ALLOW allows nothing |
| anything of a PeerAuthentication | STRICT, without exceptions |
| anything of a RequestAuthentication | all requests are denied |
| anything of a Sidecar | REGISTRY_ONLY |
| anything of a VirtualService | its hosts answer with 503 |
| anything of a DestinationRule | it has no subsets; if it speaks of TLS, its host answers with 503 |
| anything of a route of the Gateway API | its parents answer with 500, or close connections |
| the selector, or targetRefs | all of the namespace, or (root) of the mesh; ALLOW allows nothing |
| the annotation for a dry run | it is none; ALLOW allows nothing |
| anything of a Service or ServiceEntry | nobody sees it; policies that name it hold for those it selects |
"""

from typing import Any

from msgspec.structs import replace

from agent.model.engine.kind import Kind
from agent.model.engine.reading import get, names, read
from agent.model.schema.hidden import Hidden
from agent.model.schema.istio.base import REVISION, Dated
from agent.model.schema.istio.policy import Policy, Refusal
from agent.model.schema.objects import Key, Object

_LONGEST = 200  # characters of a reason, in every line that is written of a connection


def strictest(kind: Kind, key: Key, raw: Any, reason: str) -> Object | None:
    """The strictest reading of a refused object; None: its kind closes nothing.

    raw: as it was written, in JSON's types; None where that cannot be read.
    """
    if kind.strictest is None or kind.struct is None:
        return None
    raw = raw if isinstance(raw, dict) else {"spec": None}
    spec, written = raw.get("spec", {}), raw.get("metadata")
    clear = isinstance(spec, dict) and raw.keys() <= names(kind.struct) and _is_read_as(kind, raw)
    strict = kind.strictest(spec if isinstance(spec, dict) else {}, clear, get(written, "annotations"))
    since = read({"name": "any", "creationTimestamp": get(written, "creationTimestamp")}, Dated)
    revision = get(get(written, "labels"), REVISION)
    metadata = Dated(
        key.name,
        labels={REVISION: revision} if isinstance(revision, str) else {},
        namespace=key.namespace,
        annotations=strict.annotations,
        creation_timestamp=since.creation_timestamp if since else "",
    )
    if strict.hidden:
        return strict.hidden(metadata=metadata, spec=strict.spec)  # type: ignore[call-arg]
    policy: Policy = kind.struct(metadata=metadata, spec=strict.spec, refusal=Refusal(reason, strictest=True))
    return policy


def _is_read_as(kind: Kind, raw: Any) -> bool:
    """Whether it says, where it says so, that it is of this kind, in a version that is read."""
    version, name = raw.get("apiVersion", kind.api_versions[0]), raw.get("kind", kind.written)
    return version in kind.api_versions and name == kind.written


def last_good(former: Object | None, reason: str) -> Object | None:
    """What was in force of an object before it was refused, if that is a version as it was written."""
    if not isinstance(former, Policy):
        return None if isinstance(former, Hidden) else former
    return None if former.strictest else replace(former, refusal=Refusal(reason, strictest=False))


def said(policy: Policy) -> str:
    """That a policy is refused, why, and what is in force of it: the end of a sentence; empty: it is not."""
    return f"refused ({policy.refusal.reason:.{_LONGEST}}): {policy.in_force}" if policy.refusal else ""


def standing(item: Object | None) -> str:
    """What to add to the reason for which an object is refused: what is in force of it in its place."""
    if isinstance(item, Hidden):
        return "; it is hidden, policies with targetRefs to it are in force"
    return f"; {item.in_force}" if isinstance(item, Policy) and item.refusal else ""
