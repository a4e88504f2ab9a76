"""What is gathered of several Gateways for one port, and becomes `warren.routes.Server`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.model.engine.view import View
from agent.model.schema.gateway.l4_routes import TCPRoute, TLSRoute
from agent.model.schema.istio.http_rule import HttpMatch
from agent.model.schema.istio.virtual_service import L4Match, TlsMatch, VirtualService
from agent.model.schema.objects import Key, key_of
from agent.model.translation.routes.bound import place_of
from agent.model.translation.routes.client import Client
from agent.model.translation.routes.destinations import Destinations
from agent.model.translation.routes.gateway_matches import HttpLike
from agent.model.translation.routes.gateway_routes import GatewayRules
from agent.model.translation.routes.virtual_services import Rules, seniority
from protocols import routes_pb2 as pb

Place: TypeAlias = tuple[str, str]  # namespace and name of one of Istio's Gateways


@dataclass
class Bound:
    """VirtualServices, the oldest first, each with the Gateways through which it came here."""

    items: list[VirtualService] = field(default_factory=list)
    gateways: dict[Key, set[Place]] = field(default_factory=lambda: defaultdict(set))

    def add(self, item: VirtualService, gateway: Place) -> None:
        if key_of(item) not in self.gateways:
            self.items.append(item)
        self.gateways[key_of(item)].add(gateway)

    def extend(self, other: "Bound") -> None:
        for item in other.items:
            for gateway in other.gateways[key_of(item)]:
                self.add(item, gateway)
        self.items.sort(key=seniority)

    def rules(self, destinations: Destinations, port: int) -> Rules:
        def fits(item: VirtualService, match: HttpMatch | TlsMatch | L4Match) -> bool:
            named = {place_of(name, item.metadata.namespace) for name in match.gateways}
            return match.port in (0, port) and (not named or bool(named & self.gateways[key_of(item)]))

        return Rules(destinations, port, fits)


@dataclass
class Requests:
    """Whose rules are for requests to one host. redirects: all of them, to https.

    policies: what holds for them beside what does for the whole pod, by `namespace/name`.
    """

    routes: list[HttpLike] = field(default_factory=list)
    virtual: Bound = field(default_factory=Bound)
    redirects: bool = False
    policies: set[str] = field(default_factory=set)

    def extend(self, other: "Requests") -> None:
        """Where one redirects, all are."""
        self.routes += other.routes
        self.virtual.extend(other.virtual)
        self.redirects |= other.redirects
        self.policies |= other.policies

    def scope(self, view: View, client: Client, port: int) -> pb.Scope:
        """A route of the Gateway API comes before VirtualServices."""
        if self.redirects:
            redirect = pb.HttpRule(redirect=pb.Redirect(scheme="https", status=301))
            return pb.Scope(http=[redirect], policies=sorted(self.policies))
        destinations = Destinations(view, client)
        rules = [
            *GatewayRules(destinations).http(self.routes),
            *self.virtual.rules(destinations, port).http(self.virtual.items),
        ]
        return pb.Scope(http=rules, destinations=destinations.messages, policies=sorted(self.policies))


@dataclass
class Connections:
    """Whose rules are for connections. by_sni: those that look at it, too; policies: as for requests."""

    by_sni: bool
    tls: list[TLSRoute] = field(default_factory=list)
    tcp: list[TCPRoute] = field(default_factory=list)
    virtual: Bound = field(default_factory=Bound)
    policies: set[str] = field(default_factory=set)

    def scope(self, view: View, client: Client, port: int) -> pb.Scope:
        destinations = Destinations(view, client)
        gateway, rules = GatewayRules(destinations), self.virtual.rules(destinations, port)
        by_sni = [*gateway.tls(self.tls), *rules.tls(self.virtual.items)] if self.by_sni else ()
        others = [*gateway.tcp(self.tcp), *rules.tcp(self.virtual.items)]
        policies = sorted(self.policies)
        return pb.Scope(tls=by_sni, tcp=others, destinations=destinations.messages, policies=policies)


@dataclass
class Server:
    """sni_hosts: none in plain text. requests: by host; None: connections are forwarded as they are."""

    name: str
    sni_hosts: Sequence[str] = ()
    tls: pb.ServerTls | None = None
    requests: dict[str, Requests] = field(default_factory=lambda: defaultdict(Requests))
    connections: Connections | None = None

    @property
    def is_plain(self) -> bool:
        """Whether requests come in plain text: then there is one server for all Gateways of the port."""
        return self.tls is None and self.connections is None

    def message(self, view: View, client: Client, port: int) -> pb.Server:
        result = pb.Server(name=self.name, sni_hosts=self.sni_hosts, tls=self.tls)
        if self.connections:
            result.connections.CopyFrom(self.connections.scope(view, client, port))
        else:
            hosts = _virtual_hosts(
                {host: one.scope(view, client, port) for host, one in self.requests.items()}
            )
            result.http.CopyFrom(pb.VirtualHosts(hosts=hosts))
        return result


def _virtual_hosts(scopes: Mapping[str, pb.Scope]) -> list[pb.VirtualHost]:
    """One for all hosts that have the same scope."""
    found: dict[bytes, pb.VirtualHost] = {}
    for host, scope in sorted(scopes.items()):
        written = scope.SerializeToString(deterministic=True)
        found.setdefault(written, pb.VirtualHost(scope=scope)).hosts.append(host)
    return [*found.values()]
