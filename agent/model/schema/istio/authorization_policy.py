"""Istio's AuthorizationPolicy; what it means at L4 is in `agent.model.translation.authorization`."""

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import msgspec

from agent.model.schema.istio.base import DRY_RUN, Strict
from agent.model.schema.istio.policy import Policy
from agent.model.schema.istio.targeting import Targeted, Targeting
from agent.model.schema.syntax import FieldError, Step, check_port, check_range

Action = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
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
_NAMED_KEYS = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_INSTEAD = {
    "destination.namespace": "the policy's own namespace is meant",
    "destination.labels": "use the selector",
    "destination.name": "use the selector",
    "destination.user": "use the selector",
}
_ADDRESSES = ("source.ip", "remote.ip", "destination.ip")
_BLOCKS = ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks")
_IDENTITIES = (
    *("principals", "not_principals", "namespaces", "not_namespaces", "request_principals"),
    *("not_request_principals", "service_accounts", "not_service_accounts", "trust_domains"),
    "not_trust_domains",
)
_KEYS_OF_IDENTITY = ("source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal")
_DRY_RUNS = {  # as Go's strconv.ParseBool
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_PATH = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")  # RFC 3986: pchar without *, which is a wildcard
_ONE, _REST = "{*}", "{**}"
_MAX_ACCOUNTS = 16
_LONGEST_ACCOUNT = 320
_MAX_RULES = 512


def _not_empty(block: Strict) -> None:
    if not any(getattr(block, name) for name in block.__struct_fields__):
        raise FieldError("it asks for nothing; leave it out if all is meant")


def _check_accounts(accounts: Values, *steps: str) -> None:
    if len(accounts) > _MAX_ACCOUNTS:
        raise FieldError(f"more than {_MAX_ACCOUNTS} are not allowed; use several rules", *steps)
    for index, account in enumerate(accounts):
        if "*" in account or account.count("/") > 1 or not all(account.split("/")):
            raise FieldError(f"{account!r} is no name and no namespace/name", *steps, index)
        if len(account) > _LONGEST_ACCOUNT:
            raise FieldError(f"more than {_LONGEST_ACCOUNT} characters", *steps, index)


def _check_trust_domains(domains: Values, *steps: str) -> None:
    for index, domain in enumerate(domains):
        if "/" in domain or domain.count("*") > 1 or "*" in domain[1:-1]:
            raise FieldError(
                f"{domain!r} is no trust domain, nor one with * at its begin or end", *steps, index
            )


def _check_path(path: str, *steps: Step) -> None:
    """A template: its segments are {*}, {**} as the last of them, or plain."""
    segments = path.strip("/").split("/")
    templated = _ONE in path or _REST in path
    for index, segment in enumerate(segments):
        if segment in (_ONE, _REST):
            if _REST in segments[:index]:
                raise FieldError(f"{path!r}: nothing with a {{*}} may follow {{**}}", *steps)
        elif "{" in segment or "}" in segment or (templated and not _PATH.fullmatch(segment)):
            raise FieldError(f"{path!r}: {segment!r} is neither {{*}}, {{**}} nor a plain segment", *steps)


def _written(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


class Source(Strict, frozen=True):
    principals: Values = ()
    not_principals: Values = ()
    request_principals: Values = ()
    not_request_principals: Values = ()
    namespaces: Values = ()
    not_namespaces: Values = ()
    service_accounts: Values = ()
    not_service_accounts: Values = ()
    ip_blocks: Values = ()
    not_ip_blocks: Values = ()
    remote_ip_blocks: Values = ()
    not_remote_ip_blocks: Values = ()
    trust_domains: Values = ()
    not_trust_domains: Values = ()

    def __post_init__(self) -> None:
        _not_empty(self)
        for name in _BLOCKS:
            for index, block in enumerate(getattr(self, name)):
                check_range(block, _written(name), index)
        _check_accounts(self.service_accounts, "serviceAccounts")
        _check_accounts(self.not_service_accounts, "notServiceAccounts")
        _check_trust_domains(self.trust_domains, "trustDomains")
        _check_trust_domains(self.not_trust_domains, "notTrustDomains")
        others = self.principals or self.not_principals or self.namespaces or self.not_namespaces
        if others and (self.service_accounts or self.not_service_accounts):
            raise FieldError(
                "serviceAccounts cannot be combined with principals or namespaces; use two rules"
            )


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
        for name in ("ports", "not_ports"):
            for index, port in enumerate(getattr(self, name)):
                check_port(port, _written(name), index)
        for name in ("paths", "not_paths"):
            for index, path in enumerate(getattr(self, name)):
                _check_path(path, _written(name), index)


class To(Strict, frozen=True):
    operation: Operation


class When(Strict, frozen=True):
    key: str
    values: Values = ()
    not_values: Values = ()

    def __post_init__(self) -> None:
        if self.key not in _KEYS and not _is_named(self.key):
            instead = _INSTEAD.get(self.key.partition("[")[0], "see Istio's list of conditions")
            raise FieldError(f"{self.key!r} is no attribute; {instead}", "key")
        if not self.values and not self.not_values:
            raise FieldError(f"key {self.key}: values or notValues are needed")
        self._check(self.values, "values")
        self._check(self.not_values, "notValues")

    def _check(self, values: Values, field: str) -> None:
        if self.key == "source.serviceAccount":
            _check_accounts(values, field)
        elif self.key == "source.trustDomain":
            _check_trust_domains(values, field)
        for index, value in enumerate(values):
            if self.key in _ADDRESSES:
                check_range(value, field, index)
            elif self.key == "destination.port":
                check_port(value, field, index)


class Rule(Strict, frozen=True):
    """Nothing, or none: anything will do."""

    from_: Annotated[tuple[From, ...], msgspec.Meta(max_length=_MAX_RULES)] | None = msgspec.field(
        name="from", default=None
    )
    to: tuple[To, ...] | None = None
    when: tuple[When, ...] = ()


class PartOfRule(Rule, frozen=True):
    """What is understood of a rule; it asks for more than that."""


class Provider(Strict, frozen=True):
    name: str = ""


class AuthorizationPolicySpec(Targeting, frozen=True):
    action: Action = "ALLOW"
    provider: Provider | None = None
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=_MAX_RULES)] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.action in ("DENY", "CUSTOM") and not self.rules:
            raise FieldError(f"action {self.action} needs rules; {{}} is one that fits everything", "rules")
        if self.action == "CUSTOM":
            self._check_custom()
        elif self.provider:
            raise FieldError(f"action {self.action} has none; remove it, or use CUSTOM", "provider")

    def _check_custom(self) -> None:
        if not self.provider or not self.provider.name:
            raise FieldError("action CUSTOM needs provider.name, of one in extensionProviders", "provider")
        for index, rule in enumerate(self.rules):
            if found := next(_of_identity(rule), None):
                reason = (
                    f"action CUSTOM cannot judge {found}; name the callers in a policy with ALLOW or DENY"
                )
                raise FieldError(reason, "rules", index)


class AuthorizationPolicy(Targeted, Policy, frozen=True):
    knows_dry_run: ClassVar[bool] = True

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()

    def __post_init__(self) -> None:
        super().__post_init__()
        text = self.metadata.annotations.get(DRY_RUN)
        place = ("metadata", "annotations", DRY_RUN)
        if text is not None and text not in _DRY_RUNS:
            raise FieldError(f"{text!r} is neither true nor false", *place)
        if text is not None and self.spec.action not in ("ALLOW", "DENY"):
            raise FieldError(f"action {self.spec.action} has no dry run; remove the annotation", *place)

    @property
    def dry_run(self) -> bool:
        return _DRY_RUNS.get(self.metadata.annotations.get(DRY_RUN, "false"), False)

    @property
    def of_strictest(self) -> str:
        if self.dry_run or self.spec.action == "AUDIT":
            return "it enforces nothing"
        if self.spec.action == "ALLOW":
            return "nobody is let in beyond what is understood"
        everybody = any(not (rule.from_ or rule.to or rule.when) for rule in self.spec.rules)
        return "nobody is let in" if everybody else "whoever might match is denied"


def _is_named(key: str) -> bool:
    """A key with a name in brackets."""
    opened = key.find("[")
    return key.startswith(_NAMED_KEYS) and key.endswith("]") and 0 < opened < len(key) - 2


def _of_identity(rule: Rule) -> Iterator[str]:
    """The fields and keys of a rule that only the caller's certificate or token answers."""
    for one in rule.from_ or ():
        yield from (_written(name) for name in _IDENTITIES if getattr(one.source, name))
    for when in rule.when:
        if when.key in _KEYS_OF_IDENTITY or when.key.startswith("request.auth."):
            yield when.key
