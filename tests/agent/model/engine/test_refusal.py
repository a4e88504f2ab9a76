"""A refused policy in its strictest reading: what of it is understood, and for whom it is."""

from typing import Any

import pytest

from agent.model.engine.refusal import last_good, said, standing, strictest
from agent.model.kinds import KINDS
from agent.model.model import apply
from agent.model.resources import TRAFFIC
from agent.model.schema.istio.policy import Policy
from agent.model.schema.objects import Key, Object, key_of
from agent.model.translation.authorization import NEVER
from agent.sources import documents
from agent.sources.documents import Refused
from protocols import mesh_pb2
from protocols.security_pb2 import Action, Authorization, Match, Rule, Scope, StringMatch
from tests.agent.model.objects import (
    addresses,
    changes,
    make,
    model_of,
    pod,
    policies,
    resources,
    service,
    workload,
)

Spec = dict[str, Any]
STATIC = "istio-system/istio_converted_static_strict"
BAD = {"when": [{"key": "source.tomorrow", "values": ["x"]}]}
GOOD = {"from": [{"source": {"namespaces": ["a"]}}]}
OF_A = Match(namespaces=[StringMatch(exact="a")])
EVERYBODY = Rule()
OF_X = {"selector": {"matchLabels": {"app": "x"}}}


def refused(kind: str, name: str = "p", namespace: str = "default", **body: Any) -> Policy:
    """The strictest reading of a manifest, which has to be one that is refused."""
    key, type_ = Key(kind, namespace, name), KINDS[kind].struct
    assert type_
    raw = {"metadata": {"name": name, "namespace": namespace}, **body}
    with pytest.raises(Refused) as refusal:
        documents.convert(raw, type_, key)
    policy = strictest(KINDS[kind], key, raw, str(refusal.value))
    assert isinstance(policy, Policy) and key_of(policy) == key
    return policy


def authorization(spec: Any, namespace: str = "default", **body: Any) -> Policy:
    return refused("AuthorizationPolicy", namespace=namespace, spec=spec, **body)


def message(policy: Policy) -> Authorization:
    [one] = policies(model_of(policy)).values()
    return one


def rules(one: Authorization) -> list[Any]:
    """Each rule as its clauses, and these as their matches."""
    return [[[*clause.matches] for clause in rule.clauses] for rule in one.rules]


@pytest.mark.parametrize(
    ("rule", "clauses"),
    [
        (BAD, []),
        ("all", []),
        ({"frm": GOOD["from"]}, []),
        ({**GOOD, **BAD}, [[OF_A]]),
        ({**GOOD, "too": []}, [[OF_A]]),
        ({**GOOD, "to": [{"operation": {"ports": ["http"]}}]}, [[OF_A]]),
        ({**GOOD, "to": {"operation": {"ports": ["80"]}}}, [[OF_A]]),
        ({**GOOD, "when": "always"}, [[OF_A]]),
        ({"from": [*GOOD["from"], {"source": {"ipBlocks": ["10.0.0.0/33"]}}]}, []),
        ({"from": [*GOOD["from"], {"sauce": {}}]}, []),
        ({"from": [*GOOD["from"], "a"]}, []),
        ({"from": [{"source": {"namespaces": ["a"], "ipBlocks": ["10.0.0.0/33"]}}]}, [[OF_A]]),
        ({"from": [{"source": {"namespaces": ["a"], "realms": ["b"]}}]}, [[OF_A]]),
        ({"from": [{"source": {"namespaces": ["a", 7]}}]}, []),
        ({"from": [{"source": {"namespaces": ["a"], "serviceAccounts": ["b"]}}]}, []),
        ({"from": [{"source": {"namespaces": ["a"]}, "x": 1}]}, [[OF_A]]),
        (
            {"when": [{"key": "source.namespace", "values": ["a"], "notValues": [5]}, *BAD["when"]]},
            [[OF_A]],
        ),
        ({"when": [{"key": "source.ip", "values": ["10.0.0.0/33"]}]}, []),
        ({"when": [{"kee": "source.namespace", "values": ["a"]}]}, []),
    ],
)
def test_of_deny_what_is_not_understood_fits_and_of_allow_nothing_does(rule: Any, clauses: Any) -> None:
    """A good rule beside it stays as it is, and each keeps its place."""
    deny = message(authorization({"action": "DENY", "rules": [GOOD, rule]}))
    assert (deny.action, rules(deny)) == (Action.DENY, [[[OF_A]], clauses])
    custom = message(authorization({"action": "CUSTOM", "provider": {"name": "x"}, "rules": [GOOD, rule]}))
    assert (custom.action, rules(custom)) == (Action.DENY, rules(deny))
    audit = message(authorization({"action": "AUDIT", "rules": [GOOD, rule]}))
    assert (audit.action, rules(audit)) == (Action.AUDIT, rules(deny))
    for action in ({}, {"action": "ALLOW"}):
        allow = message(authorization({**action, "rules": [rule, GOOD]}))
        assert (allow.action, rules(allow)[1]) == (Action.ALLOW, [[OF_A]])
        assert allow.rules[0] == NEVER


@pytest.mark.parametrize(
    ("body", "action", "rule"),
    [
        ({"spec": {"action": "Deny", "rules": [GOOD]}}, Action.DENY, EVERYBODY),
        ({"spec": {"action": 5, "rules": [GOOD]}}, Action.DENY, EVERYBODY),
        ({"spec": {"actoin": "DENY", "rules": [GOOD]}}, Action.DENY, EVERYBODY),
        ({"spec": {"rulez": [GOOD]}}, Action.DENY, EVERYBODY),
        ({"spec": {"action": "DENY", "rulez": [GOOD]}}, Action.DENY, EVERYBODY),
        ({"spec": {"action": "DENY", "rules": [GOOD], "unless": []}}, Action.DENY, EVERYBODY),
        ({"spec": {"action": "DENY", "rules": GOOD}}, Action.DENY, EVERYBODY),
        ({"spec": {"action": "DENY"}}, Action.DENY, EVERYBODY),
        ({"spec": {"action": "ALLOW", "rules": [GOOD], "unless": []}}, Action.ALLOW, NEVER),
        ({"spec": {"action": "ALLOW", "rules": "none"}}, Action.ALLOW, NEVER),
        ({"spec": {"rules": "none"}}, Action.ALLOW, NEVER),
        ({"spec": {"action": "AUDIT", "rulez": []}}, Action.AUDIT, EVERYBODY),
        ({"spec": []}, Action.DENY, EVERYBODY),
        ({"spce": {"action": "DENY"}}, Action.DENY, EVERYBODY),
        ({"spec": {"rules": [GOOD]}, "action": "DENY"}, Action.DENY, EVERYBODY),
    ],
)
def test_what_may_be_anything_denies_everybody(body: Spec, action: Action, rule: Rule) -> None:
    one = message(refused("AuthorizationPolicy", **body))
    assert (one.action, [*one.rules]) == (action, [rule])


@pytest.mark.parametrize(
    "misspelt",
    [
        {"apiVersion": "security.istio.io/v7"},
        {"apiVersion": "v1"},
        {"apiVersion": 1},
        {"kind": "AuthorisationPolicy"},
    ],
)
@pytest.mark.parametrize(
    ("act", "action", "rule"), [("DENY", Action.DENY, EVERYBODY), ("ALLOW", Action.ALLOW, NEVER)]
)
def test_in_a_version_that_is_not_known_it_may_say_anything(
    misspelt: Spec, act: str, action: Action, rule: Rule
) -> None:
    raw = {**misspelt, "metadata": {"name": "p"}, "spec": {"action": act, "rules": [GOOD], **OF_X}}
    policy = strictest(KINDS["AuthorizationPolicy"], Key("AuthorizationPolicy", "default", "p"), raw, "x")
    assert isinstance(policy, Policy) and policy.selector == {"app": "x"}
    one = message(policy)
    assert (one.action, [*one.rules]) == (action, [rule])


def test_what_cannot_be_read_at_all_denies_everybody() -> None:
    policy = strictest(KINDS["AuthorizationPolicy"], Key("AuthorizationPolicy", "default", "p"), None, "x")
    assert isinstance(policy, Policy)
    one = message(policy)
    assert (one.scope, one.action, [*one.rules]) == (Scope.NAMESPACE, Action.DENY, [EVERYBODY])


@pytest.mark.parametrize(
    "whom",
    [
        {"selector": {"matchLabels": {"app": 1}}},
        {"selector": {"matchlabels": {"app": "x"}}},
        {"selector": "x"},
        {"selektor": {"matchLabels": {"app": "x"}}},
        {"targetRefs": [{"kind": "Service", "name": "x"}, {"kind": "Pod", "name": "x"}]},
        {"targetRef": {"kind": "Service"}},
        {**OF_X, "targetRefs": [{"kind": "Service", "name": "x"}]},
    ],
)
def test_a_selector_that_is_not_understood_selects_all(whom: Spec) -> None:
    spec = {"action": "DENY", "rules": [GOOD], **whom}
    assert message(authorization(spec)).scope == Scope.NAMESPACE
    assert message(authorization(spec, "istio-system")).scope == Scope.GLOBAL
    allow = message(authorization({"action": "ALLOW", "rules": [{}], **whom}))
    assert (allow.scope, [*allow.rules]) == (Scope.NAMESPACE, [NEVER]), "it was to allow at some alone"


def test_a_selector_that_is_understood_selects() -> None:
    policy = authorization({"rules": [BAD], **OF_X})
    model = model_of(pod("x", labels={"app": "x"}), pod("y", "10.0.0.2"), policy)
    assert [*workload(model, "x").authorization_policies] == ["default/p"]
    assert [*workload(model, "y").authorization_policies] == []
    target = {"targetRefs": [{"kind": "Service", "name": "x"}]}
    model = model_of(pod("x", labels={"app": "x"}), service("x"), authorization({"rules": [BAD], **target}))
    assert [*workload(model, "x").authorization_policies] == ["default/p"]


@pytest.mark.parametrize(
    ("annotations", "dry_run"),
    [
        ({"istio.io/dry-run": "true"}, True),
        ({"istio.io/dry-run": "maybe"}, False),
        ({"istio.io/dry-run": "true", "other": 5}, True),
        ({"istio.io/dry-run": 7}, False),
        ("istio.io/dry-run", False),
    ],
)
def test_a_dry_run_that_is_not_understood_is_none(annotations: Any, dry_run: bool) -> None:
    metadata = {"name": "p", "annotations": annotations}
    one = message(authorization({"action": "DENY", "rules": [{**GOOD, **BAD}]}, metadata=metadata))
    assert (one.dry_run, rules(one)) == (dry_run, [[[OF_A]]])
    allow = message(authorization({"rules": [GOOD, BAD]}, metadata=metadata))
    assert ([*allow.rules] == [NEVER]) == (not dry_run), "beside others it must not allow more than they do"


@pytest.mark.parametrize(
    ("spec", "means"),
    [
        ({"rules": [GOOD, BAD]}, "nobody is let in beyond what is understood"),
        ({"action": "DENY", "rules": [{**GOOD, **BAD}]}, "whoever might match is denied"),
        ({"action": "DENY", "rules": [GOOD, BAD]}, "nobody is let in"),
        ({"action": "NONE"}, "nobody is let in"),
        ({"action": "AUDIT", "rules": [BAD]}, "it enforces nothing"),
    ],
)
def test_it_says_what_it_does(spec: Spec, means: str) -> None:
    policy = authorization(spec)
    assert policy.in_force == means
    assert message(policy).refused == said(policy)
    assert said(policy).startswith("refused (spec.") and said(policy).endswith(f"): {means}")


def test_a_long_reason_is_cut() -> None:
    policy = authorization({"x" * 10_000: 1})
    assert 200 < len(said(policy)) < 300


STRICT_ = {"mtls": {"mode": "STRICT"}}
MODES: list[Spec] = [
    {"mtls": {"mode": "strict"}},
    {"mtls": {"mode": "PERMISSIVE"}, "x": 1},
    {**STRICT_, "portLevelMtls": {"http": {"mode": "STRICT"}, "80": {"mode": "DISABLE"}}, **OF_X},
    {"mtls": "STRICT"},
]


def authentication(spec: Any, name: str = "p", namespace: str = "default", **body: Any) -> Policy:
    return refused("PeerAuthentication", name, namespace, spec=spec, **body)


@pytest.mark.parametrize("spec", MODES)
def test_of_peer_authentication_all_is_strict(spec: Spec) -> None:
    policy = authentication(spec)
    model = model_of(pod("x", labels={"app": "x"}), pod("y", "10.0.0.2"), policy)
    own = "default/converted_peer_authentication_p"
    assert [*workload(model, "x").authorization_policies] == [own]
    assert [*workload(model, "y").authorization_policies] == ([] if "selector" in spec else [own])
    assert rules(policies(model)[own]) == [[[Match(not_principals=[StringMatch(presence={})])]]]
    assert policies(model)[own].refused == said(policy)
    assert said(policy).endswith("): plain text is refused")


@pytest.mark.parametrize(
    "spec",
    [
        {**STRICT_, "selector": {"matchLabels": {"app": 1}}},
        {**STRICT_, "selektor": {"matchLabels": {"app": "x"}}},
        {**STRICT_, "selector": {}, "portLevelMtls": {"80": {"mode": "DISABLE"}}},
        [],
    ],
)
def test_a_selector_that_is_not_understood_may_select_any_workload(spec: Any) -> None:
    """So that it counts before what others say of the namespace, or of some workloads."""
    old = "2020-01-01T00:00:00Z"
    permissive = {"mtls": {"mode": "PERMISSIVE"}}
    others = [
        make("PeerAuthentication", "a", spec=permissive, creationTimestamp=old),
        make("PeerAuthentication", "b", spec={**permissive, **OF_X}, creationTimestamp=old),
    ]
    model = model_of(pod("x", labels={"app": "x"}), pod("y", "10.0.0.2"), *others, authentication(spec))
    for name in ("x", "y"):
        named = [*workload(model, name).authorization_policies]
        assert named == ["default/converted_peer_authentication_p"]


def test_for_a_namespace_it_counts_before_others_of_its_level_and_not_before_nearer_ones() -> None:
    permissive = {"mtls": {"mode": "PERMISSIVE"}}
    old = make("PeerAuthentication", "a", spec=permissive, creationTimestamp="2020-01-01T00:00:00Z")
    nearer = make("PeerAuthentication", "b", spec={**permissive, **OF_X})
    model = model_of(
        pod("x", labels={"app": "x"}), pod("y", "10.0.0.2"), old, nearer, authentication(MODES[0])
    )
    assert [*workload(model, "y").authorization_policies] == ["default/converted_peer_authentication_p"]
    assert [*workload(model, "x").authorization_policies] == []


def test_for_the_mesh() -> None:
    policy = authentication({**STRICT_, "selector": 1}, namespace="istio-system")
    own = "istio-system/converted_peer_authentication_p"
    model = model_of(pod("x"), policy)
    assert [*workload(model, "x").authorization_policies] == [own]
    assert own in policies(model)
    namespaces = make("PeerAuthentication", "a", spec={"mtls": {"mode": "PERMISSIVE"}})
    assert [*workload(model_of(namespaces, base=model), "x").authorization_policies] == []


@pytest.mark.parametrize(
    "spec",
    [
        {"outboundTrafficPolicy": {"mode": "REGISTRY"}},
        {"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}, "workloadSelector": 1},
        {"outboundTraficPolicy": {"mode": "REGISTRY_ONLY"}},
        [],
    ],
)
def test_of_a_sidecar_registry_only_is_in_force(spec: Any) -> None:
    older = make(
        "Sidecar",
        "a",
        spec={"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}},
        creationTimestamp="2020-01-01T00:00:00Z",
    )
    policy = refused("Sidecar", spec=spec)
    [told] = resources(model_of(older, policy), TRAFFIC)
    assert mesh_pb2.Traffic.FromString(told.body).outbound_traffic_policy == mesh_pb2.REGISTRY_ONLY
    assert said(policy).endswith("): REGISTRY_ONLY is in force")


def test_a_sidecar_for_some_workloads_counts_for_none_refused_or_not() -> None:
    spec = {"workloadSelector": {"labels": {"app": "x"}}, "outboundTrafficPolicy": {"mode": "REGISTRY"}}
    assert not resources(model_of(refused("Sidecar", spec=spec)), TRAFFIC)


def test_the_last_good_version_stays_as_it_is_and_says_why() -> None:
    good = make("AuthorizationPolicy", "p", spec={"rules": [GOOD]})
    kept = last_good(good, "spec: x")
    assert isinstance(kept, Policy)
    one = message(kept)
    assert one.refused == "refused (spec: x): a good version stays in force"
    one.refused = ""
    assert one == policies(model_of(good))["default/p"]
    assert last_good(kept, "spec: y") == last_good(good, "spec: y")
    assert last_good(authorization({"rules": [BAD]}), "spec: y") is None
    assert last_good(None, "spec: y") is None
    strict = last_good(make("PeerAuthentication", "p", spec=STRICT_), "spec: x")
    assert strict
    model = model_of(pod("x"), strict)
    [named] = workload(model, "x").authorization_policies
    assert policies(model)[named].refused == "refused (spec: x): a good version stays in force"
    permissive = last_good(make("PeerAuthentication", "p", spec={"mtls": {"mode": "PERMISSIVE"}}), "spec: x")
    assert permissive and [*policies(model_of(permissive))] == [STATIC]


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (authorization({"rules": [BAD], **OF_X}), make("AuthorizationPolicy", "p", spec={"rules": [GOOD]})),
        (
            authentication({**STRICT_, "selector": 1}),
            make("PeerAuthentication", "p", spec={**STRICT_, **OF_X}),
        ),
        (refused("Sidecar", spec=[]), make("Sidecar", "p", spec={"egress": [{"hosts": ["./*"]}]})),
    ],
)
def test_it_is_mended_and_deleted_as_any_other(bad: Policy, good: Object) -> None:
    base = model_of(pod("x", labels={"app": "x"}), pod("y", "10.0.0.2"))
    held = model_of(bad, base=base)
    assert [*held.store.find("refused")] == [key_of(bad)]
    mended, _ = apply(held, changes(good))
    assert mended == model_of(good, base=base)
    assert not [*mended.store.find("refused")]
    assert model_of(bad, base=mended) == held
    assert apply(held, [(key_of(bad), None)])[0] == base


@pytest.mark.parametrize("kind", sorted(name for name, kind in KINDS.items() if kind.strictest is None))
def test_other_kinds_close_nothing(kind: str) -> None:
    assert strictest(KINDS[kind], Key(kind, "default", "p"), {}, "x") is None


def test_nobody_can_write_that_an_object_is_refused() -> None:
    for value in ("x", {"reason": "x", "strictest": True}, ["x", True]):
        refused("AuthorizationPolicy", spec={}, refusal=value)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Service", {"selector": {"app": "x"}, "ports": [{"port": "many"}]}),
        ("ServiceEntry", {"workloadSelector": {"labels": {"app": "x"}}, "hosts": ["*"]}),
    ],
)
def test_a_policy_of_a_service_that_is_refused_holds(kind: str, spec: dict[str, Any]) -> None:
    """As an author would expect who sees nothing but a warning about the Service."""
    raw = {"metadata": {"name": "s", "namespace": "default"}, "spec": spec}
    key = Key(kind, "default", "s")
    hidden = strictest(KINDS[kind], key, raw, "a reason")
    assert hidden and key_of(hidden) == key
    group = "" if kind == "Service" else "networking.istio.io"
    target = {"kind": kind, "name": "s", "group": group}
    policy = make("AuthorizationPolicy", "p", spec={"action": "DENY", "rules": [{}], "targetRefs": [target]})
    model = model_of(policy, pod("x", labels={"app": "x"}), pod("y", labels={"app": "y"}), hidden)
    assert [*workload(model, "x").authorization_policies] == ["default/p"]
    assert not workload(model, "x").services and not workload(model, "y").authorization_policies
    assert [one for one in addresses(model).values() if one.HasField("service")] == []
    assert last_good(hidden, "another reason") is None
    assert "policies with targetRefs to it are in force" in standing(hidden)


def test_a_policy_of_a_service_that_nobody_sees_holds() -> None:
    hidden = service("s", metadata={"annotations": {"networking.istio.io/exportTo": "~"}})
    target = {"kind": "Service", "name": "s", "group": ""}
    policy = make("AuthorizationPolicy", "p", spec={"action": "DENY", "rules": [{}], "targetRefs": [target]})
    model = model_of(policy, pod("x", labels={"app": "s"}), hidden)
    assert [*workload(model, "x").authorization_policies] == ["default/p"]
