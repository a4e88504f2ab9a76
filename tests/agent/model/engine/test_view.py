"""Who has a hostname, when several objects want it: Kubernetes' own first, else the oldest, per namespace."""

from agent.model.model import Model, apply
from agent.model.schema.objects import Key, Object, key_of
from protocols.workload_pb2 import Service, Visibility
from tests.agent.model.objects import (
    addresses,
    changes,
    make,
    model_of,
    pod,
    service,
    service_entry,
    workload,
)

HOST = "default/api.example"
WEB = "web.default.svc.cluster.local"
ONE = [{"address": "10.9.0.1"}]
TWO = [{"address": "10.9.0.2"}]


def entry(
    name: str, day: int, host: str = "api.example", namespace: str = "default", **spec: object
) -> Object:
    """A ServiceEntry that was made on this day."""
    metadata = {"namespace": namespace, "creationTimestamp": f"2026-01-{day:02}T00:00:00Z"}
    return service_entry(name, metadata, hosts=[host], **spec)


def services(model: Model) -> dict[str, Service]:
    """By name of the resource."""
    return {name: one.service for name, one in addresses(model).items() if one.HasField("service")}


def canonical(model: Model) -> dict[str, bool]:
    return {name: one.canonical for name, one in services(model).items()}


def test_the_oldest_has_the_hostname() -> None:
    model = model_of(entry("new", 2, endpoints=TWO), entry("old", 1, endpoints=ONE))
    [message] = services(model).values()
    assert message.name == "old"


def test_entries_of_one_host_are_one_service() -> None:
    """With the addresses, ports and endpoints of all, whatever order they come in; the oldest has the say."""
    old = entry("old", 1, addresses=["10.97.0.1"], endpoints=ONE, subjectAltNames=["a"])
    ports = [
        {"number": 443, "name": "tls", "protocol": "TLS"},
        {"number": 80, "name": "http", "protocol": "HTTP"},
    ]
    new = entry(
        "new", 2, addresses=["10.97.0.2", "10.97.0.1"], endpoints=TWO, ports=ports, subjectAltNames=["b", "a"]
    )
    model = model_of(new, old)
    assert model_of(new, base=model_of(old)) == model == model_of(old, base=model_of(new))
    [message] = services(model).values()
    assert (message.name, [*message.subject_alt_names]) == ("old", ["a", "b"])
    assert [one.address[-1] for one in message.addresses] == [1, 2]
    assert [(one.service_port, one.target_port) for one in message.ports] == [(80, 80), (443, 0)]
    mapped = {
        name.rpartition("/")[2]: [one.service_port for one in found.workload.services[HOST].ports]
        for name, found in addresses(model).items()
        if found.HasField("workload")
    }
    assert mapped == {"10.9.0.1": [80], "10.9.0.2": [443, 80]}, "each endpoint has its own entry's ports"
    assert not model.problems
    model, _ = apply(model, [(key_of(old), None)])
    assert model == model_of(new)


def test_entries_that_differ_in_who_sees_them_or_pass_through_are_not_one() -> None:
    for other in (entry("new", 2, resolution="NONE"), entry("new", 2, exportTo=["."], endpoints=TWO)):
        model = model_of(entry("old", 1, endpoints=ONE), other)
        assert [name for name, one in addresses(model).items() if "new" in name] == []
        assert "is also claimed by ServiceEntry default/old" in model.problems[key_of(other)]


def test_names_that_dns_is_asked_for_have_no_endpoints_of_others() -> None:
    asked = entry("old", 1, "*.example", resolution="DYNAMIC_DNS")
    other = entry("new", 2, "*.example", endpoints=TWO)
    model = model_of(asked, other)
    assert [name for name in addresses(model) if "new" in name] == []
    assert "is also claimed by ServiceEntry default/old" in model.problems[key_of(other)]


def test_of_the_same_age_the_first_by_name_has_it() -> None:
    [message] = services(model_of(entry("b", 1), entry("a", 1))).values()
    assert message.name == "a"


def test_a_kubernetes_service_comes_first() -> None:
    model = model_of(entry("old", 1, WEB, endpoints=ONE), service("web"))
    [(name, message)] = services(model).items()
    assert (name, message.name, message.canonical) == (f"default/{WEB}", "web", True)


def test_the_next_one_follows_when_the_owner_goes() -> None:
    model = model_of(service("web"), entry("e", 1, WEB, workloadSelector={"labels": {"app": "a"}}))
    model = model_of(pod("a", labels={"app": "a"}), pod("web", labels={"app": "web"}), base=model)
    assert (list(workload(model, "a").services), list(workload(model, "web").services)) == (
        [],
        [f"default/{WEB}"],
    )

    model, delta = apply(model, [(Key("Service", "default", "web"), None)])
    assert services(model)[f"default/{WEB}"].name == "e"
    assert (list(workload(model, "a").services), list(workload(model, "web").services)) == (
        [f"default/{WEB}"],
        [],
    )
    assert delta.removed == (), "the resource has another content, and stays"


def test_each_namespace_has_its_own_and_one_is_canonical() -> None:
    young, old = entry("a", 2, namespace="a"), entry("b", 1, namespace="b")
    found = services(model_of(young, old))
    assert {name: one.canonical for name, one in found.items()} == {
        "a/api.example": False,
        "b/api.example": True,
    }

    after, delta = apply(model_of(young, old), [(Key("ServiceEntry", "b", "b"), None)])
    assert services(after)["a/api.example"].canonical
    assert [one.name for one in delta.changed] == ["a/api.example"]


def test_a_kubernetes_service_is_canonical_however_old_others_are() -> None:
    found = services(model_of(entry("old", 1, WEB, namespace="other"), service("web")))
    assert {name: one.canonical for name, one in found.items()} == {
        f"other/{WEB}": False,
        f"default/{WEB}": True,
    }


def test_what_only_its_namespace_sees_is_not_canonical() -> None:
    private, public = entry("old", 1, exportTo=["."]), entry("new", 2)
    assert [one.canonical for one in services(model_of(private)).values()] == [False]
    [message] = services(model_of(private, public)).values()
    assert (message.name, message.canonical) == ("old", False), (
        "it has the name in its namespace nevertheless"
    )
    elsewhere = entry("new", 2, namespace="b")
    assert services(model_of(private, elsewhere))["b/api.example"].canonical


def test_an_external_name_leaves_its_hostname_to_others() -> None:
    model = model_of(service("web", type="ExternalName"), entry("e", 1, WEB), pod("a", labels={"app": "web"}))
    assert [one.name for one in services(model).values()] == ["e"]
    assert not workload(model, "a").services


def test_nobody_sees_it() -> None:
    model = model_of(entry("e", 1, exportTo=["~"], endpoints=ONE), entry("new", 2, endpoints=TWO))
    [message] = services(model).values()
    assert (message.name, message.visibility) == ("new", Visibility.PUBLIC)


def test_the_root_namespaces_network_is_everyones() -> None:
    model = model_of(
        service("web", clusterIP="10.96.0.1"), entry("e", 1, addresses=["10.97.0.1"], endpoints=ONE)
    )
    root = make("Namespace", "istio-system", labels={"topology.istio.io/network": "blue"})
    model, delta = apply(model, changes(root))
    assert {a.network for one in services(model).values() for a in one.addresses} == {"blue"}
    assert len(delta.changed) == 3
