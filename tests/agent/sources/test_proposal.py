"""What policies in files would change: found out on a copy, told as pushes for one node."""

from typing import Any

import pytest

from agent.model.model import Model
from agent.model.resources import ADDRESS, AUTHORIZATION
from agent.model.schema.objects import Key, Object
from agent.sources.proposal import propose
from protocols.discovery_pb2 import DeltaDiscoveryResponse
from protocols.proposal import File, Proposal, Remark
from protocols.security_pb2 import Action, Authorization
from protocols.workload_pb2 import Address
from tests.agent.model.objects import make, model_of, pod

HEAD = "apiVersion: security.istio.io/v1\nkind: "
STRICT = f"{HEAD}PeerAuthentication\nmetadata: {{name: strict}}\nspec: {{mtls: {{mode: STRICT}}}}\n"
ALLOW = f"{HEAD}AuthorizationPolicy\nmetadata: {{name: allow}}\n"
STATIC = "istio-system/istio_converted_static_strict"


def proposed(*texts: str, model: Model | None = None, now: str = "") -> Proposal:
    files = [File(f"{number}.yaml", text) for number, text in enumerate(texts)]
    return propose(model or model_of(pod("a")), "n1", files, now)


def pushes(proposal: Proposal) -> list[DeltaDiscoveryResponse]:
    return [*map(DeltaDiscoveryResponse.FromString, proposal.pushes)]


def names(proposal: Proposal) -> dict[str, list[str]]:
    """Of the resources that are pushed, by their type."""
    return {push.type_url: [one.name for one in push.resources] for push in pushes(proposal)}


def peer_authentication(name: str, mode: str, since: str) -> Object:
    return make("PeerAuthentication", name, spec={"mtls": {"mode": mode}}, creationTimestamp=since)


def test_of_workloads_only_the_nodes_own_are_told() -> None:
    elsewhere = pod("b", "10.0.0.2", {"nodeName": "n2"})
    proposal = proposed(STRICT, model=model_of(pod("a"), elsewhere))
    assert names(proposal) == {AUTHORIZATION: [STATIC], ADDRESS: ["Kubernetes//Pod/default/a"]}
    policies, addresses = pushes(proposal)
    assert [one.resource.type_url for one in policies.resources] == [AUTHORIZATION], "before who names them"
    workload = Address.FromString(addresses.resources[0].resource.value).workload
    assert workload.authorization_policies == [STATIC]


def test_what_is_no_longer_there_is_told() -> None:
    own = make(
        "PeerAuthentication",
        "own",
        spec={"selector": {"matchLabels": {"app": "a"}}, "portLevelMtls": {"80": {"mode": "STRICT"}}},
    )
    text = STRICT.replace("name: strict", "name: own").replace("STRICT", "PERMISSIVE")
    policies, _ = pushes(proposed(text, model=model_of(pod("a", labels={"app": "a"}), own)))
    assert policies.removed_resources == ["default/converted_peer_authentication_own"]


def test_the_model_stays_as_it_is() -> None:
    model = model_of(pod("a"))
    before = model.version
    proposed(ALLOW, STRICT, model=model)
    assert model.version == before
    assert Key("PeerAuthentication", "default", "strict") not in model.store.objects


def test_what_is_in_force_already_changes_nothing() -> None:
    proposal = proposed(ALLOW, model=model_of(pod("a"), make("AuthorizationPolicy", "allow")))
    assert names(proposal) == {AUTHORIZATION: [], ADDRESS: []}


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (
            f"{ALLOW}---\n{ALLOW.replace('allow', 'bad')}spec:\n  action: DENI\n",
            Remark(
                "0.yaml:9",
                "AuthorizationPolicy default/bad",
                "spec.action: Invalid enum value 'DENI' (found 'DENI')",
            ),
        ),
        (
            f"{ALLOW}spec: {{rulez: []}}",
            Remark(
                "0.yaml:4",
                "AuthorizationPolicy default/allow",
                "spec: unknown field rulez; correct it, or remove it",
            ),
        ),
        ("a: [", Remark("0.yaml:2", "document", "not YAML: did not find expected node content")),
    ],
)
def test_what_is_invalid_is_named(text: str, remark: Remark) -> None:
    assert proposed(text).invalid == [remark]


def test_an_object_in_two_files_is_named() -> None:
    proposal = proposed(ALLOW, f"{ALLOW}spec: {{action: AUDIT}}")
    text = "also in 0.yaml, which takes precedence: remove one of them"
    assert proposal.invalid == [Remark("1.yaml", "AuthorizationPolicy default/allow", text)]
    assert names(proposal)[AUTHORIZATION] == ["default/allow"]


def test_what_does_not_work_of_a_policy_is_told() -> None:
    proposal = proposed(f"{ALLOW}spec: {{rules: [{{when: [{{key: connection.sni, values: [a]}}]}}]}}")
    text = "rules[0]: connection.sni cannot be judged, so that the rule allows nothing"
    assert proposal.problems == [Remark("0.yaml", "AuthorizationPolicy default/allow", text)]


def test_what_is_no_policy_is_left_out() -> None:
    others = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\napiVersion: apps/v1\nkind: Deployment\n"
    )
    proposal = proposed(f"{others}---\n{STRICT}")
    assert [one.object for one in proposal.left_out] == ["Deployment (apps)", "Service default/a"]
    assert names(proposal)[AUTHORIZATION] == [STATIC]


@pytest.mark.parametrize(
    ("since", "counts"), [("2026-01-01T00:00:00Z", False), ("2026-03-01T00:00:00Z", True)]
)
def test_a_new_object_is_as_old_as_its_source_would_have_it(since: str, counts: bool) -> None:
    """Of several PeerAuthentications of a namespace the oldest counts."""
    known = peer_authentication("other", "PERMISSIVE", since)
    proposal = proposed(STRICT, model=model_of(pod("a"), known), now="2026-02-01T00:00:00Z")
    assert bool(names(proposal)[ADDRESS]) == counts


def test_an_object_in_the_place_of_another_is_as_old_as_that_one() -> None:
    known: Any = (
        peer_authentication("strict", "PERMISSIVE", "2026-01-01T00:00:00Z"),
        peer_authentication("other", "PERMISSIVE", "2026-01-02T00:00:00Z"),
    )
    proposal = proposed(STRICT, model=model_of(pod("a"), *known), now="2026-02-01T00:00:00Z")
    assert names(proposal)[ADDRESS] == ["Kubernetes//Pod/default/a"]


def test_what_is_refused_is_put_in_as_it_would_be_in_force() -> None:
    bad = f"{ALLOW}spec: {{action: DENI}}"
    proposal = proposed(bad)
    [push, _] = pushes(proposal)
    assert Authorization.FromString(push.resources[0].resource.value).action == Action.DENY
    text = "refused (spec.action: Invalid enum value 'DENI' (found 'DENI')): nobody is let in"
    assert proposal.problems == [Remark("0.yaml", "AuthorizationPolicy default/allow", text)]
    proposal = proposed(bad, model=model_of(pod("a"), make("AuthorizationPolicy", "allow")))
    [push, _] = pushes(proposal)
    message = Authorization.FromString(push.resources[0].resource.value)
    assert message.action == Action.ALLOW
    assert message.refused.endswith(": a good version stays in force")
