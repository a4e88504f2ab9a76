"""Where rules send to: services, subsets, and the DestinationRule that holds for them (Istio's look-up)."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from agent.model.engine.view import ServiceLike, View
from agent.model.mesh import ROOT_NAMESPACE
from agent.model.schema.istio.destination_rule import DestinationRule, Subset
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.istio.traffic_policy import TrafficPolicy
from agent.model.schema.kubernetes import Service
from agent.model.schema.objects import Key, key_of
from agent.model.translation.ports import route_protocol
from agent.model.translation.routes import policy as policy_translation
from agent.model.translation.routes.client import Client, is_exported
from agent.model.translation.routes.names import covers, naming, resolve, specificity, visible
from agent.model.translation.services import load_balancing, ports_of_host
from protocols import routes_pb2 as pb
from protocols.workload_pb2 import LoadBalancing

POLICY_OF = "policy of"  # index: DestinationRules by the host that they are for

_TOPOLOGY = {
    LoadBalancing.NETWORK: "topology.istio.io/network",
    LoadBalancing.REGION: "topology.kubernetes.io/region",
    LoadBalancing.ZONE: "topology.kubernetes.io/zone",
    LoadBalancing.SUBZONE: "topology.istio.io/subzone",
    LoadBalancing.NODE: "kubernetes.io/hostname",
}


class Rules(NamedTuple):
    """The DestinationRules that are merged for a destination, the one that takes precedence first."""

    rules: tuple[DestinationRule, ...] = ()

    @property
    def policy(self) -> TrafficPolicy | None:
        """The first that has one."""
        return next((rule.spec.traffic_policy for rule in self.rules if rule.spec.traffic_policy), None)

    def subset(self, name: str) -> Subset | None:
        """The first of this name."""
        subsets = (one for rule in self.rules for one in rule.spec.subsets)
        return next((one for one in subsets if one.name == name), None)

    @property
    def origin(self) -> str:
        return str(key_of(self.rules[0])) if self.rules else ""


def rules_for(view: View, client: Client, namespace: str, host: str) -> Rules:
    """Those of the client's namespace, else of the service's, else of the root's: the first that has any.

    In it the most specific host counts. The root namespace's own clients first find what is for it alone.
    """
    keys = {*naming(view, POLICY_OF, [host])}
    named = (view.store.objects[key] for key in keys)
    rules = [rule for rule in named if isinstance(rule, DestinationRule) and _holds(view, rule, client, host)]
    rooted = client.namespace == ROOT_NAMESPACE
    own = [rule for rule in rules if rule.metadata.namespace == client.namespace]
    places = [[rule for rule in own if _is_private(rule)] if rooted else own]
    for place in (namespace, ROOT_NAMESPACE):
        places.append([rule for rule in rules if rule.metadata.namespace == place and not _is_private(rule)])
    return _counting(view, next(filter(None, places), []))


def _holds(view: View, rule: DestinationRule, client: Client, host: str) -> bool:
    """Whether a rule is for a client and covers a host."""
    namespace, export_to = rule.metadata.namespace, (".",) if rule.selector else rule.spec.export_to
    exported = is_exported(export_to, namespace, client.namespace) and client.is_selected(rule.selector)
    return exported and covers(view.mesh, rule.spec.host, namespace, host)


def _is_private(rule: DestinationRule) -> bool:
    own = rule.metadata.namespace
    return bool(rule.selector) or {own if one == "." else one for one in rule.spec.export_to} == {own}


def _counting(view: View, rules: list[DestinationRule]) -> Rules:
    """Those with the most specific host that are merged: with the same exportTo and the same selector.

    What is for some workloads only comes first, and takes up what is for all of them; then the oldest.
    """
    ordered = sorted(rules, key=partial(_rank, view))
    first = ordered[0] if ordered else None
    return Rules(tuple(rule for rule in ordered if first and _merges(view, first, rule)))


def _merges(view: View, first: DestinationRule, other: DestinationRule) -> bool:
    if _host(view, first) != _host(view, other):
        return False
    if first.selector:
        return other.selector in (first.selector, {})
    return {*other.spec.export_to} == {*first.spec.export_to}


def _rank(view: View, rule: DestinationRule) -> tuple[bool, int, bool, str, Key]:
    exact, length = specificity(_host(view, rule))
    return not exact, -length, not rule.selector, rule.metadata.creation_timestamp, key_of(rule)


def _host(view: View, rule: DestinationRule) -> str:
    return resolve(view.mesh, rule.spec.host, rule.metadata.namespace)


class Unroutable(Exception):
    """There is no such destination. flag: Envoy's."""

    def __init__(self, reason: str, flag: str = "NC") -> None:
        super().__init__(reason)
        self.flag = flag


class Destinations:
    """Those of one scope, in the order in which its rules came upon them."""

    def __init__(self, view: View, client: Client) -> None:
        self.view, self.client = view, client
        self.messages: list[pb.Destination] = []
        self._indices: dict[tuple[str, str, int, str], int] = {}
        self._named: dict[
            tuple[str, str, int], int | Unroutable
        ] = {}  # of hundreds of rules, for one listener

    def named(self, host: str, subset: str, port: int, listener: int) -> int:
        """One by its hostname. port: 0 is the service's only one, else the one that clients call.

        Raises Unroutable.
        """
        known = self._named.get((host, subset, port))
        if known is None:
            known = self._named[host, subset, port] = self._find(host, subset, port, listener)
        if isinstance(known, Unroutable):
            raise known
        return known

    def _find(self, host: str, subset: str, port: int, listener: int) -> "int | Unroutable":
        service = visible(self.view, host, self.client.namespace)
        if service is None:
            return Unroutable(f"there is no service {host}")
        try:
            return self.add(service, host, self._port(service, host, port, listener), subset)
        except Unroutable as error:
            return error

    def _port(self, service: ServiceLike, host: str, wanted: int, listener: int) -> int:
        numbers = [*ports_of_host(self.view, host, service.metadata.namespace)]
        if not wanted and len(numbers) == 1:
            return numbers[0]
        port = wanted or listener
        if port not in numbers:
            raise Unroutable(f"{host} has no port {port}")
        return port

    def add(self, service: ServiceLike, host: str, port: int, subset: str = "") -> int:
        """Its index. Raises Unroutable."""
        key = (service.metadata.namespace, host, port, subset)
        if key not in self._indices:
            self.messages.append(self._message(service, host, port, subset))
            self._indices[key] = len(self.messages) - 1
        return self._indices[key]

    def _message(self, service: ServiceLike, host: str, port: int, name: str) -> pb.Destination:
        namespace = service.metadata.namespace
        rules = rules_for(self.view, self.client, namespace, host)
        subset = rules.subset(name) if name else None
        if name and subset is None:
            raise Unroutable(f"{host} has no subset {name}: no DestinationRule that holds has it")
        written = policy_translation.merged(rules.policy, subset.traffic_policy if subset else None, port)
        if refused := next((one for one in rules.rules if one.strictest and one.spec.traffic_policy), None):
            raise Unroutable(f"{key_of(refused)} is refused, and asks for TLS", "UF")
        message = pb.Destination(namespace=namespace, hostname=host, port=port, subset=name)
        message.labels.update(subset.labels if subset else {})
        message.policy.CopyFrom(_policy(service, written))
        message.origin = rules.origin if written or subset else ""
        message.http2 = route_protocol(ports_of_host(self.view, host, namespace)[port]) in (pb.HTTP2, pb.GRPC)
        _prefer(self.view, service, message.policy)
        return message


def own_policy(view: View, client: Client, service: ServiceLike, host: str, port: int) -> pb.Policy:
    """What holds for a service as a whole, and is not the service's own preference of endpoints."""
    rules = rules_for(view, client, service.metadata.namespace, host)
    return _policy(service, policy_translation.merged(rules.policy, None, port))


def _policy(service: ServiceLike, written: TrafficPolicy | None) -> pb.Policy:
    """Where nothing is written of load balancing, a Service's session affinity counts."""
    policy = policy_translation.translate(written) if written else pb.Policy()
    affine = isinstance(service, Service) and service.spec.session_affinity == "ClientIP"
    if affine and not policy.HasField("load_balancer"):
        policy.load_balancer.consistent_hash.source_ip = True
    return policy


def _prefer(view: View, service: ServiceLike, policy: pb.Policy) -> None:
    """What the service itself prefers (trafficDistribution), where no rule says where to go."""
    own = load_balancing(view, service)
    if isinstance(service, ServiceEntry) and service.spec.is_dynamic:
        policy.load_balancer.CopyFrom(pb.LoadBalancer(algorithm=pb.DYNAMIC_DNS))
    if own.mode == LoadBalancing.PASSTHROUGH:
        policy.load_balancer.CopyFrom(pb.LoadBalancer(algorithm=pb.PASSTHROUGH))
    if own.mode == LoadBalancing.FAILOVER and not policy.load_balancer.HasField("locality"):
        priority = [_TOPOLOGY[scope] for scope in own.routing_preference]
        policy.load_balancer.locality.priority.extend(priority)


def asked_labels(rule: DestinationRule) -> Iterator[str]:
    """Labels of workloads that the tunnels have to know for a rule."""
    yield from rule.selector
    for subset in rule.spec.subsets:
        yield from subset.labels
    for policy in filter(
        None, [rule.spec.traffic_policy, *(one.traffic_policy for one in rule.spec.subsets)]
    ):
        balancers = [policy.load_balancer, *(one.load_balancer for one in policy.port_level_settings)]
        for setting in (one.locality_lb_setting for one in balancers if one):
            yield from (label.partition("=")[0] for label in (setting.failover_priority if setting else ()))
