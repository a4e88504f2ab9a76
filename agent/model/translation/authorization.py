"""AuthorizationPolicy -> `istio.security.Authorization`.

What only a request tells (methods, tokens, ...) is not seen on ports that are not HTTP. There the policy is
stricter, never wider: an ALLOW rule that asks for it allows nothing, of a DENY rule what is left denies. So a
rule that asks for requests is told in two readings: `clauses` is the stricter one, `request` the whole.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent.model.engine.refusal import said
from agent.model.schema.istio.authorization_policy import (
    AuthorizationPolicy,
    Operation,
    PartOfRule,
    Rule,
    Source,
    Values,
    When,
)
from agent.model.translation.policy_values import addresses, scope, string
from agent.model.translation.request_tests import Said, of_fields, of_key
from protocols.security_pb2 import (
    Action,
    Authorization,
    Clause,
    Match,
    RequestClause,
    RequestMatch,
    RequestRule,
    RequestTest,
    ServiceAccountMatch,
    StringMatch,
)
from protocols.security_pb2 import Rule as RuleMessage

_ACTIONS = {"ALLOW": Action.ALLOW, "DENY": Action.DENY, "AUDIT": Action.AUDIT, "CUSTOM": Action.DENY}
_TRUST_DOMAINS = ("trustDomains", "notTrustDomains")
# An entry that asks for nothing never fits. It keeps the rule's place: explanations count them as authors do.
NEVER = RuleMessage(clauses=[Clause(matches=[Match()])])


class _Entry(NamedTuple):
    """One of several conditions of which any is enough.

    tests: what it asks of requests. asked: the fields of these; lost: those that cannot be judged at all.
    """

    match: Match
    tests: list[RequestTest]
    asked: list[str]
    lost: list[str]


def authorization(policy: AuthorizationPolicy) -> tuple[Authorization, list[str]]:
    """The policy as the tunnels are told it, and where it is stricter than it reads."""
    spec, namespace = policy.spec, policy.metadata.namespace
    message = Authorization(
        name=policy.metadata.name,
        namespace=namespace,
        scope=scope(policy),
        action=_ACTIONS[spec.action],
        dry_run=policy.dry_run,
        refused=said(policy),
    )
    told, of_service = [], any(target.is_service for target in policy.targets)
    for number, rule in enumerate(spec.rules):
        one, lost = read_rule(rule, namespace, allows=spec.action == "ALLOW", of_workload=not of_service)
        for name in lost:
            told.append(f"rules[{number}]: {name} cannot be judged, {_consequence(spec.action)}")
        message.rules.append(one)
    return message, told


def read_rule(
    rule: Rule, namespace: str, *, allows: bool, of_workload: bool
) -> tuple[RuleMessage, list[str]]:
    """A rule as the tunnels are told it, and the fields of it that cannot be judged.

    of_workload: whether ports are the workload's.
    """
    clauses = [*_clauses(rule, namespace, of_workload)]
    asked = [name for entries in clauses for entry in entries for name in entry.asked]
    lost = [name for entries in clauses for entry in entries for name in entry.lost]
    return _read(clauses, allows, not isinstance(rule, PartOfRule), asked, lost), lost


def _read(
    clauses: list[list[_Entry]], allows: bool, whole: bool, asked: list[str], lost: list[str]
) -> RuleMessage:
    """A rule in its readings; `whole` is whether there is nothing of it that was not understood."""
    if allows and (lost or not whole):
        read = RuleMessage(clauses=NEVER.clauses)
    elif allows and asked:
        read = RuleMessage(clauses=NEVER.clauses, request=_request(clauses))
    elif lost or asked or not whole:
        read = _rule(entries for entries in clauses if not any(map(_is_empty, entries)))
        if asked:
            left = (entries for entries in clauses if not any(map(_asks_nothing, entries)))
            read.request.CopyFrom(_request(left))
            read.request.unjudged = ", ".join(lost)
    else:
        read = _rule(clauses)
    read.unjudged = ", ".join((*asked, *lost))
    return read


def _consequence(action: str) -> str:
    if action == "ALLOW":
        return "so that the rule allows nothing"
    does = "audits" if action == "AUDIT" else "denies"
    return f"so that the rule {does} whatever fits the rest of it"


def _is_empty(entry: _Entry) -> bool:
    """Whether nothing is left of it where requests are not seen: then everything fits."""
    return not entry.match.ByteSize()


def _asks_nothing(entry: _Entry) -> bool:
    """Whether nothing is left of it at all."""
    return _is_empty(entry) and not entry.tests


def _rule(clauses: Iterable[list[_Entry]]) -> RuleMessage:
    return RuleMessage(clauses=[Clause(matches=[entry.match for entry in entries]) for entries in clauses])


def _request(clauses: Iterable[list[_Entry]]) -> RequestRule:
    matches = (
        [RequestMatch(connection=entry.match, tests=entry.tests) for entry in each] for each in clauses
    )
    return RequestRule(clauses=[RequestClause(matches=each) for each in matches])


def _clauses(rule: Rule, namespace: str, of_workload: bool) -> Iterator[list[_Entry]]:
    """All of them have to hold, by any entry. of_workload: whether ports are the workload's."""
    if rule.from_:
        yield [_source(one.source, namespace) for one in rule.from_]
    if rule.to:
        yield [_operation(one.operation, of_workload) for one in rule.to]
    for when in rule.when:
        yield [_condition(when, namespace, of_workload)]


def _source(source: Source, namespace: str) -> _Entry:
    match = Match(
        principals=map(string, source.principals),
        not_principals=map(string, source.not_principals),
        service_accounts=_accounts(source.service_accounts, namespace),
        not_service_accounts=_accounts(source.not_service_accounts, namespace),
        source_ips=addresses(source.ip_blocks),
        not_source_ips=addresses(source.not_ip_blocks),
    )
    lost = _trust_domains(match, source.trust_domains, source.not_trust_domains, _TRUST_DOMAINS)
    lost += _namespaces(match, source.namespaces, source.not_namespaces, ("namespaces", "notNamespaces"))
    return _entry(match, of_fields(source), lost)


def _operation(operation: Operation, of_workload: bool) -> _Entry:
    if not of_workload:
        named = (("ports", operation.ports), ("notPorts", operation.not_ports))
        return _entry(Match(), of_fields(operation), [_of_service(name) for name, ports in named if ports])
    ports, not_ports = map(int, operation.ports), map(int, operation.not_ports)
    match = Match(destination_ports=ports, not_destination_ports=not_ports)
    return _entry(match, of_fields(operation))


def _condition(when: When, namespace: str, of_workload: bool) -> _Entry:
    key, values, others = when.key, when.values, when.not_values
    match, lost = Match(), list[str]()
    match key:
        case "source.ip":
            match.source_ips.extend(addresses(values))
            match.not_source_ips.extend(addresses(others))
        case "source.namespace":
            lost = _namespaces(match, values, others, (key, key))
        case "source.principal":
            match.principals.extend(map(string, values))
            match.not_principals.extend(map(string, others))
        case "source.trustDomain":
            lost = _trust_domains(match, values, others, (key, key))
        case "source.serviceAccount":
            match.service_accounts.extend(_accounts(values, namespace))
            match.not_service_accounts.extend(_accounts(others, namespace))
        case "destination.ip":
            match.destination_ips.extend(addresses(values))
            match.not_destination_ips.extend(addresses(others))
        case "destination.port" if of_workload:
            match.destination_ports.extend(map(int, values))
            match.not_destination_ports.extend(map(int, others))
        case "destination.port":
            lost = [_of_service(key)]
        case _:
            return _entry(match, of_key(when))
    return _entry(match, (), lost)


def _entry(match: Match, said: Iterable[Said], lost: Iterable[str] = ()) -> _Entry:
    fields = [*said]
    asked = [name for name, test in fields if test]
    wordless = [name for name, test in fields if not test]
    return _Entry(match, [test for _, test in fields if test], asked, [*wordless, *lost])


def _of_service(name: str) -> str:
    return f"{name} (the Service's, of a policy with targetRefs)"


def _namespaces(match: Match, values: Values, others: Values, names: tuple[str, str]) -> list[str]:
    """Fills them in; gives the names of those that the protocol cannot say: `*` is known at one end only."""
    lost = []
    for wanted, name, field in zip(
        (values, others), names, (match.namespaces, match.not_namespaces), strict=True
    ):
        odd = next((value for value in wanted if "*" in _body(value)), None)
        if odd:
            lost.append(f"{name} {odd}")
        else:
            field.extend(map(string, wanted))
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
    return string(value if value.endswith("*") else f"{value}/*")


def _body(value: str) -> str:
    """Without the one `*` that a prefix or suffix has."""
    return value[:-1] if value.endswith("*") else value.removeprefix("*")


def _accounts(accounts: Values, namespace: str) -> Iterator[ServiceAccountMatch]:
    for account in accounts:
        where, _, name = account.rpartition("/")
        yield ServiceAccountMatch(namespace=where or namespace, serviceAccount=name)
