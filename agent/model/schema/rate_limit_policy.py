"""RateLimitPolicy, a kind of ours: how often requests or connections may come.

Rules match as in an AuthorizationPolicy.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

from agent.model.schema.http_values import check_duration, check_header_name
from agent.model.schema.istio.authorization_policy import Rule
from agent.model.schema.istio.base import IstioObject, Strict
from agent.model.schema.istio.targeting import Targeted, Targeting
from agent.model.schema.syntax import FieldError, check_port, is_dns_name

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
# What requests are told apart by, and what a global service knows it by unless `name` says something else.
KEYS = {
    "source.principal": "source_principal",
    "source.namespace": "source_namespace",
    "source.ip": "remote_address",
    "remote.ip": "remote_address",
    "request.host": "host",
    "request.method": "method",
    "request.path": "path",
    "request.auth.principal": "request_principal",
}
# Of these, what is known of a connection.
OF_CONNECTIONS = ("source.principal", "source.namespace", "source.ip")
HEADER = re.compile(r"request\.headers\[([^\[\]]+)\]")
CLAIM = re.compile(r"request\.auth\.claims((?:\[[^\[\]]+\])+)")
_MAX_RULES = 128
_MAX_KEYS = 8


class Descriptor(Strict, frozen=True):
    """key: an attribute of requests, or value: a constant. name: what a global service knows it by."""

    key: str = ""
    value: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if bool(self.key) == bool(self.value):
            raise FieldError("either key or value is needed: an attribute of requests, or a constant")
        if header := HEADER.fullmatch(self.key):
            check_header_name(header[1], "key")
        elif self.key and self.key not in KEYS and not CLAIM.fullmatch(self.key):
            known = ", ".join((*KEYS, "request.headers[NAME]", "request.auth.claims[NAME]"))
            raise FieldError(f"{self.key!r} is no attribute of requests; write one of {known}", "key")


class Limit(Strict, frozen=True):
    """So many requests within a unit of time; burst: at once, of which none is given up; None: as many."""

    requests: Count
    per: Literal["second", "minute", "hour", "day"]
    burst: Count | None = None


class Global(Strict, frozen=True):
    """A service that counts, by envoy.service.ratelimit.v3.

    service: host:port. timeout: as long as a request may wait for it. failure_mode: what becomes of a request
    without an answer; there is no default. hits_addend: what a request counts as.
    """

    service: Text
    domain: Text
    failure_mode: Literal["Allow", "Deny"]
    timeout: str = "20ms"
    hits_addend: Annotated[int, msgspec.Meta(ge=1, lt=2**32)] = 1

    def __post_init__(self) -> None:
        host, _, port = self.service.rpartition(":")
        if not is_dns_name(host):
            raise FieldError(f"{self.service!r} is no host:port, such as ratelimit.infra:8081", "service")
        check_port(port, "service", least=1)
        check_duration(self.timeout, "timeout")


class Connections(Strict, frozen=True):
    """concurrent: open at a time. new: begun within a unit of time (per).

    burst: at once, None: as many as new.
    """

    concurrent: Count | None = None
    new: Count | None = None
    per: Literal["second", "minute", "hour", "day"] = "second"
    burst: Count | None = None

    def __post_init__(self) -> None:
        if not self.concurrent and not self.new:
            raise FieldError("it limits nothing; write concurrent, new or both")
        if self.burst and not self.new:
            raise FieldError("it is of new connections; write new, or remove it", "burst")


class LimitRule(Rule, frozen=True):
    """For requests that match (from, to, when; none: all), a limit for each combination of values of `by`.

    connections: it is for connections in the place of requests, whatever they carry.
    """

    by: Annotated[tuple[Descriptor, ...], msgspec.Meta(max_length=_MAX_KEYS)] = ()
    limit: Limit | None = None
    global_: Global | None = msgspec.field(name="global", default=None)
    connections: Connections | None = None

    def __post_init__(self) -> None:
        if self.connections:
            return self._check_connections()
        if not self.limit and not self.global_:
            raise FieldError(
                "it limits nothing; write limit, global if a service knows the limit, or connections"
            )
        if self.global_ and not self.by:
            raise FieldError("a global limit needs a descriptor, such as by: [{value: all}]", "by")
        if self.global_ and self.limit and self.limit.burst:
            raise FieldError("a service counts in windows, which have no burst; remove it", "limit", "burst")

    def _check_connections(self) -> None:
        if self.limit or self.global_:
            raise FieldError("limit and global are of requests; write another rule for them", "connections")
        for index, one in enumerate(self.by):
            if one.key and one.key not in OF_CONNECTIONS:
                known = ", ".join(OF_CONNECTIONS)
                raise FieldError(
                    f"{one.key} is of requests; of connections write one of {known}", "by", index
                )


class RateLimitPolicySpec(Targeting, frozen=True, kw_only=True):
    rules: Annotated[tuple[LimitRule, ...], msgspec.Meta(min_length=1, max_length=_MAX_RULES)]


class RateLimitPolicy(Targeted, IstioObject, frozen=True, kw_only=True):
    """It lets nobody in that policies keep out, so that one which was never understood limits nothing."""

    spec: RateLimitPolicySpec
    status: Any = None
