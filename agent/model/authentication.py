"""PeerAuthentication: who may be spoken to in plain text. Enrolled pods speak mutual TLS to each other.

STRICT becomes, as istiod has it, a DENY policy for connections without a proven identity that the workload
names: one for all, or one of the object's own where a port is an exception. DISABLE counts as PERMISSIVE.
"""

from collections.abc import Iterator

from agent.model.mesh import ROOT_NAMESPACE
from agent.model.objects import Key, Labels, fits, key_of
from agent.model.policies import PRESENT
from agent.model.resources import Resource, policy_resource
from agent.model.security import Mode, PeerAuthentication
from agent.model.view import View
from protocols.security_pb2 import Action, Authorization, Clause, Match, Rule, Scope

# Nobody's object: its policy is there while there is a PeerAuthentication.
STRICT = Key("Policy", ROOT_NAMESPACE, "istio_converted_static_strict")
_CONVERTED = "converted_peer_authentication_"


def strict_policy() -> Resource:
    """Refuses all plain text."""
    return _policy(STRICT.namespace, STRICT.name, Match(not_principals=[PRESENT]))


def port_policy(view: View, item: PeerAuthentication) -> Resource | None:
    """Refuses plain text at the ports that an object makes an exception of, or at all others."""
    metadata = item.metadata
    strict = _strict(view, metadata.namespace, item)
    ports = _exceptions(item, strict)
    if not ports or metadata.namespace == ROOT_NAMESPACE:
        return None
    match = Match(not_principals=[PRESENT])
    (match.not_destination_ports if strict else match.destination_ports).extend(ports)
    return _policy(metadata.namespace, _CONVERTED + metadata.name, match)


def required(view: View, namespace: str, labels: Labels) -> Iterator[str]:
    """The policy, if any, that a workload with these labels has to name."""
    selecting = view.store.each(PeerAuthentication, "PeerAuthentication", namespace)
    those = (item for item in selecting if fits(item.selector, labels) and namespace != ROOT_NAMESPACE)
    own = min(those, key=_age, default=None)
    strict = _strict(view, namespace, own)
    if own and _exceptions(own, strict):
        yield f"{namespace}/{_CONVERTED}{own.metadata.name}"
    elif strict:
        yield f"{STRICT.namespace}/{STRICT.name}"


def origin(policy: str) -> str:
    """What has made a policy, by `namespace/name`, in words."""
    namespace, _, name = policy.partition("/")
    if (namespace, name) == (STRICT.namespace, STRICT.name):
        return "PeerAuthentication (mode STRICT)"
    if name.startswith(_CONVERTED):
        return f"PeerAuthentication {namespace}/{name.removeprefix(_CONVERTED)}"
    return f"AuthorizationPolicy {policy}"


def problems(item: PeerAuthentication) -> Iterator[str]:
    """What its author should know."""
    if item.selector and item.metadata.namespace == ROOT_NAMESPACE:
        yield f"selector: in {ROOT_NAMESPACE} it selects nothing; put it beside the workloads"


def _strict(view: View, namespace: str, own: PeerAuthentication | None) -> bool:
    """Whether plain text is refused where no port is an exception: the nearest word that is not UNSET."""
    mode: Mode = own.spec.mtls.mode if own else "UNSET"
    for scope in (namespace, ROOT_NAMESPACE):
        if mode == "UNSET":
            those = view.store.each(PeerAuthentication, "PeerAuthentication", scope)
            oldest = min((item for item in those if not item.selector), key=_age, default=None)
            mode = oldest.spec.mtls.mode if oldest else "UNSET"
    return mode == "STRICT"


def _exceptions(item: PeerAuthentication, strict: bool) -> list[int]:
    ports = item.spec.port_level_mtls.items()
    return sorted(
        int(port) for port, mtls in ports if mtls.mode != "UNSET" and (mtls.mode == "STRICT") != strict
    )


def _age(item: PeerAuthentication) -> tuple[str, Key]:
    """The oldest counts; where that cannot be told, the first by name."""
    return item.metadata.creation_timestamp, key_of(item)


def _policy(namespace: str, name: str, match: Match) -> Resource:
    scope, rule = Scope.WORKLOAD_SELECTOR, Rule(clauses=[Clause(matches=[match])])
    message = Authorization(name=name, namespace=namespace, scope=scope, action=Action.DENY, rules=[rule])
    return policy_resource(message)
