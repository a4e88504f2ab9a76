"""AuthorizationPolicy -> `istio.security.Authorization`: what of it can be judged at L4.

What only a request tells (methods, tokens, ...) is not seen there. Then the policy becomes stricter, never
wider: an ALLOW rule that asks for it allows nothing, and of a DENY rule what is left denies.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from agent.model.engine.refusal import said
from agent.model.mesh import ROOT_NAMESPACE
from agent.model.schema.istio.authorization_policy import (
    AuthorizationPolicy,
    Operation,
    PartOfRule,
    Rule,
    Source,
    Values,
    When,
)
from protocols.security_pb2 import (
    Action,
    Address,
    Authorization,
    Clause,
    Match,
    Scope,
    ServiceAccountMatch,
    StringMatch,
)
from protocols.security_pb2 import Rule as RuleMessage

_ACTIONS = {"ALLOW": Action.ALLOW, "DENY": Action.DENY, "AUDIT": Action.AUDIT, "CUSTOM": Action.DENY}
_AT_L7 = {
    **{"request_principals": "requestPrincipals", "not_request_principals": "notRequestPrincipals"},
    # Only a proxy in front could say for whom a connection is, and nobody vouches for one.
    **{"remote_ip_blocks": "remoteIpBlocks", "not_remote_ip_blocks": "notRemoteIpBlocks"},
    **{"hosts": "hosts", "not_hosts": "notHosts", "methods": "methods", "not_methods": "notMethods"},
    **{"paths": "paths", "not_paths": "notPaths"},
}

_TRUST_DOMAINS = ("trustDomains", "notTrustDomains")
PRESENT = StringMatch(presence={})
# An entry that asks for nothing never fits. It keeps the rule's place: explanations count them as authors do.
NEVER = RuleMessage(clauses=[Clause(matches=[Match()])])


class _Entry(NamedTuple):
    """One of several conditions of which any is enough. lost: the fields of it that cannot be judged."""

    match: Match
    lost: list[str]


def authorization(policy: AuthorizationPolicy) -> tuple[Authorization, list[str]]:
    """The policy as the tunnels are told it, and where it is stricter than it reads."""
    spec, namespace = policy.spec, policy.metadata.namespace
    message = Authorization(
        name=policy.metadata.name,
        namespace=namespace,
        scope=_scope(policy),
        action=_ACTIONS[spec.action],
        dry_run=policy.dry_run,
        refused=said(policy),
    )
    told = []
    for number, rule in enumerate(spec.rules):
        clauses = [*_clauses(rule, namespace, of_workload=not policy.targets)]
        lost = [name for entries in clauses for entry in entries for name in entry.lost]
        for name in lost:
            told.append(f"rules[{number}]: {name} cannot be judged at L4, {_consequence(spec.action)}")
        if not lost and not isinstance(rule, PartOfRule):
            read = _rule(clauses)
        elif spec.action == "ALLOW":
            read = NEVER
        else:
            read = _rule(entries for entries in clauses if not any(map(_is_empty, entries)))
        message.rules.append(read)
        message.rules[-1].unjudged = ", ".join(lost)
    return message, told


def _scope(policy: AuthorizationPolicy) -> Scope:
    if policy.selector or policy.targets:
        return Scope.WORKLOAD_SELECTOR
    return Scope.GLOBAL if policy.metadata.namespace == ROOT_NAMESPACE else Scope.NAMESPACE


def _consequence(action: str) -> str:
    if action == "ALLOW":
        return "so that the rule allows nothing"
    does = "audits" if action == "AUDIT" else "denies"
    return f"so that the rule {does} whatever fits the rest of it"


def _is_empty(entry: _Entry) -> bool:
    """Whether nothing is left of it: then everything fits."""
    return not entry.match.ByteSize()


def _rule(clauses: Iterable[list[_Entry]]) -> RuleMessage:
    return RuleMessage(clauses=[Clause(matches=[entry.match for entry in entries]) for entries in clauses])


def _clauses(rule: Rule, namespace: str, of_workload: bool) -> Iterator[list[_Entry]]:
    """All of them have to hold, by any entry. of_workload: whether ports are the workload's."""
    if rule.from_:
        yield [_source(one.source, namespace) for one in rule.from_]
    if rule.to:
        yield [_operation(one.operation, of_workload) for one in rule.to]
    for when in rule.when:
        yield [_condition(when, namespace, of_workload)]


def _source(source: Source, namespace: str) -> _Entry:
    lost = _lost(source)
    match = Match(
        principals=map(_string, source.principals),
        not_principals=map(_string, source.not_principals),
        service_accounts=_accounts(source.service_accounts, namespace),
        not_service_accounts=_accounts(source.not_service_accounts, namespace),
        source_ips=_addresses(source.ip_blocks),
        not_source_ips=_addresses(source.not_ip_blocks),
    )
    lost += _trust_domains(match, source.trust_domains, source.not_trust_domains, _TRUST_DOMAINS)
    lost += _namespaces(match, source.namespaces, source.not_namespaces, ("namespaces", "notNamespaces"))
    return _Entry(match, lost)


def _operation(operation: Operation, of_workload: bool) -> _Entry:
    lost = _lost(operation)
    if not of_workload:
        lost += [
            name for name, ports in (("ports", operation.ports), ("notPorts", operation.not_ports)) if ports
        ]
        return _Entry(
            Match(), [_of_service(name) if name in ("ports", "notPorts") else name for name in lost]
        )
    ports, not_ports = map(int, operation.ports), map(int, operation.not_ports)
    return _Entry(Match(destination_ports=ports, not_destination_ports=not_ports), lost)


def _condition(when: When, namespace: str, of_workload: bool) -> _Entry:
    key, values, others = when.key, when.values, when.not_values
    match = Match()
    match key:
        case "source.ip":
            match.source_ips.extend(_addresses(values))
            match.not_source_ips.extend(_addresses(others))
        case "source.namespace":
            return _Entry(match, _namespaces(match, values, others, (key, key)))
        case "source.principal":
            match.principals.extend(map(_string, values))
            match.not_principals.extend(map(_string, others))
        case "source.trustDomain":
            return _Entry(match, _trust_domains(match, values, others, (key, key)))
        case "source.serviceAccount":
            match.service_accounts.extend(_accounts(values, namespace))
            match.not_service_accounts.extend(_accounts(others, namespace))
        case "destination.ip":
            match.destination_ips.extend(_addresses(values))
            match.not_destination_ips.extend(_addresses(others))
        case "destination.port" if of_workload:
            match.destination_ports.extend(map(int, values))
            match.not_destination_ports.extend(map(int, others))
        case "destination.port":
            return _Entry(match, [_of_service(key)])
        case _:
            return _Entry(match, [key])
    return _Entry(match, [])


def _lost(block: Source | Operation) -> list[str]:
    return [written for name, written in _AT_L7.items() if getattr(block, name, ())]


def _of_service(name: str) -> str:
    return f"{name} (the Service's, of a policy with targetRefs)"


def _string(value: str) -> StringMatch:
    if value == "*":
        return PRESENT
    if value.startswith("*"):
        return StringMatch(suffix=value[1:])
    return StringMatch(prefix=value[:-1]) if value.endswith("*") else StringMatch(exact=value)


def _namespaces(match: Match, values: Values, others: Values, names: tuple[str, str]) -> list[str]:
    """Fills them in; gives the names of those that the protocol cannot say: `*` is known at one end only."""
    lost = []
    for wanted, name, field in zip(
        (values, others), names, (match.namespaces, match.not_namespaces), strict=True
    ):
        odd = next((value for value in wanted if "*" in _string_body(value)), None)
        if odd:
            lost.append(f"{name} {odd}")
        else:
            field.extend(map(_string, wanted))
    return lost


def _trust_domains(match: Match, values: Values, others: Values, names: tuple[str, str]) -> list[str]:
    """Fills them in as what principals begin with; gives the names of those that cannot be said so.

    A principal must be one of a list, which a trust domain beside it would only make longer.
    """
    lost = []
    for wanted, name, field in zip(
        (values, others), names, (match.principals, match.not_principals), strict=True
    ):
        ending = next((value for value in wanted if value.startswith("*") and value != "*"), None)
        if ending:
            lost.append(f"{name} {ending}")
        elif wanted and field is match.principals and match.principals:
            lost.append(f"{name} beside principals")
        else:
            field.extend(map(_trust_domain, wanted))
    return lost


def _trust_domain(value: str) -> StringMatch:
    return _string(value if value.endswith("*") else f"{value}/*")


def _string_body(value: str) -> str:
    """Without the one `*` that a prefix or suffix has."""
    return value[:-1] if value.endswith("*") else value.removeprefix("*")


def _accounts(accounts: Values, namespace: str) -> Iterator[ServiceAccountMatch]:
    for account in accounts:
        where, _, name = account.rpartition("/")
        yield ServiceAccountMatch(namespace=where or namespace, serviceAccount=name)


def _addresses(blocks: Iterable[str]) -> list[Address]:
    return [_address(ip_network(block, strict=False)) for block in blocks]


def _address(network: IPv4Network | IPv6Network) -> Address:
    return Address(address=network.network_address.packed, length=network.prefixlen)
