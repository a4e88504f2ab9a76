"""PeerAuthentication: which mode holds where, and how that is told."""

from typing import Any

import pytest

from agent.model.kinds import KINDS
from agent.model.model import apply
from agent.model.schema.objects import Key, Object
from agent.sources import documents
from agent.sources.documents import Refused
from protocols.security_pb2 import Action, Match, Scope, StringMatch
from tests.agent.model.objects import changes, make, model_of, pod, policies, workload

STATIC = "istio-system/istio_converted_static_strict"
OWN = "default/converted_peer_authentication_own"
PRESENT = StringMatch(presence={})
Modes = dict[str, str]


def authentication(name: str, namespace: str = "default", **spec: Any) -> Object:
    return make("PeerAuthentication", name, namespace, spec=spec, creationTimestamp="2026-01-01T00:00:00Z")


def of(mode: str | None) -> dict[str, Any]:
    return {"mtls": {"mode": mode}} if mode else {}


# Modes of the mesh, the namespace, the workload and its ports, and the policy that the workload names.
CASES: list[tuple[str | None, str | None, str | None, Modes, str | None]] = [
    (None, None, None, {}, None),
    ("STRICT", None, None, {}, STATIC),
    ("PERMISSIVE", None, None, {}, None),
    ("DISABLE", None, None, {}, None),
    ("UNSET", None, None, {}, None),
    (None, "STRICT", None, {}, STATIC),
    ("STRICT", "UNSET", None, {}, STATIC),
    ("STRICT", "PERMISSIVE", None, {}, None),
    ("STRICT", "DISABLE", None, {}, None),
    (None, None, "STRICT", {}, STATIC),
    ("STRICT", None, "UNSET", {}, STATIC),
    ("STRICT", "STRICT", "PERMISSIVE", {}, None),
    ("STRICT", "PERMISSIVE", "STRICT", {}, STATIC),
    ("STRICT", "PERMISSIVE", "UNSET", {}, None),
    (None, None, "STRICT", {"80": "STRICT"}, STATIC),
    (None, None, "STRICT", {"80": "UNSET"}, STATIC),
    (None, None, "STRICT", {"80": "PERMISSIVE"}, OWN),
    (None, None, "STRICT", {"80": "DISABLE"}, OWN),
    (None, None, "PERMISSIVE", {"80": "STRICT"}, OWN),
    (None, None, "PERMISSIVE", {"80": "PERMISSIVE"}, None),
    (None, None, "UNSET", {"80": "STRICT"}, OWN),
    ("STRICT", None, "UNSET", {"80": "DISABLE"}, OWN),
    ("STRICT", None, "UNSET", {"80": "STRICT"}, STATIC),
    ("STRICT", "PERMISSIVE", "UNSET", {"80": "STRICT"}, OWN),
]


@pytest.mark.parametrize(("mesh", "namespace", "own", "ports", "named"), CASES)
def test_the_nearest_mode_that_is_set_holds(
    mesh: str | None, namespace: str | None, own: str | None, ports: Modes, named: str | None
) -> None:
    items = [pod("x", labels={"app": "x"})]
    items += [authentication("mesh", "istio-system", **of(mesh))] if mesh else []
    items += [authentication("namespace", **of(namespace))] if namespace else []
    if own:
        levels: Any = (
            {"portLevelMtls": {port: {"mode": mode} for port, mode in ports.items()}} if ports else {}
        )
        items += [authentication("own", selector={"matchLabels": {"app": "x"}}, **of(own), **levels)]
    model = model_of(*items)
    assert [*workload(model, "x").authorization_policies] == ([named] if named else [])
    assert named is None or named in policies(model)
    for item in reversed(items):  # whatever came first
        model = model_of(item, base=model)
    assert [*workload(model, "x").authorization_policies] == ([named] if named else [])


def test_strict_refuses_who_has_no_identity() -> None:
    message = policies(model_of(authentication("mesh", "istio-system")))[STATIC]
    assert (message.scope, message.action) == (Scope.WORKLOAD_SELECTOR, Action.DENY)
    assert [[*clause.matches] for clause in message.rules[0].clauses] == [[Match(not_principals=[PRESENT])]]


@pytest.mark.parametrize(
    ("mode", "port", "field"), [("STRICT", "DISABLE", "not_"), ("PERMISSIVE", "STRICT", "")]
)
def test_ports_are_exceptions(mode: str, port: str, field: str) -> None:
    levels: Any = {"portLevelMtls": {"8080": {"mode": port}, "80": {"mode": port}, "81": {"mode": mode}}}
    model = model_of(authentication("own", selector={"matchLabels": {"app": "x"}}, **of(mode), **levels))
    [[match]] = [[*clause.matches] for clause in policies(model)[OWN].rules[0].clauses]
    assert [*match.not_principals] == [PRESENT]
    assert [*getattr(match, f"{field}destination_ports")] == [80, 8080]


def test_of_several_the_oldest_holds() -> None:
    older = make("PeerAuthentication", "z", spec=of("STRICT"), creationTimestamp="2025-01-01T00:00:00Z")
    model = model_of(pod("x"), authentication("a", **of("PERMISSIVE")), older)
    assert [*workload(model, "x").authorization_policies] == [STATIC]
    model, _ = apply(model, [(Key("PeerAuthentication", "default", "z"), None)])
    assert [*workload(model, "x").authorization_policies] == []


def test_a_selector_in_the_root_namespace_selects_nothing() -> None:
    item = authentication("own", "istio-system", selector={"matchLabels": {"app": "x"}}, **of("STRICT"))
    model = model_of(
        pod("x", labels={"app": "x"}), pod("r", labels={"app": "x"}, namespace="istio-system"), item
    )
    assert [*workload(model, "x").authorization_policies] == []
    problem = model.problems[Key("PeerAuthentication", "istio-system", "own")]
    assert problem == "selector: selects nothing in istio-system; move it to the workloads' namespace"


def test_the_policy_of_all_is_there_while_there_is_an_object() -> None:
    model = model_of(authentication("a"), authentication("b"))
    assert set(policies(model)) == {STATIC}
    model, _ = apply(model, [(Key("PeerAuthentication", "default", "a"), None)])
    assert set(policies(model)) == {STATIC}
    model, delta = apply(model, [(Key("PeerAuthentication", "default", "b"), None)])
    assert policies(model) == {}
    assert [name for _, name in delta.removed] == [STATIC]


def test_an_object_that_changes_touches_only_its_own_workloads() -> None:
    model = model_of(
        pod("x", labels={"app": "x"}), pod("y", "10.0.0.2"), pod("z", "10.0.0.3", namespace="other")
    )
    item = authentication("own", selector={"matchLabels": {"app": "x"}}, **of("STRICT"))
    model, delta = apply(model, changes(item))
    assert {one.name for one in delta.changed} == {STATIC, "Kubernetes//Pod/default/x"}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"mtls": {"mode": "strict"}}, "spec.mtls.mode: Invalid enum value 'strict'"),
        ({"mtls": {"made": "STRICT"}}, "spec.mtls: unknown field made; correct it, or remove it"),
        ({"portLevelMtls": {"80": {"mode": "STRICT"}}}, "spec.portLevelMtls: it needs a selector"),
        (
            {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"http": {"mode": "STRICT"}}},
            "spec.portLevelMtls.http: 'http' is no port number (1 to 65535)",
        ),
    ],
)
def test_what_is_refused_is_named_by_its_field(spec: dict[str, Any], reason: str) -> None:
    kind = KINDS["PeerAuthentication"]
    assert kind.struct
    with pytest.raises(Refused) as refused:
        documents.convert(
            {"metadata": {"name": "p"}, "spec": spec}, kind.struct, Key(kind.name, "default", "p")
        )
    assert str(refused.value).startswith(reason)
