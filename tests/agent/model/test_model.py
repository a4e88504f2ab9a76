"""`apply`: what it gives is what a full rebuild gives, and only what is different is told."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from agent.model.engine import members
from agent.model.engine.refusal import last_good
from agent.model.model import Change, Model, apply, enrolled_on
from agent.model.resources import Delta, Resource
from agent.model.schema.objects import Key, Object, key_of
from tests.agent.model.objects import changes, endpoint_slice, make, model_of, pod, service
from tests.agent.model.random_routes import random_route
from tests.policy import cases
from tests.policy.reference import Manifest
from tests.policy.verdicts import decode

AMBIENT = {"istio.io/dataplane-mode": "ambient"}


def random_object(rng: random.Random) -> Object:  # noqa: PLR0911 (one for each kind)
    """One of a few objects, so that changes meet each other."""
    namespace = rng.choice(["a", "b", "istio-system"])
    labels = {key: rng.choice("xyz") for key in ("app", "version") if rng.random() < 0.8}
    kinds = [
        "Node",
        "Namespace",
        "Service",
        "Slice",
        "Entry",
        "WorkloadEntry",
        "Pod",
        "Pod",
        "Policy",
        "Modes",
        "Sidecar",
        *["Route"] * 5,
    ]
    match rng.choice(kinds):
        case "Node":
            labels = {"topology.kubernetes.io/zone": rng.choice("12")}
            return make("Node", rng.choice(["n1", "n2"]), labels=labels)
        case "Namespace":
            mode = rng.choice([AMBIENT, {}, {"topology.istio.io/network": rng.choice(["", "blue"])}])
            l7 = {"warren.dev/l7": rng.choice(["true", "false"])} if rng.random() < 0.5 else {}
            return make("Namespace", namespace, labels=mode, annotations=l7)
        case "Service":
            ports = [{"port": rng.choice([80, 81]), "targetPort": rng.choice([8080, "web"]), "name": "http"}]
            return service(
                rng.choice(["s1", "s2"]),
                ports,
                selector=labels,
                metadata={"namespace": namespace},
                type=rng.choice(["ClusterIP", "ClusterIP", "ExternalName"]),
                clusterIP=f"10.1.0.{rng.randrange(1, 4)}",
                sessionAffinity=rng.choice(["None", "ClientIP"]),
                trafficDistribution=rng.choice(["", "PreferClose"]),
            )
        case "Slice":
            pods = [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": f"p{rng.randrange(6)}"}}]
            others = [{"addresses": [f"10.0.1.{rng.randrange(1, 9)}"]} for _ in range(2)]
            ports = [{"name": "http", "port": rng.choice([1, 2])}]
            of = rng.choice(["s1", "s2"])
            return endpoint_slice(f"{of}-{rng.randrange(2)}", of, pods + others, ports, namespace=namespace)
        case "Entry":
            return random_service_entry(rng, namespace, labels)
        case "WorkloadEntry":
            spec = {"address": rng.choice(["10.0.2.1", "db.example"]), "labels": labels}
            return make("WorkloadEntry", f"w{rng.randrange(3)}", namespace, spec=spec)
        case "Route":
            return random_route(rng, namespace, labels)
        case "Policy":
            return random_policy(rng, cases.authorization(rng, f"a{rng.randrange(4)}"))
        case "Modes":
            return random_policy(rng, cases.authentication(rng, f"m{rng.randrange(3)}"))
        case "Sidecar":
            spec = {"workloadSelector": {"labels": rng.choice([{}, {}, labels])}}
            outbound = {"outboundTrafficPolicy": {"mode": rng.choice(["ALLOW_ANY", "REGISTRY_ONLY"])}}
            egress: dict[str, Any] = {"egress": [{"hosts": ["./*"]}]}
            spec |= rng.choice([egress, outbound])
            age = rng.choice(["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"])
            metadata = {"name": f"c{rng.randrange(3)}", "namespace": namespace, "creationTimestamp": age}
            return random_policy(rng, {"kind": "Sidecar", "metadata": metadata, "spec": spec})
        case _:
            containers = [{"ports": [{"containerPort": rng.choice([1, 2]), "name": "web"}]}]
            return pod(
                f"p{rng.randrange(6)}",
                f"10.0.0.{rng.randrange(1, 9)}",
                namespace=namespace,
                labels=labels,
                spec={"nodeName": rng.choice(["", "n1", "n2"]), "containers": containers},
                status={"phase": rng.choice(["Running", "Running", "Succeeded"])},
            )


def random_policy(rng: random.Random, manifest: Manifest) -> Object:
    """As it is written, with a mistake for which it may be refused, or refused with a last good version."""
    if rng.random() < 0.6:
        return decode(manifest)
    item = decode(cases.mistaken(rng, manifest))
    return last_good(item, "spec: x") or item if rng.random() < 0.3 else item


def random_service_entry(rng: random.Random, namespace: str, labels: dict[str, str]) -> Object:
    """With hostnames that others have as well, Services among them."""
    name = rng.choice(["http", "web"])
    known = ["one.example", "two.example", "*.example", "s1.a.svc.cluster.local", "s2.b.svc.cluster.local"]
    hosts = rng.sample(known, 2)
    spec = {
        "hosts": hosts,
        "addresses": rng.choice([[], ["10.1.0.1"], ["10.1.0.2"]]),
        "ports": [{"number": 80, "name": name, "protocol": rng.choice(["HTTP", "HTTP", "TLS"])}],
        "resolution": "STATIC" if "*.example" in hosts else rng.choice(["STATIC", "DNS"]),
        "exportTo": rng.choice([[], ["."], ["~"], ["b"]]),
    }
    if rng.random() < 0.5:
        spec["workloadSelector"] = {"labels": labels}
    elif rng.random() < 0.7:
        spec["endpoints"] = [{"address": f"10.0.3.{rng.randrange(3)}", "ports": {name: 8080}}]
    stamp = f"2026-01-0{rng.randrange(1, 4)}T00:00:00Z"
    return make("ServiceEntry", f"e{rng.randrange(3)}", namespace, spec=spec, creationTimestamp=stamp)


def random_batches(seed: int) -> Iterator[list[Change]]:
    rng = random.Random(seed)
    for _ in range(60):
        items = [random_object(rng) for _ in range(rng.randrange(1, 5))]
        yield [(key_of(item), None if rng.random() < 0.3 else item) for item in items]


def listed(model: Model) -> dict[tuple[str, str], Resource]:
    return {r.id: r for those in model.resources.values() for r in those}


@pytest.mark.parametrize("seed", range(20))
def test_the_result_is_that_of_a_full_rebuild(seed: int) -> None:
    model, objects, followed = Model(), dict[Key, Object](), dict[tuple[str, str], Resource]()
    for batch in random_batches(seed):
        model, delta = apply(model, batch)
        for key, item in batch:
            objects.pop(key, None)
            if item:
                objects[key] = item
        for resource in delta.changed:
            assert followed.get(resource.id) != resource, "told, although nothing is different"
            followed[resource.id] = resource
        for gone in delta.removed:
            del followed[gone]

        rebuilt, _ = apply(Model(), list(objects.items()))
        assert model == rebuilt
        assert followed == listed(model)


def test_the_order_of_the_changes_does_not_matter() -> None:
    items = [service("web"), pod("a", labels={"app": "web"}), make("Namespace", "default", labels=AMBIENT)]
    assert model_of(*items) == model_of(*reversed(items))
    assert model_of(*items).version != Model().version


def test_a_former_model_stays_as_it_was() -> None:
    before = model_of(pod("a"))
    kept = listed(before)
    apply(before, [*changes(pod("a", "10.0.0.2"), service("web")), (Key("Pod", "default", "a"), None)])
    assert listed(before) == kept


def test_services_come_before_the_workloads_that_refer_to_them() -> None:
    _, delta = apply(Model(), changes(pod("a", labels={"app": "web"}), service("web")))
    assert [resource.name.split("/")[0] for resource in delta.changed] == ["default", "Kubernetes"]


def test_nothing_is_told_of_what_makes_no_difference() -> None:
    model = model_of(pod("a"), make("Node", "n1"))
    same = changes(pod("a"), make("Node", "n1", labels={"heartbeat": "1"}), make("ServiceAccount", "x"))
    assert apply(model, same)[1] == Delta()
    assert not apply(model, [(Key("Pod", "default", "gone"), None)])[1]


def test_a_change_of_one_pod_translates_one_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = [pod(f"p{i}", f"10.0.{i // 200}.{i % 200 + 1}", labels={"app": "web"}) for i in range(500)]
    model = model_of(service("web"), *pods)
    _, delta = apply(model, changes(pod("p7", "10.9.9.9", labels={"app": "web"})))
    assert [resource.name for resource in delta.changed] == ["Kubernetes//Pod/default/p7"]
    untouched = model.resources[Key("Pod", "default", "p8")]
    after, _ = apply(model, changes(pod("p7", "10.9.9.9", labels={"app": "web"})))
    assert after.resources[Key("Pod", "default", "p8")] is untouched


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """The calls of a function of `members`, which looks at all workloads of a namespace."""
    calls: list[str] = []
    function = getattr(members, name)

    def called(*args: Any) -> Any:
        calls.append(name)
        return function(*args)

    monkeypatch.setattr(members, name, called)
    return calls


@pytest.mark.parametrize("kind", ["Service", "AuthorizationPolicy", "PeerAuthentication"])
def test_what_selects_is_not_held_against_every_pod(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many objects that arrive together in a large namespace: the pods are looked at once for all."""
    pods = (pod(f"p{number}", f"10.0.0.{number}", labels={"app": f"a{number}"}) for number in range(100))
    base = model_of(*pods)
    items = [selecting(kind, f"a{number}") for number in range(100)]
    calls = counted(monkeypatch, "_by")
    model_of(*items, base=base)
    assert len(calls) == 1


def selecting(kind: str, app: str) -> Object:
    """An object that selects the pods with this label."""
    selector: dict[str, Any] = {"app": app}
    if kind == "Service":
        return service(app, [{"port": 80}], selector=selector)
    return make(kind, app, spec={"selector": {"matchLabels": selector}})


def test_slices_are_not_searched_for_every_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services without selectors, beside pods that change."""
    bare = [service(f"s{number}", [{"port": 80}], selector={}) for number in range(100)]
    base = model_of(*bare)
    calls = counted(monkeypatch, "_slices")
    model_of(*(pod(f"p{number}", f"10.0.0.{number}") for number in range(100)), base=base)
    assert len(calls) == 1


def test_enrolled_pods_of_a_node() -> None:
    model = model_of(
        make("Namespace", "default", labels=AMBIENT),
        pod("a"),
        pod("b", spec={"nodeName": "n2"}),
        pod("c", labels={"istio.io/dataplane-mode": "none"}),
        pod("d", status={"phase": "Succeeded"}),
        pod("e", spec={"serviceAccountName": ""}),
        pod("f", annotations={"kubernetes.io/config.mirror": "hash"}),
    )
    assert [item.metadata.name for item in enrolled_on(model, "n1")] == ["a"]
    assert list(enrolled_on(model, "n3")) == []
