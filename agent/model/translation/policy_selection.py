"""Which policies hold for a workload beside those of its namespace and of the mesh: it has to name them."""

from collections.abc import Iterator

from agent.model.engine.invalidation import endpoints_of
from agent.model.engine.members import Workload, labels_of, workloads
from agent.model.engine.store import Entry
from agent.model.engine.view import ServiceLike, View
from agent.model.mesh import ROOT_NAMESPACE, is_gateway
from agent.model.schema.gateway.gateway import KubernetesGateway
from agent.model.schema.istio.authorization_policy import AuthorizationPolicy
from agent.model.schema.istio.peer_authentication import PeerAuthentication
from agent.model.schema.istio.request_authentication import RequestAuthentication
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key, Labels, fits, key_of
from agent.model.schema.rate_limit_policy import RateLimitPolicy
from agent.model.translation import waypoint
from agent.model.translation.gateways import pods
from agent.model.translation.gateways.attachments import is_known_class, is_ours
from agent.model.translation.peer_authentication import STRICT, required
from agent.model.translation.request_authentication import policy_name
from protocols.policies import LIMITS

Attachable = AuthorizationPolicy | RequestAuthentication | RateLimitPolicy
CLASS = "GatewayClass"


def named_policies(view: View, item: Workload) -> list[str]:
    """The policies of a workload, by `namespace/name`, in order."""
    namespace, labels = item.metadata.namespace, labels_of(item)
    policies = (*_selecting(view, namespace, labels), *_attached(view, item))
    names = map(_name, policies)
    # Who comes to a gateway is outside of the mesh, and speaks as the gateway's listeners say.
    spoken = () if isinstance(item, Pod) and is_gateway(item) else required(view, namespace, labels)
    return sorted({*names, *spoken})


def of_gateway(view: View, gateway: KubernetesGateway) -> list[str]:
    """The policies that are attached to a Gateway or its class, by `namespace/name`, in order."""
    own = gateway.metadata
    places = ((own.namespace, "Gateway", own.name), (ROOT_NAMESPACE, CLASS, gateway.spec.gateway_class_name))
    found = (one for place in places for one in _attached_to(view, *place))
    return sorted(map(_name, found))


def _name(policy: Attachable) -> str:
    if isinstance(policy, RequestAuthentication):
        return policy_name(policy)
    prefix = LIMITS if isinstance(policy, RateLimitPolicy) else ""
    return f"{policy.metadata.namespace}/{prefix}{policy.metadata.name}"


def entries(policy: Attachable) -> Iterator[Entry]:
    """By which `named_policies` finds it."""
    namespace = policy.metadata.namespace
    yield from (("policy", namespace, *label) for label in sorted(policy.selector.items())[:1])
    for target in policy.targets:
        if target.kind != CLASS or namespace == ROOT_NAMESPACE:
            yield from (("attached", namespace), ("attached", namespace, target.kind, target.name))


def naming(view: View, policy: Attachable) -> Iterator[Key]:
    """The workloads and listeners of gateways that have to name it."""
    namespace = policy.metadata.namespace
    within = "" if namespace == ROOT_NAMESPACE else namespace
    yield from map(key_of, view.selected(within, policy.selector))
    for target in policy.targets:
        service = view.store.objects.get(Key(target.kind, namespace, target.name))
        if isinstance(service, ServiceLike):
            yield from endpoints_of(view, service)
    if not all(target.is_service for target in policy.targets):
        yield from pods.keys(view)


def ignored_targets(view: View, policy: Attachable) -> Iterator[str]:
    """A problem for each target that it cannot be attached to."""
    namespace = policy.metadata.namespace
    for target in policy.targets:
        match target.kind:
            case "Gateway":
                gateway = view.store.get(KubernetesGateway, namespace, target.name)
                known = gateway and (is_ours(view, gateway) or waypoint.is_waypoint(gateway))
                reason = "" if known else "no gateway of Warren's and no waypoint has this name"
            case "GatewayClass" if namespace != ROOT_NAMESPACE:
                reason = f"only policies of namespace {ROOT_NAMESPACE} are for a whole class"
            case "GatewayClass":
                reason = (
                    ""
                    if is_known_class(view, target.name)
                    else "no class of Warren's or waypoints' has this name"
                )
            case _:
                reason = ""
        if reason:
            yield f"targetRefs: {target.kind} {target.name} is ignored: {reason}"


def judged_by(view: View, item: PeerAuthentication) -> Iterator[Key]:
    """All whose translation an object is looked at for: workloads, and objects that inherit its mode."""
    namespace = item.metadata.namespace
    yield STRICT
    if item.selector:
        yield from map(key_of, view.selected(namespace, item.selector))
    elif namespace == ROOT_NAMESPACE:
        everything = view.store.objects.items()
        yield from (key for key, one in everything if isinstance(one, Workload | PeerAuthentication))
    else:
        yield from map(key_of, workloads(view.store, namespace))
        yield from view.store.find("PeerAuthentication", namespace)


def _selecting(view: View, namespace: str, labels: Labels) -> Iterator[Attachable]:
    for scope in {namespace, ROOT_NAMESPACE}:
        for policy in view.store.labelled("policy", scope, labels):
            if isinstance(policy, Attachable) and fits(policy.selector, labels):
                yield policy


def _attached(view: View, item: Workload) -> Iterator[Attachable]:
    """Those of the services that it is of, whoever may see these; not those that a waypoint enforces."""
    namespace = item.metadata.namespace
    if not view.store.find("attached", namespace):
        return
    services = {key_of(service) for service in view.store.selecting(namespace, labels_of(item))}
    if isinstance(item, Pod):
        services |= {Key("Service", namespace, one.service) for one in view.slices_naming(item)}
    for service in services:
        owner = view.store.objects.get(service)
        theirs = isinstance(owner, ServiceLike) and waypoint.judges(view, owner)
        for policy in _attached_to(view, namespace, service.kind, service.name):
            if not theirs or isinstance(policy, RateLimitPolicy):  # of which waypoints know nothing
                yield policy


def _attached_to(view: View, namespace: str, kind: str, name: str) -> Iterator[Attachable]:
    where = ("attached", namespace, kind, name)
    yield from view.store.each(AuthorizationPolicy, *where)
    yield from view.store.each(RequestAuthentication, *where)
    yield from view.store.each(RateLimitPolicy, *where)
