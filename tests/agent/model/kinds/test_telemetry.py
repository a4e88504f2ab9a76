"""Telemetry: whose traffic it is for, how several are merged, and what of one is not acted on."""

from typing import Any

import msgspec
import pytest

from agent.model.mesh import ROOT_NAMESPACE, Mesh
from agent.model.model import Model, apply
from agent.model.resources import TELEMETRY
from agent.model.schema.istio.mesh_config import MeshConfig
from agent.model.schema.objects import Object, key_of
from protocols import telemetry_pb2 as proto
from tests.agent.model.objects import addresses, changes, make, model_of, pod, resources, service

CONFIG = {
    "extensionProviders": [
        {"name": "otel", "opentelemetry": {"service": "otel.observe", "port": 4317, "maxTagLength": 64}},
        {
            "name": "web",
            "opentelemetry": {"service": "w", "port": 80, "http": {"path": "/v1", "timeout": "2s"}},
        },
        {"name": "logs", "envoyOtelAls": {"service": "otel.observe", "port": 4317, "logName": "mesh"}},
        {"name": "zip", "zipkin": {"service": "zipkin.observe", "port": 9411}},
        {"name": "old", "datadog": {"service": "d", "port": 1}},
    ],
    "defaultProviders": {"tracing": ["otel"]},
    "defaultConfig": {"tracing": {"sampling": 5}},
}
MESH = Mesh(config=msgspec.convert(CONFIG, MeshConfig))
DISABLED: dict[str, Any] = {"metrics": [{"overrides": [{"disabled": True}]}]}


def telemetry(name: str = "all", namespace: str = ROOT_NAMESPACE, **spec: Any) -> Object:
    since = spec.pop("since", "2026-01-01T00:00:00Z")
    return make("Telemetry", name, namespace, spec=spec, creationTimestamp=since)


def model(*items: Object, mesh: Mesh = MESH) -> Model:
    return model_of(*items, base=Model(mesh))


def told(model: Model) -> dict[str, proto.Telemetry]:
    """What tunnels hear of, by name."""
    found = {one.name: proto.Telemetry.FromString(one.body) for one in resources(model, TELEMETRY)}
    assert all(name == message.name for name, message in found.items())
    return found


def metrics(side: proto.Side) -> dict[str, tuple[bool, list[str], list[str]]]:
    """Whether it is disabled, the labels that it gets, and those that it loses, by metric."""
    return {
        proto.Metric.Name.Name(one.name): (one.disabled, sorted(one.tags), list(one.removed))
        for one in side.metrics
    }


def override(metric: str | None = None, mode: str | None = None, **fields: Any) -> dict[str, Any]:
    match = {name: value for name, value in (("metric", metric), ("mode", mode)) if value}
    return {"match": match, **fields}


def test_where_nobody_says_anything_nothing_is_told_but_what_the_mesh_config_says() -> None:
    assert told(model(pod("a"), mesh=Mesh())) == {}
    [mesh] = told(model(pod("a"))).values()
    assert [one.name for one in mesh.client.tracing.providers] == ["otel"]
    assert mesh.client.tracing.sampling == mesh.server.tracing.sampling == 5
    assert not mesh.client.metrics and not mesh.client.HasField("access_logging")


def test_an_object_is_for_the_mesh_a_namespace_or_those_that_it_selects() -> None:
    items = (
        telemetry(**DISABLED),
        telemetry("shop", "shop", metrics=[{"overrides": [override("REQUEST_COUNT", disabled=False)]}]),
        telemetry("web", "shop", selector={"matchLabels": {"app": "web"}}, **DISABLED),
        telemetry("api", "shop", targetRefs=[{"kind": "Service", "name": "api"}], tracing=[{}]),
        service("api", metadata={"namespace": "shop"}),
        pod("web", "10.0.0.1", namespace="shop", labels={"app": "web"}),
        pod("api", "10.0.0.2", namespace="shop", labels={"app": "api"}),
        pod("other", "10.0.0.3", namespace="shop"),
    )
    found = model(*items)
    assert {*told(found)} == {"", "shop", "shop/web", "shop/api"}
    named = {
        one.workload.name: one.workload.telemetry for one in addresses(found).values() if one.workload.uid
    }
    assert named == {"web": "shop/web", "api": "shop/api", "other": ""}
    assert len(metrics(told(found)[""].client)) == 10
    assert "REQUEST_COUNT" not in metrics(told(found)["shop"].server)
    assert "REQUEST_COUNT" in metrics(told(found)["shop/web"].server)


def test_of_several_on_a_level_the_oldest_is_in_force_and_the_others_hear_of_it() -> None:
    old = telemetry("old", "shop", since="2026-01-01T00:00:00Z", **DISABLED)
    young = telemetry("a", "shop", since="2026-02-01T00:00:00Z")
    found = model(young, old)
    assert len(metrics(told(found)["shop"].client)) == 10
    assert dict(found.problems) == {
        key_of(young): "ignored: Telemetry shop/old takes precedence (oldest wins, ties by name)"
    }
    after, delta = apply(found, [(key_of(old), None)])
    assert not metrics(told(after)["shop"].client) and not after.problems
    assert [one.name for one in delta.changed] == ["shop"]


def test_what_changes_above_is_told_to_all_below() -> None:
    below = (telemetry("shop", "shop"), telemetry("web", "shop", selector={"matchLabels": {"app": "web"}}))
    found = model(*below)
    after, delta = apply(found, changes(telemetry(**DISABLED)))
    assert sorted(one.name for one in delta.changed) == ["", "shop", "shop/web"]
    assert all(len(metrics(one.client)) == 10 for one in told(after).values())


MERGES: list[tuple[list[Any], dict[str, Any], dict[str, Any]]] = [
    (
        [override("REQUEST_COUNT", "CLIENT", disabled=True)],
        {"REQUEST_COUNT": (True, [], [])},
        {},
    ),
    ([override("REQUEST_COUNT", disabled=True), override(disabled=False)], {}, {}),
    (
        [
            override(
                "REQUEST_SIZE", tagOverrides={"a": {"value": "request.host"}, "b": {"operation": "REMOVE"}}
            ),
            override("REQUEST_SIZE", "SERVER", tagOverrides={"b": {"value": "'x'"}}),
        ],
        {"REQUEST_SIZE": (False, ["a"], ["b"])},
        {"REQUEST_SIZE": (False, ["a", "b"], [])},
    ),
    ([override("REQUEST_SIZE", tagOverrides={"a": {"value": "no.such"}})], {}, {}),
]


@pytest.mark.parametrize(("overrides", "client", "server"), MERGES)
def test_overrides_apply_in_order(overrides: list[Any], client: Any, server: Any) -> None:
    found = told(model(telemetry(metrics=[{"overrides": overrides}])))[""]
    assert (metrics(found.client), metrics(found.server)) == (client, server)


def test_metrics_for_nobody_are_off() -> None:
    nobody = Mesh(config=msgspec.convert({"defaultProviders": {"metrics": []}}, MeshConfig))
    assert len(metrics(told(model(mesh=nobody))[""].server)) == 10
    again = telemetry(metrics=[{"providers": [{"name": "prometheus"}]}])
    assert told(model(again, mesh=nobody)) == {}


def test_logs_are_switched_provider_by_provider() -> None:
    spec = [
        {
            "providers": [{"name": "envoy"}, {"name": "logs"}],
            "filter": {"expression": "response.code >= 400"},
        },
        {"match": {"mode": "SERVER"}, "providers": [{"name": "envoy"}], "disabled": True},
    ]
    found = told(model(telemetry(accessLogging=spec)))[""]
    client = found.client.access_logging.logs
    assert [(log.provider.name, log.provider.kind, log.HasField("filter")) for log in client] == [
        ("envoy", proto.Provider.FILE, True),
        ("logs", proto.Provider.OPENTELEMETRY, True),
    ]
    assert client[1].provider.log_name == "mesh" and client[1].provider.port == 4317
    assert found.server.HasField("access_logging") and not found.server.access_logging.logs


def test_traces() -> None:
    tags = {
        "a": {"literal": {"value": "x"}},
        "b": {"header": {"name": "X-Team", "defaultValue": "none"}},
        "c": {"environment": {"name": "ZONE"}},
        "d": {"formatter": {"value": "%REQ(x)%"}},
    }
    mesh = telemetry(tracing=[{"randomSamplingPercentage": 100, "customTags": tags}])
    shop = telemetry("shop", "shop", tracing=[{"providers": [{"name": "web"}], "disableSpanReporting": True}])
    found = told(model(mesh, shop))
    tracing = found["shop"].client.tracing
    assert (tracing.sampling, tracing.disable_span_reporting, tracing.enable_istio_tags) == (100, True, True)
    [provider] = tracing.providers
    assert (provider.http, provider.http_path, provider.timeout) == (True, "/v1", 2000)
    assert {
        name: (tag.literal, tag.header, tag.environment) for name, tag in tracing.custom_tags.items()
    } == {
        "a": ("x", "", ""),
        "b": ("", "x-team", ""),
        "c": ("", "", "ZONE"),
    }
    assert found[""].client.tracing.providers[0].max_tag_length == 64


PROBLEMS = [
    (
        {"metrics": [{"providers": [{"name": "nope"}, {"name": "otel"}], "reportingInterval": "5s"}]},
        [
            "metrics[0].providers[0]: the mesh config has no provider 'nope'",
            "metrics[0].providers[1]: 'otel' (opentelemetry) is not supported for metrics",
            "metrics[0].reportingInterval does nothing: bytes are counted as they pass",
        ],
    ),
    (
        {"metrics": [{"overrides": [{"match": {"customMetric": "x"}}]}]},
        ["metrics[0].overrides[0].match.customMetric: there are no custom metrics"],
    ),
    (
        {"metrics": [{"overrides": [{"tagOverrides": {"a": {"value": "request.colour"}}}]}]},
        [
            "metrics[0].overrides[0].tagOverrides.a.value is ignored: "
            "column 1: there is no attribute request.colour"
        ],
    ),
    (
        {"accessLogging": [{"providers": [{"name": "zip"}], "filter": {"expression": "1 +"}}]},
        [
            "accessLogging[0].providers[0]: 'zip' (zipkin) is not supported for accessLogging",
            "accessLogging[0].filter.expression is ignored: column 4: a value is expected",
        ],
    ),
    (
        {"tracing": [{"providers": [{"name": "old"}, {"name": "zip"}]}]},
        [
            "tracing[0].providers[0]: 'old' (datadog) is not supported for tracing",
            "tracing[0].providers[1]: 'zip' (zipkin) is not supported for tracing",
            "tracing[0].providers: only the first is used",
        ],
    ),
    (
        {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}]},
        ["targetRefs: Gateway g is ignored: write a selector for its pods"],
    ),
]


@pytest.mark.parametrize(("spec", "problems"), PROBLEMS)
def test_what_is_not_acted_on_is_named(spec: Any, problems: list[str]) -> None:
    item = telemetry("a", "shop", **spec)
    assert model(item).problems[key_of(item)] == "; ".join(problems)
