"""AuthorizationPolicy: every attribute, every empty case, and what L4 cannot judge.

What all of it means together is compared with a reading of the manifests in `tests/policy`.
"""

from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from agent.model.kinds import KINDS
from agent.model.model import apply
from agent.model.schema.objects import Key, Object
from agent.model.translation.authorization import NEVER
from agent.sources import documents
from agent.sources.documents import Refused
from protocols.security_pb2 import (
    Action,
    Address,
    Authorization,
    Clause,
    Match,
    RequestAttribute,
    Rule,
    Scope,
    ServiceAccountMatch,
    StringMatch,
)
from tests.agent.model.objects import (
    changes,
    endpoint_slice,
    make,
    model_of,
    pod,
    policies,
    service,
    workload,
)

Spec = dict[str, Any]


def policy(spec: Spec | None = None, namespace: str = "default", **metadata: Any) -> Object:
    return make("AuthorizationPolicy", "p", namespace, spec=spec or {}, **metadata)


def translated(spec: Spec, namespace: str = "default") -> tuple[Authorization, str]:
    """The message of a policy, and what its author is told."""
    model = model_of(policy(spec, namespace))
    key = Key("AuthorizationPolicy", namespace, "p")
    return policies(model)[f"{namespace}/p"], model.problems.get(key, "")


def exact(*texts: str) -> list[StringMatch]:
    return [StringMatch(exact=text) for text in texts]


def blocks(*texts: str) -> list[Address]:
    networks = [ip_network(text) for text in texts]
    return [Address(address=one.network_address.packed, length=one.prefixlen) for one in networks]


def accounts(*names: str) -> list[ServiceAccountMatch]:
    pairs = [name.split("/") for name in names]
    return [ServiceAccountMatch(namespace=where, serviceAccount=name) for where, name in pairs]


PRESENT = StringMatch(presence={})
SOURCES: list[tuple[Spec, Match]] = [
    ({"principals": ["td/ns/a/sa/b"]}, Match(principals=exact("td/ns/a/sa/b"))),
    ({"principals": ["td/*", "*/sa/b"]}, Match(principals=[{"prefix": "td/"}, {"suffix": "/sa/b"}])),
    ({"principals": ["*"]}, Match(principals=[PRESENT])),
    ({"notPrincipals": ["*"]}, Match(not_principals=[PRESENT])),
    ({"namespaces": ["a", "b*"]}, Match(namespaces=[*exact("a"), StringMatch(prefix="b")])),
    ({"notNamespaces": ["*a"]}, Match(not_namespaces=[StringMatch(suffix="a")])),
    ({"serviceAccounts": ["own", "a/b"]}, Match(service_accounts=accounts("default/own", "a/b"))),
    ({"notServiceAccounts": ["a/b"]}, Match(not_service_accounts=accounts("a/b"))),
    ({"ipBlocks": ["10.0.0.0/8", "fd00::1"]}, Match(source_ips=blocks("10.0.0.0/8", "fd00::1"))),
    ({"notIpBlocks": ["10.0.0.7"]}, Match(not_source_ips=blocks("10.0.0.7"))),
    ({"trustDomains": ["td", "t*"]}, Match(principals=[{"prefix": "td/"}, {"prefix": "t"}])),
    ({"trustDomains": ["*"]}, Match(principals=[PRESENT])),
    (
        {"notTrustDomains": ["td"], "notPrincipals": ["x"]},
        Match(not_principals=[{"exact": "x"}, {"prefix": "td/"}]),
    ),
    (
        {"serviceAccounts": ["a/b"], "trustDomains": ["td"]},
        Match(service_accounts=accounts("a/b"), principals=[{"prefix": "td/"}]),
    ),
]
OPERATIONS: list[tuple[Spec, Match]] = [
    ({"ports": ["80", "8080"]}, Match(destination_ports=[80, 8080])),
    ({"notPorts": ["0"]}, Match(not_destination_ports=[0])),
]
KEYS: list[tuple[str, str, Match]] = [
    ("source.ip", "10.0.0.1", Match(source_ips=blocks("10.0.0.1"))),
    ("source.trustDomain", "td", Match(principals=[{"prefix": "td/"}])),
    ("source.serviceAccount", "a/b", Match(service_accounts=accounts("a/b"))),
    ("source.namespace", "a", Match(namespaces=exact("a"))),
    ("source.principal", "td/ns/a/sa/b", Match(principals=exact("td/ns/a/sa/b"))),
    ("source.serviceAccount", "b", Match(service_accounts=accounts("default/b"))),
    ("destination.ip", "10.0.0.0/8", Match(destination_ips=blocks("10.0.0.0/8"))),
    ("destination.port", "80", Match(destination_ports=[80])),
]


@pytest.mark.parametrize(("source", "match"), SOURCES)
def test_every_attribute_of_a_source(source: Spec, match: Match) -> None:
    message, problem = translated({"rules": [{"from": [{"source": source}]}]})
    [rule] = message.rules
    assert [[*clause.matches] for clause in rule.clauses] == [[match]]
    assert problem == ""


@pytest.mark.parametrize(("operation", "match"), OPERATIONS)
def test_every_attribute_of_an_operation(operation: Spec, match: Match) -> None:
    message, problem = translated({"rules": [{"to": [{"operation": operation}]}]})
    assert [[*clause.matches] for clause in message.rules[0].clauses] == [[match]]
    assert problem == ""


@pytest.mark.parametrize(("key", "value", "match"), KEYS)
def test_every_key_of_when(key: str, value: str, match: Match) -> None:
    """`notValues` fill the field that is the other's opposite."""
    message, _ = translated({"rules": [{"when": [{"key": key, "values": [value]}]}]})
    assert [*message.rules[0].clauses[0].matches] == [match]
    message, _ = translated({"rules": [{"when": [{"key": key, "notValues": [value]}]}]})
    [[field, values]] = match.ListFields()
    opposite = Match()
    getattr(opposite, f"not_{field.name}").extend(values)
    assert [*message.rules[0].clauses[0].matches] == [opposite]


def test_parts_of_a_rule_are_clauses_and_their_entries_matches() -> None:
    sources = [{"source": {"namespaces": ["a"]}}, {"source": {"namespaces": ["b"]}}]
    when = [{"key": "source.ip", "values": ["10.0.0.1"]}, {"key": "destination.port", "values": ["1"]}]
    message, _ = translated(
        {"rules": [{"from": sources, "to": [{"operation": {"ports": ["80"]}}], "when": when}]}
    )
    assert [[*clause.matches] for clause in message.rules[0].clauses] == [
        [Match(namespaces=exact("a")), Match(namespaces=exact("b"))],
        [Match(destination_ports=[80])],
        [Match(source_ips=blocks("10.0.0.1"))],
        [Match(destination_ports=[1])],
    ]


def test_empty_cases() -> None:
    nothing, _ = translated({})
    assert (nothing.action, len(nothing.rules)) == (Action.ALLOW, 0), "it allows nothing"
    rules: list[Spec] = [{}, {"from": []}, {"to": [], "when": []}]
    for rule in rules:
        everything, _ = translated({"rules": [rule]})
        assert [len(rule.clauses) for rule in everything.rules] == [0], "it matches everything"
    assert translated({"selector": {}})[0].scope == Scope.NAMESPACE
    assert translated({"selector": {"matchLabels": {}}}, "istio-system")[0].scope == Scope.GLOBAL


@pytest.mark.parametrize(
    ("action", "sent"),
    [("ALLOW", Action.ALLOW), ("DENY", Action.DENY), ("AUDIT", Action.AUDIT), ("CUSTOM", Action.DENY)],
)
def test_actions(action: str, sent: Action) -> None:
    provider = {"provider": {"name": "authorizer"}} if action == "CUSTOM" else {}
    message, problem = translated({"action": action, "rules": [{}], **provider})
    assert message.action == sent
    assert bool(problem) == (action == "CUSTOM"), "nobody is asked: it denies"


def test_a_dry_run_is_told_as_one() -> None:
    for value, expected in (("true", True), ("True", True), ("1", True), ("false", False), ("F", False)):
        model = model_of(policy(annotations={"istio.io/dry-run": value}))
        assert policies(model)["default/p"].dry_run == expected


L7: list[tuple[str, Spec]] = [
    ("requestPrincipals", {"from": [{"source": {"requestPrincipals": ["*"]}}]}),
    ("notRequestPrincipals", {"from": [{"source": {"notRequestPrincipals": ["*"]}}]}),
    ("remoteIpBlocks", {"from": [{"source": {"remoteIpBlocks": ["10.0.0.0/8"]}}]}),
    ("notRemoteIpBlocks", {"from": [{"source": {"notRemoteIpBlocks": ["10.0.0.0/8"]}}]}),
    ("remote.ip", {"when": [{"key": "remote.ip", "values": ["10.0.0.0/8"]}]}),
    ("remote.ip", {"when": [{"key": "remote.ip", "notValues": ["10.0.0.0/8"]}]}),
    ("trustDomains *d", {"from": [{"source": {"trustDomains": ["*d"]}}]}),
    ("notTrustDomains *d", {"from": [{"source": {"notTrustDomains": ["*d"]}}]}),
    ("namespaces a*b", {"from": [{"source": {"namespaces": ["x", "a*b"]}}]}),
    ("notNamespaces *a*", {"from": [{"source": {"notNamespaces": ["*a*"]}}]}),
    ("hosts", {"to": [{"operation": {"hosts": ["h"]}}]}),
    ("methods", {"to": [{"operation": {"methods": ["GET"]}}]}),
    ("notPaths", {"to": [{"operation": {"notPaths": ["/x"]}}]}),
    ("request.headers[x]", {"when": [{"key": "request.headers[x]", "values": ["1"]}]}),
    ("request.auth.claims[a][b]", {"when": [{"key": "request.auth.claims[a][b]", "values": ["1"]}]}),
    ("connection.sni", {"when": [{"key": "connection.sni", "notValues": ["1"]}]}),
    ("source.trustDomain *d", {"when": [{"key": "source.trustDomain", "values": ["*d"]}]}),
]


LOST = (
    "trustDomains",
    "notTrustDomains",
    "namespaces",
    "notNamespaces",
    "connection.sni",
    "source.trustDomain",
)


@pytest.mark.parametrize(("name", "part"), L7)
def test_what_l4_cannot_judge_fails_closed(name: str, part: Spec) -> None:
    known = {"when": [{"key": "destination.port", "values": ["80"]}, *part.get("when", [])]}
    message, problem = translated({"rules": [{**part, **known}]})
    assert never(message.rules[0]) and len(message.rules) == 1, (
        "an ALLOW rule never matches, and keeps its place"
    )
    assert message.rules[0].unjudged == name
    lost = name.startswith(LOST)
    assert message.rules[0].HasField("request") != lost, "on HTTP ports it is judged"
    assert problem == (f"rules[0]: {name} cannot be judged, so that the rule allows nothing" if lost else "")
    for action, word in (("DENY", "denies"), ("AUDIT", "audits")):
        message, problem = translated({"action": action, "rules": [{**part, **known}]})
        [rule] = message.rules
        assert [[*clause.matches] for clause in rule.clauses] == [[Match(destination_ports=[80])]]
        ending = f"so that the rule {word} whatever fits the rest of it"
        assert rule.HasField("request") != lost
        assert problem == (f"rules[0]: {name} cannot be judged, {ending}" if lost else "")


def test_what_only_a_request_tells_is_told_beside_what_is_judged_without() -> None:
    """An ALLOW rule lets nobody in where requests are not seen, of a DENY rule the rest holds there."""
    source = {
        "principals": ["td/ns/a/sa/b"],
        "requestPrincipals": ["i/*"],
        "notRemoteIpBlocks": ["10.0.0.0/8"],
    }
    operation = {"methods": ["GET"], "notPaths": ["/a/{*}", "/b*"], "hosts": ["*.h"], "ports": ["80"]}
    when = [
        {"key": "request.headers[X-A]", "values": ["1"], "notValues": ["2"]},
        {"key": "request.auth.claims[a][b]", "values": ["*"]},
        {"key": "request.auth.audiences", "notValues": ["x"]},
    ]
    rule = {"from": [{"source": source}], "to": [{"operation": operation}], "when": when}
    for action in ("ALLOW", "DENY"):
        [told] = translated({"action": action, "rules": [rule]})[0].rules
        sources, operations, *conditions = told.request.clauses
        assert [(test.attribute, test.negated) for test in sources.matches[0].tests] == [
            (RequestAttribute.REQUEST_PRINCIPAL, False),
            (RequestAttribute.REMOTE_ADDRESS, True),
        ]
        assert sources.matches[0].connection.principals == exact("td/ns/a/sa/b")
        hosts, methods, paths = operations.matches[0].tests
        assert [*hosts.values] == [StringMatch(suffix=".h")]
        assert [*methods.values] == exact("GET")
        assert [*paths.values] == [StringMatch(template="/a/{*}"), StringMatch(prefix="/b")]
        tests = [test for clause in conditions for test in clause.matches[0].tests]
        assert [(test.attribute, [*test.path], test.negated) for test in tests] == [
            (RequestAttribute.HEADER, ["x-a"], False),
            (RequestAttribute.HEADER, ["x-a"], True),
            (RequestAttribute.CLAIM, ["a", "b"], False),
            (RequestAttribute.AUDIENCE, [], True),
        ]
        rest = [
            Clause(matches=[Match(principals=exact("td/ns/a/sa/b"))]),
            Clause(matches=[Match(destination_ports=[80])]),
        ]
        assert [*told.clauses] == (rest if action == "DENY" else [*NEVER.clauses])


@pytest.mark.parametrize("path", ["/{**}/", "/a/{**}/b", "a/{*}"])
def test_a_template_that_fits_no_path_fails_closed(path: str) -> None:
    try:
        message, _ = translated({"action": "DENY", "rules": [{"to": [{"operation": {"paths": [path]}}]}]})
    except Refused:
        return
    assert not message.rules[0].clauses and not message.rules[0].HasField("request"), "it denies everything"


def test_a_rule_that_allows_nothing_keeps_its_place() -> None:
    methods = {"to": [{"operation": {"methods": ["GET"]}}]}
    message, _ = translated({"rules": [methods, {}]})
    assert [*map(never, message.rules)] == [True, False]
    assert [rule.unjudged for rule in message.rules] == ["methods", ""]


def test_of_one_entry_the_rest_is_kept_and_without_a_rest_anything_fits() -> None:
    half = {"principals": ["a"], "requestPrincipals": ["x"]}
    message, _ = translated({"action": "DENY", "rules": [{"from": [{"source": half}]}]})
    assert [*message.rules[0].clauses[0].matches] == [Match(principals=exact("a"))]
    entries = [{"source": {"principals": ["a"]}}, {"source": {"requestPrincipals": ["x"]}}]
    message, _ = translated({"action": "DENY", "rules": [{"from": entries}]})
    assert len(message.rules[0].clauses) == 0


def never(rule: Rule) -> bool:
    """Whether it never matches."""
    return [*rule.clauses] == [*NEVER.clauses]


REFUSED: list[tuple[Spec, str]] = [
    ({"spec": {"actoin": "DENY"}}, "spec: unknown field actoin"),
    ({"spce": {}}, "unknown field spce"),
    ({"spec": {"action": "Deny"}}, "spec.action: Invalid enum value 'Deny' (found 'Deny')"),
    ({"spec": {"action": "DENY"}}, "spec.rules: action DENY needs rules"),
    ({"spec": {"action": "CUSTOM"}}, "spec.rules: action CUSTOM needs rules"),
    ({"spec": {"rules": [{"form": []}]}}, "spec.rules[0]: unknown field form"),
    ({"spec": {"rules": [{"from": [{}]}]}}, "spec.rules[0].from[0]: Object missing required field source"),
    (
        {"spec": {"rules": [{"from": [{"source": {}}]}]}},
        "spec.rules[0].from[0].source: it asks for nothing; leave it out if all is meant",
    ),
    (
        {"spec": {"rules": [{"to": [{"operation": {"ports": []}}]}]}},
        "spec.rules[0].to[0].operation: it asks for nothing; leave it out if all is meant",
    ),
    (
        {"spec": {"rules": [{"from": [{"source": {"principals": [""]}}]}]}},
        "spec.rules[0].from[0].source.principals[0]: Expected str of length >= 1 (found '')",
    ),
    (
        {"spec": {"rules": [{"from": [{"source": {"ipBlocks": ["10.0.0"]}}]}]}},
        "spec.rules[0].from[0].source.ipBlocks[0]: '10.0.0' is no address and no range such as 10.0.0.0/8",
    ),
    (
        {"spec": {"rules": [{"to": [{"operation": {"ports": [80]}}]}]}},
        "spec.rules[0].to[0].operation.ports[0]: this is a string: put it in quotes (found 80)",
    ),
    (
        {"spec": {"rules": [{"to": [{"operation": {"ports": ["65536"]}}]}]}},
        "spec.rules[0].to[0].operation.ports[0]: '65536' is no port number (0 to 65535)",
    ),
    (
        {"spec": {"rules": [{"from": [{"source": {"serviceAccounts": ["a*"]}}]}]}},
        "spec.rules[0].from[0].source.serviceAccounts[0]: 'a*' is no name and no namespace/name",
    ),
    (
        {"spec": {"rules": [{"from": [{"source": {"serviceAccounts": ["a"], "namespaces": ["b"]}}]}]}},
        "spec.rules[0].from[0].source: serviceAccounts cannot be combined with principals or namespaces",
    ),
    (
        {"spec": {"rules": [{"when": [{"key": "source.port", "values": ["1"]}]}]}},
        "spec.rules[0].when[0].key: 'source.port' is no attribute",
    ),
    (
        {"spec": {"rules": [{"when": [{"key": "source.ip"}]}]}},
        "spec.rules[0].when[0]: key source.ip: values or notValues are needed",
    ),
    (
        {"spec": {"rules": [{"when": [{"key": "destination.port", "values": ["x"]}]}]}},
        "spec.rules[0].when[0].values[0]: 'x' is no port number (0 to 65535)",
    ),
    (
        {"spec": {"selector": {"matchLabels": {"a": "b"}}, "targetRefs": [{"kind": "Service", "name": "s"}]}},
        "spec.targetRefs: selector and targetRefs exclude each other; keep one",
    ),
    (
        {"spec": {"targetRefs": [{"kind": "Service", "name": "s", "namespace": "x"}]}},
        "spec.targetRefs[0].namespace: Invalid enum value 'x'",
    ),
    (
        {"spec": {"targetRefs": [{"kind": "Pod", "name": "s"}]}},
        "spec.targetRefs[0].kind: Invalid enum value 'Pod'",
    ),
    (
        {"metadata": {"name": "p", "annotations": {"istio.io/dry-run": "maybe"}}},
        "metadata.annotations.istio.io/dry-run: 'maybe' is neither true nor false",
    ),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_what_is_refused_is_named_by_its_field(fields: Spec, reason: str) -> None:
    kind = KINDS["AuthorizationPolicy"]
    assert kind.struct
    manifest = {"apiVersion": kind.api_versions[0], "kind": kind.name, "metadata": {"name": "p"}, **fields}
    with pytest.raises(Refused) as refused:
        documents.convert(manifest, kind.struct, Key(kind.name, "default", "p"))
    assert str(refused.value).startswith(reason)


def test_a_selector_is_named_by_the_workloads_that_it_selects() -> None:
    items = [
        pod("x", labels={"app": "x", "v": "1"}),
        pod("y", labels={"app": "y"}),
        pod("z", namespace="other"),
    ]
    model = model_of(*items, policy({"selector": {"matchLabels": {"app": "x"}}}))
    assert policies(model)["default/p"].scope == Scope.WORKLOAD_SELECTOR
    assert [*workload(model, "x").authorization_policies] == ["default/p"]
    assert [*workload(model, "y").authorization_policies] == []
    model, delta = apply(model, changes(pod("y", labels={"app": "x"})))
    assert [*workload(model, "y").authorization_policies] == ["default/p"], "newly attached"
    assert len(delta.changed) == 1
    model, _ = apply(model, [(Key("AuthorizationPolicy", "default", "p"), None)])
    assert [*workload(model, "x").authorization_policies] == []


def test_a_selector_in_the_root_namespace_selects_everywhere() -> None:
    selector = {"selector": {"matchLabels": {"app": "x"}}}
    items = [pod("x", labels={"app": "x"}), policy(selector, "istio-system"), policy(selector, "other")]
    assert [*workload(model_of(*items), "x").authorization_policies] == ["istio-system/p"]


def test_without_a_selector_the_scope_says_whom_it_is_for() -> None:
    items = [pod("x"), policy(), policy(None, "istio-system")]
    model = model_of(*items)
    assert {name: one.scope for name, one in policies(model).items()} == {
        "default/p": Scope.NAMESPACE,
        "istio-system/p": Scope.GLOBAL,
    }
    assert [*workload(model, "x").authorization_policies] == []


@pytest.mark.parametrize("field", ["targetRef", "targetRefs"])
def test_a_policy_of_a_service_is_named_by_its_endpoints(field: str) -> None:
    target = {"kind": "Service", "name": "x", "group": ""}
    refers = {field: target if field == "targetRef" else [target]}
    items = [pod("x", labels={"app": "x"}), pod("y", labels={"app": "y"}), policy(refers)]
    model = model_of(*items)
    assert [*workload(model, "x").authorization_policies] == [], "there is no such Service yet"
    model = model_of(service("x"), base=model)
    assert [*workload(model, "x").authorization_policies] == ["default/p"]
    assert [*workload(model, "y").authorization_policies] == []
    model, _ = apply(model, [(Key("Service", "default", "x"), None)])
    assert [*workload(model, "x").authorization_policies] == []


def test_a_policy_of_a_service_is_named_by_the_pods_that_its_slices_name() -> None:
    refers = {"targetRefs": [{"group": "", "kind": "Service", "name": "db"}]}
    named = [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "a"}}]
    endpoints = endpoint_slice("db-1", "db", named, [{"port": 80}])
    model = model_of(policy(refers), service("db", selector={}), pod("a"), endpoints)
    assert list(workload(model, "a").authorization_policies) == ["default/p"]
    gone, _ = apply(model, [(Key("EndpointSlice", "default", "db-1"), None)])
    assert not workload(gone, "a").authorization_policies


def test_ports_of_a_services_policy_are_not_those_that_l4_sees() -> None:
    spec = {
        "targetRefs": [{"kind": "Service", "name": "x"}],
        "rules": [{"to": [{"operation": {"ports": ["80"]}}]}],
    }
    message, problem = translated(spec)
    assert [*map(never, message.rules)] == [True]
    assert problem.startswith("rules[0]: ports (the Service's, of a policy with targetRefs) cannot be judged")


def test_a_gateway_is_passed_over_and_told() -> None:
    gateway = {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "g"}
    message, problem = translated({"targetRefs": [gateway]})
    assert message.scope == Scope.WORKLOAD_SELECTOR, "nobody names it"
    assert problem == "targetRefs: Gateway g is ignored: no gateway of Warren's and no waypoint has this name"


@pytest.mark.parametrize(
    "rule",
    [
        {"from": [{"source": {"principals": ["a/ns/b/sa/c", "spiffe://a/ns/b/sa/d"]}}]},
        {"from": [{"source": {"notPrincipals": ["spiffe://a/ns/b/*"]}}]},
        {"when": [{"key": "source.principal", "values": ["spiffe://a/ns/b/sa/c"]}]},
        {"when": [{"key": "source.principal", "notValues": ["spiffe://a/ns/b/sa/c"]}]},
    ],
)
def test_a_principal_is_no_uri(rule: Any) -> None:
    [problem] = model_of(policy({"rules": [rule]})).problems.values()
    assert problem == "rules[0]: no principal begins with spiffe://, write DOMAIN/ns/NAMESPACE/sa/ACCOUNT"


def test_the_same_policy_has_the_same_bytes() -> None:
    first, second = (model_of(policy({"rules": [{}]})).resources for _ in range(2))
    assert first == second
    assert msgspec.structs.astuple(first[Key("AuthorizationPolicy", "default", "p")][0])[1] == "default/p"
