"""Istio's AuthorizationPolicy and PeerAuthentication, read strictly: what is unknown in a policy is refused.

A field that is passed over could make a policy allow more than its author wrote. The rules of Istio's own
validation hold; what a policy means is in `policies.py` and `authentication.py`.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from agent.model.entries import Dated
from agent.model.objects import Labels, Object

DRY_RUN = "istio.io/dry-run"
Mode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]
Value = Annotated[str, msgspec.Meta(min_length=1)]
Values = tuple[Value, ...]

# Keys of `when`, those with a name in brackets by what stands before it.
_KEYS = frozenset(
    {
        *("source.ip", "source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain"),
        *("remote.ip", "destination.ip", "destination.port", "connection.sni"),
        *("request.auth.principal", "request.auth.audiences", "request.auth.presenter"),
    }
)
_NAMED_KEY = re.compile(
    r"^(request\.headers|request\.auth\.claims|experimental\.envoy\.filters\.[^\[]+)(\[[^\]]+\])+$"
)
_ADDRESSES = ("source.ip", "remote.ip", "destination.ip")
_MAX_ACCOUNTS = 16
_MAX_REFERENCES = 16


class Strict(Struct, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True):
    """A piece of a policy."""


def _not_empty(block: Strict) -> None:
    if not any(getattr(block, name) for name in block.__struct_fields__):
        raise ValueError("it asks for nothing; leave it out if all is meant")


def _check_blocks(name: str, blocks: Values) -> None:
    for block in blocks:
        try:
            ip_network(block, strict=False)
        except ValueError:
            raise ValueError(f"{_written(name)}: {block!r} is no address and no range of addresses") from None


def _check_ports(name: str, ports: Iterable[str]) -> None:
    for port in ports:
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise ValueError(f"{name}: {port!r} is no port (0 to 65535)")


def _written(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


class Selector(Strict, frozen=True):
    match_labels: Labels = msgspec.field(default_factory=dict)


class TargetRef(Strict, frozen=True):
    """`namespace`: only the object's own may be meant, and it is not to be written."""

    kind: Literal["Gateway", "GatewayClass", "Service", "ServiceEntry"]
    name: Value
    group: str = ""

    @property
    def is_service(self) -> bool:
        return self.kind in ("Service", "ServiceEntry")


class Source(Strict, frozen=True):
    principals: Values = ()
    not_principals: Values = ()
    request_principals: Values = ()
    not_request_principals: Values = ()
    namespaces: Values = ()
    not_namespaces: Values = ()
    service_accounts: Annotated[Values, msgspec.Meta(max_length=_MAX_ACCOUNTS)] = ()
    not_service_accounts: Annotated[Values, msgspec.Meta(max_length=_MAX_ACCOUNTS)] = ()
    ip_blocks: Values = ()
    not_ip_blocks: Values = ()
    remote_ip_blocks: Values = ()
    not_remote_ip_blocks: Values = ()
    trust_domains: Values = ()
    not_trust_domains: Values = ()

    def __post_init__(self) -> None:
        _not_empty(self)
        for name in ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks"):
            _check_blocks(name, getattr(self, name))
        accounts = (*self.service_accounts, *self.not_service_accounts)
        for account in accounts:
            if "*" in account or account.count("/") > 1 or not all(account.split("/")):
                raise ValueError(f"serviceAccounts: {account!r} is no name and no namespace/name")
        others = self.principals or self.not_principals or self.namespaces or self.not_namespaces
        if accounts and others:
            raise ValueError("serviceAccounts cannot be combined with principals or namespaces")


class From(Strict, frozen=True):
    source: Source


class Operation(Strict, frozen=True):
    hosts: Values = ()
    not_hosts: Values = ()
    ports: Values = ()
    not_ports: Values = ()
    methods: Values = ()
    not_methods: Values = ()
    paths: Values = ()
    not_paths: Values = ()

    def __post_init__(self) -> None:
        _not_empty(self)
        _check_ports("ports", self.ports)
        _check_ports("notPorts", self.not_ports)


class To(Strict, frozen=True):
    operation: Operation


class When(Strict, frozen=True):
    key: str
    values: Values = ()
    not_values: Values = ()

    def __post_init__(self) -> None:
        if self.key not in _KEYS and not _NAMED_KEY.match(self.key):
            raise ValueError(f"key {self.key!r} is unknown")
        if not self.values and not self.not_values:
            raise ValueError(f"key {self.key}: values or notValues are needed")
        for name in ("values", "not_values"):
            if self.key in _ADDRESSES:
                _check_blocks(name, getattr(self, name))
            elif self.key == "destination.port":
                _check_ports(name, getattr(self, name))


class Rule(Strict, frozen=True):
    """None: not written, anything will do."""

    from_: Annotated[tuple[From, ...], msgspec.Meta(min_length=1)] | None = msgspec.field(
        name="from", default=None
    )
    to: Annotated[tuple[To, ...], msgspec.Meta(min_length=1)] | None = None
    when: tuple[When, ...] = ()


class Provider(Strict, frozen=True):
    name: str = ""


class AuthorizationPolicySpec(Strict, frozen=True):
    selector: Selector = Selector()
    target_refs: Annotated[tuple[TargetRef, ...], msgspec.Meta(max_length=_MAX_REFERENCES)] = ()
    target_ref: TargetRef | None = None
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    provider: Provider | None = None
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if self.target_refs and self.target_ref:
            raise ValueError("targetRef and targetRefs exclude each other")
        if self.selector.match_labels and (self.target_refs or self.target_ref):
            raise ValueError("selector and targetRefs exclude each other")
        if self.action in ("DENY", "CUSTOM") and not self.rules:
            raise ValueError(f"action {self.action} needs rules")


class Policy(Object, frozen=True, forbid_unknown_fields=True):
    """What kinds of them have in common. Where they stand in a manifest, what others wrote is dropped."""

    metadata: Dated
    api_version: str = ""
    kind: str = ""
    status: Any = None

    def __post_init__(self) -> None:
        force_setattr(self, "status", None)

    @property
    def selector(self) -> Labels:
        """The labels of the workloads for which it is; none: it is for all within its reach."""
        raise NotImplementedError


class AuthorizationPolicy(Policy, frozen=True):
    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metadata.annotations.get(DRY_RUN, "false") not in ("true", "false"):
            raise ValueError(f"metadata.annotations: {DRY_RUN} is true or false")

    @property
    def dry_run(self) -> bool:
        return self.metadata.annotations.get(DRY_RUN) == "true"

    @property
    def selector(self) -> Labels:
        return self.spec.selector.match_labels

    @property
    def targets(self) -> tuple[TargetRef, ...]:
        return (self.spec.target_ref,) if self.spec.target_ref else self.spec.target_refs


class Mtls(Strict, frozen=True):
    mode: Mode = "UNSET"


class PeerAuthenticationSpec(Strict, frozen=True):
    """port_level_mtls: by the workload's port."""

    selector: Selector = Selector()
    mtls: Mtls = Mtls()
    port_level_mtls: dict[str, Mtls] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_ports("portLevelMtls", self.port_level_mtls)
        if self.port_level_mtls and not self.selector.match_labels:
            raise ValueError("portLevelMtls needs a selector")


class PeerAuthentication(Policy, frozen=True):
    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()

    @property
    def selector(self) -> Labels:
        return self.spec.selector.match_labels
