"""PeerAuthentication -> `istio.security.Authorization` that denies plain text."""

from collections.abc import Iterator
from typing import Any

from agent.model.engine.kind import SECURITY, Derived, Descriptor, Raw, Reading
from agent.model.engine.reading import names, read
from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.mesh import ROOT_NAMESPACE, Mesh
from agent.model.resources import AUTHORIZATION, Resource
from agent.model.schema.istio.peer_authentication import Mtls, PeerAuthentication, PeerAuthenticationSpec
from agent.model.schema.istio.policy import AnySelector, Selector
from agent.model.schema.objects import Key
from agent.model.translation.peer_authentication import STRICT, is_converted, own_policy, strict_policy
from agent.model.translation.policy_selection import judged_by


def _index(item: PeerAuthentication) -> Iterator[Entry]:
    yield ("PeerAuthentication",)


def _translate(view: View, item: PeerAuthentication) -> Iterator[Resource]:
    if (policy := own_policy(view, item)) is not None:
        yield policy


def _strict(view: View, key: Key) -> Iterator[Resource]:
    """One for all, while there is any PeerAuthentication."""
    if view.store.find("PeerAuthentication"):
        yield strict_policy()


def _problems(view: View, item: PeerAuthentication) -> Iterator[str]:
    if item.selector and item.metadata.namespace == ROOT_NAMESPACE:
        yield f"selector: selects nothing in {ROOT_NAMESPACE}; move it to the workloads' namespace"


def _strictest(spec: Raw, clear: bool, annotations: Any) -> Reading:
    """STRICT, without exceptions."""
    clear = clear and spec.keys() <= names(PeerAuthenticationSpec) and "portLevelMtls" not in spec
    selector = read(spec.get("selector", {}), Selector)
    understood = selector is not None and (clear or bool(selector.match_labels))
    whom = selector if selector and understood else AnySelector()
    return Reading(PeerAuthenticationSpec(whom, Mtls("STRICT")))


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    """Those of others depend on it."""
    return type_url == AUTHORIZATION and is_converted(name)


KIND = Descriptor(
    "PeerAuthentication",
    *SECURITY,
    "peerauthentications",
    PeerAuthentication,
    critical=True,
    index=_index,
    dependants=judged_by,
    translate=_translate,
    problems=_problems,
    may_make=_may_make,
    strictest=_strictest,
    derived=(Derived(STRICT.kind, _strict),),
)
