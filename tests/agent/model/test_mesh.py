"""Which objects are for this mesh."""

from typing import Any

import pytest

from agent.model.engine.refusal import strictest
from agent.model.kinds import KINDS
from agent.model.mesh import Mesh
from agent.model.model import Model
from agent.model.schema.istio.authorization_policy import AuthorizationPolicy
from agent.model.schema.kubernetes import Namespace, Pod, Service
from agent.model.schema.objects import Key, Object
from tests.agent.model.objects import make, model_of, service_entry, workload_entry

STABLE = Mesh(revision="stable")


def labelled(kind: str, revision: str, **spec: Any) -> Object:
    return make(kind, "a", labels={"istio.io/rev": revision}, spec=spec)


@pytest.mark.parametrize(
    ("mesh", "revision", "ours"),
    [(Mesh(), "", True), (Mesh(), "default", True), (Mesh(), "stable", False), (STABLE, "stable", True),
     (STABLE, "default", False), (STABLE, "", True)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["AuthorizationPolicy", "PeerAuthentication", "Sidecar"])
def test_a_policy_may_be_for_another_revision(mesh: Mesh, revision: str, ours: bool, kind: str) -> None:
    spec: dict[str, Any] = {"outboundTrafficPolicy": {}} if kind == "Sidecar" else {}
    model = model_of(labelled(kind, revision, **spec), base=Model(mesh))
    assert (Key(kind, "default", "a") in model.store.objects) == ours


def test_kubernetes_own_objects_are_everybodys() -> None:
    labels = {"istio.io/rev": "stable"}
    items = [make("Pod", "a", labels=labels, spec={}), make("Service", "a", labels=labels, spec={}),
             make("Namespace", "a", "", labels=labels)]  # fmt: skip
    model = model_of(*items)
    assert {type(item) for item in model.store.objects.values()} == {Pod, Service, Namespace}


def test_a_refused_policy_of_another_revision_closes_nothing() -> None:
    raw = {"metadata": {"name": "a", "namespace": "default", "labels": {"istio.io/rev": "stable"}},
           "spec": {"rules": [{"tomorrow": 1}]}}  # fmt: skip
    key = Key("AuthorizationPolicy", "default", "a")
    refused = strictest(KINDS["AuthorizationPolicy"], key, raw, "unknown")
    assert isinstance(refused, AuthorizationPolicy)
    assert key not in model_of(refused).store.objects
    assert key in model_of(refused, base=Model(STABLE)).store.objects


def test_an_object_that_goes_over_to_another_revision_is_gone() -> None:
    entry, other = service_entry(), service_entry(metadata={"labels": {"istio.io/rev": "stable"}})
    model = model_of(other, base=model_of(entry, workload_entry("w", "192.0.2.1")))
    assert Key("ServiceEntry", "default", "api") not in model.store.objects
    assert not model.resources.get(Key("ServiceEntry", "default", "api"))
