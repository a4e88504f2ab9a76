"""Sidecar: what may leave the mesh, and what of it is not enforced."""

from typing import Any

import pytest

from agent.model.kinds import KINDS
from agent.model.mesh import ROOT_NAMESPACE, Mesh
from agent.model.model import Model, apply
from agent.model.resources import TRAFFIC, Delta
from agent.model.schema.istio.sidecar import OutboundTrafficPolicy
from agent.model.schema.objects import Key, Object, key_of
from agent.sources import documents
from agent.sources.documents import Refused
from protocols import mesh_pb2
from tests.agent.model.objects import changes, make, model_of, pod, resources, workload

ONLY = Mesh(outbound_traffic_policy="REGISTRY_ONLY")


def sidecar(
    namespace: str, mode: OutboundTrafficPolicy | None, name: str = "default", **fields: Any
) -> Object:
    """A Sidecar that says this mode, or none."""
    spec = fields.pop("spec", {})
    outbound = {"outboundTrafficPolicy": {"mode": mode}} if mode else {"egress": [{"hosts": ["./*"]}]}
    spec = {**outbound, **spec}
    return make("Sidecar", name, namespace, spec=spec, **fields)


def told(model: Model) -> dict[str, str]:
    """The modes that tunnels hear of, by namespace."""
    found = {}
    for resource in resources(model, TRAFFIC):
        message = mesh_pb2.Traffic.FromString(resource.body)
        assert resource.name == message.namespace
        found[message.namespace] = mesh_pb2.OutboundTrafficPolicy.Name(message.outbound_traffic_policy)
    return found


# The setting, the modes of the root namespace's Sidecar and of a namespace's, and what is told.
ANY_, ONLY_ = "ALLOW_ANY", "REGISTRY_ONLY"
CASES: list[tuple[Any, Any, Any, dict[str, str]]] = [
    (ANY_, None, None, {}),
    (ONLY_, None, None, {"": ONLY_}),
    (ANY_, ONLY_, None, {"": ONLY_}),
    (ONLY_, ANY_, None, {}),
    (ANY_, ANY_, ONLY_, {"shop": ONLY_}),
    (ANY_, None, ANY_, {"shop": ANY_}),
    (ANY_, ONLY_, ANY_, {"": ONLY_, "shop": ANY_}),
    (ONLY_, None, ANY_, {"": ONLY_, "shop": ANY_}),
]


@pytest.mark.parametrize(("setting", "root", "namespace", "expected"), CASES)
def test_the_nearest_mode_holds(
    setting: OutboundTrafficPolicy,
    root: OutboundTrafficPolicy | None,
    namespace: OutboundTrafficPolicy | None,
    expected: dict[str, str],
) -> None:
    items = [sidecar(ROOT_NAMESPACE, root)] if root else []
    items += [sidecar("shop", namespace)] if namespace else []
    base = Model(Mesh(outbound_traffic_policy=setting))
    assert told(model_of(*items, base=base)) == told(model_of(*reversed(items), base=base)) == expected
    silent = [sidecar("other", None)]
    assert told(model_of(*items, *silent, base=base)) == {**expected, "other": setting}, "not the root's"
    model = model_of(*items, base=base)
    model, _ = apply(model, [(key_of(item), None) for item in items])
    assert model == apply(base, [])[0], "they leave nothing behind"


def test_the_setting_is_told_without_any_object() -> None:
    model, delta = apply(Model(ONLY), [])
    assert told(model) == {"": "REGISTRY_ONLY"}
    assert [one.name for one in delta.changed] == [""]
    assert apply(model, [])[1] == Delta()


def test_what_is_not_written_is_the_protocols_default() -> None:
    item = sidecar("shop", None, spec={"outboundTrafficPolicy": {}})
    assert told(model_of(item)) == {"shop": "REGISTRY_ONLY"}


def test_of_several_the_oldest_counts_and_the_others_are_told() -> None:
    older = sidecar("shop", "REGISTRY_ONLY", "z", creationTimestamp="2025-01-01T00:00:00Z")
    newer = sidecar("shop", "ALLOW_ANY", "a", creationTimestamp="2026-01-01T00:00:00Z")
    elsewhere = sidecar("other", "ALLOW_ANY", "a")
    same = sidecar("other", "REGISTRY_ONLY", "b")
    model = model_of(newer, older, same, elsewhere)
    assert told(model) == {"shop": "REGISTRY_ONLY", "other": "ALLOW_ANY"}
    why = "takes precedence (oldest wins, ties by name)"
    assert dict(model.problems) == {
        key_of(newer): f"ignored: Sidecar shop/z {why}",
        key_of(same): f"ignored: Sidecar other/a {why}",
    }
    model, _ = apply(model, [(Key("Sidecar", "shop", "z"), None)])
    assert told(model)["shop"] == "ALLOW_ANY"
    assert key_of(newer) not in model.problems


def test_a_change_touches_what_it_says_alone() -> None:
    model = model_of(pod("x", namespace="shop"), sidecar("shop", "ALLOW_ANY"))
    _, delta = apply(model, changes(sidecar("shop", "REGISTRY_ONLY")))
    assert [one.id for one in delta.changed] == [(TRAFFIC, "shop")]
    _, delta = apply(model, changes(sidecar(ROOT_NAMESPACE, "REGISTRY_ONLY")))
    assert [one.id for one in delta.changed] == [(TRAFFIC, "")]


def test_what_is_not_enforced_is_named() -> None:
    spec = {
        "egress": [{"hosts": ["./*"]}],
        "ingress": [{"port": {"number": 80, "protocol": "HTTP", "name": "a"}}],
        "inboundConnectionPool": {"tcp": {"maxConnections": 1}},
        "outboundTrafficPolicy": {
            "mode": "ALLOW_ANY",
            "egressProxy": {"host": "gateway", "port": {"number": 80}},
        },
    }
    item = sidecar("shop", None, spec=spec)
    problems = model_of(item).problems[key_of(item)].split("; ")
    assert [problem.split(" ")[0] for problem in problems] == [
        "ingress",
        "egress",
        "inboundConnectionPool",
        "outboundTrafficPolicy.egressProxy",
    ]
    assert all("is not enforced" in problem for problem in problems)


def selecting(
    mode: OutboundTrafficPolicy | None, name: str = "some", app: str = "x", **fields: Any
) -> Object:
    return sidecar("default", mode, name, spec={"workloadSelector": {"labels": {"app": app}}}, **fields)


PODS = [pod(name, f"10.0.0.{n}", labels={"app": name}) for n, name in enumerate("xy", 1)]


def told_with(model: Model) -> dict[str, str]:
    """The modes that tunnels hear of with a pod, by its name."""
    policies = mesh_pb2.OutboundTrafficPolicy
    return {name: policies.Name(workload(model, name).outbound_traffic_policy) for name in ("x", "y")}


def test_a_sidecar_of_some_workloads_is_told_with_them() -> None:
    base = model_of(*PODS, sidecar("default", "ALLOW_ANY"))
    model = model_of(selecting("REGISTRY_ONLY"), base=base)
    assert told_with(model) == {"x": "REGISTRY_ONLY", "y": "UNSPECIFIED"}
    assert told(model) == {"default": "ALLOW_ANY"} and not model.problems
    _, delta = apply(base, changes(selecting("REGISTRY_ONLY")))
    assert len(delta.changed) == 1, "nobody else hears of it"
    assert told_with(model_of(selecting("REGISTRY_ONLY", app="y"), base=model))["x"] == "UNSPECIFIED"
    assert apply(model, [(Key("Sidecar", "default", "some"), None)])[0] == base


def test_a_sidecar_selects_by_all_of_its_labels() -> None:
    labels = {"app": "x", "version": "v2"}
    of_v2 = sidecar("default", "REGISTRY_ONLY", spec={"workloadSelector": {"labels": labels}})
    versions = [
        pod(name, f"10.0.0.{n}", labels={**labels, "version": v})
        for n, name, v in ((1, "x", "v1"), (2, "y", "v2"))
    ]
    assert told_with(model_of(*versions, of_v2)) == {"x": "UNSPECIFIED", "y": "REGISTRY_ONLY"}


def test_of_several_that_select_a_workload_the_oldest_counts() -> None:
    older = selecting("REGISTRY_ONLY", "z", creationTimestamp="2025-01-01T00:00:00Z")
    newer = selecting("ALLOW_ANY", "a", creationTimestamp="2026-01-01T00:00:00Z")
    assert told_with(model_of(*PODS, newer, older))["x"] == "REGISTRY_ONLY"


def test_a_sidecar_of_some_workloads_without_a_policy_leaves_it_to_the_setting() -> None:
    model = model_of(*PODS, sidecar("default", "ALLOW_ANY"), selecting(None), base=Model(ONLY))
    assert told_with(model) == {"x": "REGISTRY_ONLY", "y": "UNSPECIFIED"}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"outboundTrafficPolicy": {"mode": "registry_only"}},
            "spec.outboundTrafficPolicy.mode: Invalid enum value 'registry_only'",
        ),
        (
            {"outboundTrafficPolicy": {"made": "ALLOW_ANY"}},
            "spec.outboundTrafficPolicy: unknown field made",
        ),
        ({"outboundTraffic": {}}, "spec: unknown field outboundTraffic"),
        ({"workloadSelector": {"labels": {"a": 1}}}, "spec.workloadSelector.labels"),
        ({}, "spec: nothing is asked for; write outboundTrafficPolicy"),
    ],
)
def test_what_is_refused_is_named_by_its_field(spec: dict[str, Any], reason: str) -> None:
    kind = KINDS["Sidecar"]
    assert kind.struct
    body = {"metadata": {"name": "default"}, "spec": spec}
    with pytest.raises(Refused) as refused:
        documents.convert(body, kind.struct, Key(kind.name, "shop", "default"))
    assert str(refused.value).startswith(reason)
