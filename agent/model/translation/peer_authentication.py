"""PeerAuthentication: who may be spoken to in plain text. Enrolled pods speak mutual TLS to each other.

STRICT becomes, as istiod has it, a DENY policy for connections without a proven identity that the workload
names: one for all, or one of the object's own where a port is an exception, and where the object is refused,
which is told by that policy. DISABLE counts as PERMISSIVE.
"""

from collections.abc import Iterator

from agent.model.engine.refusal import said
from agent.model.engine.view import View
from agent.model.mesh import ROOT_NAMESPACE
from agent.model.resources import Resource, policy_resource
from agent.model.schema.istio.peer_authentication import PeerAuthentication
from agent.model.schema.istio.policy import AnySelector
from agent.model.schema.objects import Key, Labels, fits, key_of
from agent.model.translation.policy_values import PRESENT
from protocols import policies
from protocols.security_pb2 import Action, Authorization, Clause, Match, Rule, Scope

# Made of all PeerAuthentications together.
STRICT = Key("Policy", *policies.STRICT.split("/"))


def strict_policy() -> Resource:
    """Refuses all plain text."""
    return _policy(STRICT.namespace, STRICT.name, Match(not_principals=[PRESENT]))


def own_policy(view: View, item: PeerAuthentication) -> Resource | None:
    """Refuses plain text at the ports that an object makes an exception of, or at all others."""
    metadata = item.metadata
    strict = _is_strict(_deciding(view, metadata.namespace, item))
    ports = _exceptions(item, strict) if metadata.namespace != ROOT_NAMESPACE else []
    if not ports and not (item.refusal and _is_strict(item)):
        return None
    match = Match(not_principals=[PRESENT])
    (match.not_destination_ports if strict else match.destination_ports).extend(ports)
    return _policy(metadata.namespace, policies.CONVERTED + metadata.name, match, said(item))


def required(view: View, namespace: str, labels: Labels) -> Iterator[str]:
    """The policy, if any, that a workload with these labels has to name."""
    own, deciding = _holding(view, namespace, labels)
    if own and _exceptions(own, _is_strict(deciding)):
        yield _name(own)
    elif deciding and _is_strict(deciding):
        yield _name(deciding) if deciding.refusal else f"{STRICT.namespace}/{STRICT.name}"


def deciding(view: View, namespace: str, labels: Labels) -> PeerAuthentication | None:
    """The object whose mode holds for a workload with these labels, where no port is an exception."""
    return _holding(view, namespace, labels)[1]


def is_converted(policy: str) -> bool:
    """Whether a policy, by `namespace/name`, was made of PeerAuthentications."""
    namespace, _, name = policy.partition("/")
    return (namespace, name) == (STRICT.namespace, STRICT.name) or name.startswith(policies.CONVERTED)


def _holding(
    view: View, namespace: str, labels: Labels
) -> tuple[PeerAuthentication | None, PeerAuthentication | None]:
    """The object that selects a workload, and the one whose mode holds for it."""
    selecting = view.store.each(PeerAuthentication, "PeerAuthentication", namespace)
    those = (item for item in selecting if _selects(item, labels) and namespace != ROOT_NAMESPACE)
    own = min(those, key=_rank, default=None)
    return own, _deciding(view, namespace, own)


def _deciding(view: View, namespace: str, own: PeerAuthentication | None) -> PeerAuthentication | None:
    """Whose mode holds where no port is an exception: the nearest that is not UNSET."""
    for scope in (namespace, ROOT_NAMESPACE):
        if own and own.spec.mtls.mode != "UNSET":
            return own
        those = view.store.each(PeerAuthentication, "PeerAuthentication", scope)
        own = min((item for item in those if not item.selector), key=_rank, default=None)
    return own


def _is_strict(item: PeerAuthentication | None) -> bool:
    return item is not None and item.spec.mtls.mode == "STRICT"


def _selects(item: PeerAuthentication, labels: Labels) -> bool:
    return fits(item.selector, labels) or isinstance(item.spec.selector, AnySelector)


def _exceptions(item: PeerAuthentication, strict: bool) -> list[int]:
    ports = item.spec.port_level_mtls.items()
    return sorted(
        int(port) for port, mtls in ports if mtls.mode != "UNSET" and (mtls.mode == "STRICT") != strict
    )


def _rank(item: PeerAuthentication) -> tuple[bool, str, Key]:
    """The oldest counts; where that cannot be told, the first by name."""
    return not item.strictest, item.metadata.creation_timestamp, key_of(item)


def _name(item: PeerAuthentication) -> str:
    return f"{item.metadata.namespace}/{policies.CONVERTED}{item.metadata.name}"


def _policy(namespace: str, name: str, match: Match, refused: str = "") -> Resource:
    scope, rule = Scope.WORKLOAD_SELECTOR, Rule(clauses=[Clause(matches=[match])])
    message = Authorization(name=name, namespace=namespace, scope=scope, action=Action.DENY, rules=[rule])
    message.refused = refused
    return policy_resource(message)
