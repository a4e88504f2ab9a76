"""Istio's VirtualService, read as strictly as Istio's webhook and the API server's schema do it.

What only makes sense together with other objects (hosts and subsets that do not exist, rules that nothing
reaches) is no error: it is told among the problems.
"""

from typing import Annotated

import msgspec

from agent.model.schema.http_values import check_distinct_hosts, matches_host
from agent.model.schema.istio.base import Strict
from agent.model.schema.istio.export import check_export_to
from agent.model.schema.istio.http_rule import HttpRule
from agent.model.schema.istio.policy import Policy
from agent.model.schema.istio.route_values import (
    Destination,
    Uint32,
    Weight,
    check_gateways,
    check_host,
    check_port,
    check_source,
    check_weights,
)
from agent.model.schema.objects import Labels, to_address
from agent.model.schema.syntax import FieldError, check_range

MESH = "mesh"  # among `gateways`: all clients within the mesh


class L4Match(Strict, frozen=True):
    """Of a TCP rule. source_subnet: of Istio's first versions, without effect."""

    destination_subnets: tuple[str, ...] = ()
    port: Uint32 = 0
    source_labels: Labels = msgspec.field(default_factory=dict)
    source_namespace: str = ""
    source_subnet: str = ""
    gateways: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for index, subnet in enumerate(self.destination_subnets):
            check_range(subnet, "destinationSubnets", index)
        if self.port:
            check_port(self.port, "port")
        check_source(self.source_labels)
        check_gateways(self.gateways, "gateways")


class TlsMatch(Strict, frozen=True):
    """sni_hosts: each a host of the VirtualService, or within a wildcard of its."""

    sni_hosts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    destination_subnets: tuple[str, ...] = ()
    port: Uint32 = 0
    source_labels: Labels = msgspec.field(default_factory=dict)
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for index, host in enumerate(self.sni_hosts):
            if not _is_address(host):
                check_host(host, "sniHosts", index)
        for index, subnet in enumerate(self.destination_subnets):
            check_range(subnet, "destinationSubnets", index)
        if self.port:
            check_port(self.port, "port")
        check_source(self.source_labels)
        check_gateways(self.gateways, "gateways")


class RouteDestination(Strict, frozen=True):
    destination: Destination
    weight: Weight = 0


class TcpRule(Strict, frozen=True):
    """match: one is enough; none: always."""

    route: Annotated[tuple[RouteDestination, ...], msgspec.Meta(min_length=1)]
    match: tuple[L4Match, ...] = ()

    def __post_init__(self) -> None:
        check_weights([one.weight for one in self.route])


class TlsRule(Strict, frozen=True):
    match: Annotated[tuple[TlsMatch, ...], msgspec.Meta(min_length=1)]
    route: Annotated[tuple[RouteDestination, ...], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        check_weights([one.weight for one in self.route])


class VirtualServiceSpec(Strict, frozen=True):
    """hosts: none in one that others delegate to. gateways: none is `mesh`."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HttpRule, ...] = ()
    tls: tuple[TlsRule, ...] = ()
    tcp: tuple[TcpRule, ...] = ()
    export_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_gateways(self.gateways, "gateways")
        if not self.hosts:
            self._check_delegate()
        self._check_hosts()
        if not (self.http or self.tls or self.tcp):
            raise FieldError("no rules; write http, tls or tcp")
        for index, rule in enumerate(self.http):
            rule.check_action(("http", index), delegate=not self.hosts)
            if not self.only_gateways:
                rule.check_claims(("http", index))
        self._check_sni_hosts()

    @property
    def in_mesh(self) -> bool:
        """Whether it is for clients within the mesh."""
        return not self.gateways or MESH in self.gateways

    @property
    def l4(self) -> tuple[TlsRule | TcpRule, ...]:
        """The rules of connections."""
        return (*self.tls, *self.tcp)

    @property
    def bound_gateways(self) -> tuple[str, ...]:
        """The Gateways among `gateways`, as written."""
        return tuple(name for name in self.gateways if name != MESH)

    @property
    def only_gateways(self) -> bool:
        return bool(self.gateways) and MESH not in self.gateways

    def _check_delegate(self) -> None:
        for name in ("gateways", "tls", "tcp"):
            if getattr(self, name):
                raise FieldError("without hosts others delegate to it, which takes http only", name)

    def _check_hosts(self) -> None:
        for index, host in enumerate(self.hosts):
            if _is_address(host):
                continue
            check_host(host, "hosts", index)
            if host == "*" and not self.only_gateways:
                reason = "within the mesh * is not allowed; name hosts, or gateways without mesh"
                raise FieldError(reason, "hosts", index)
        check_distinct_hosts(self.hosts, "hosts")

    def _check_sni_hosts(self) -> None:
        for i, rule in enumerate(self.tls):
            for j, match in enumerate(rule.match):
                for k, host in enumerate(match.sni_hosts):
                    if not _is_address(host) and not any(matches_host(host, own) for own in self.hosts):
                        reason = f"{host} is none of hosts, nor within a wildcard there; add it"
                        raise FieldError(reason, "tls", i, "match", j, "sniHosts", k)


class VirtualService(Policy, frozen=True, kw_only=True):
    """One that is refused and never was good keeps its hosts from being reached without it."""

    spec: VirtualServiceSpec

    def __post_init__(self) -> None:
        super().__post_init__()
        check_export_to(self.spec.export_to, self.metadata.namespace, "spec", "exportTo")

    @property
    def of_strictest(self) -> str:
        return "its hosts answer with 503"


def _is_address(text: str) -> bool:
    try:
        to_address(text)
    except ValueError:
        return False
    return True
