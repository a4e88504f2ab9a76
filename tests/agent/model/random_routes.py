"""Random VirtualServices, DestinationRules and routes, over few names, so that they meet each other."""

import random
from typing import Any

from agent.model.schema.objects import Object
from tests.agent.model.objects import make

_HOSTS = (
    *("s1", "s2", "s1.a.svc.cluster.local", "s2.b.svc.cluster.local", "one.example", "two.example"),
    *("*.example", "*.two.example", "far.two.example", "*.a.svc.cluster.local", "*.local", "gone"),
)
_EXPORTS: tuple[list[str], ...] = ([], ["*"], ["."], ["b"], ["a", "istio-system"])
_KINDS = ("HTTPRoute", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute")
NAMESPACES = ("a", "b", "istio-system")

Spec = dict[str, Any]


def random_route(rng: random.Random, namespace: str, labels: dict[str, str]) -> Object:
    """One of any of these kinds."""
    make_one = rng.choice(
        [_virtual_service, _virtual_service, _rule, _rule, _gateway_route, _gateway_route, _grant]
    )
    return make_one(rng, namespace, labels)


def _since(rng: random.Random) -> str:
    return f"2026-01-0{rng.randrange(1, 4)}T00:00:00Z"


def _destination(rng: random.Random) -> Spec:
    port: Spec = rng.choice([{}, {}, {"port": {"number": rng.choice([80, 81])}}])
    return {"host": rng.choice(_HOSTS), "subset": rng.choice(["", "v1", "v2"]), **port}


def _virtual_service(rng: random.Random, namespace: str, labels: dict[str, str]) -> Object:
    route = [
        {"destination": _destination(rng), "weight": rng.choice([1, 2])} for _ in range(rng.randrange(1, 3))
    ]
    match: list[Spec] = rng.choice(
        [
            [],
            [{"port": 80}],
            [{"sourceLabels": labels}],
            [{"uri": {"prefix": "/a"}}],
            [{"sourceNamespace": "b"}],
        ]
    )
    rule: Spec = {"match": match, "route": route}
    delegate = {"name": f"v{rng.randrange(4)}", "namespace": rng.choice(["", *NAMESPACES])}
    http = rng.choice(
        [[rule], [rule, {"mirror": _destination(rng), "route": route}], [{"delegate": delegate}, rule]]
    )
    spec: Spec = {"http": http, "exportTo": rng.choice(_EXPORTS)}
    if rng.random() < 0.8:
        spec |= {"hosts": [rng.choice(_HOSTS)], "gateways": rng.choice([[], ["mesh"], ["gw"]])}
        if rng.random() < 0.3:
            spec["tcp"] = [{"route": route}]
        if rng.random() < 0.3:
            spec["tls"] = [{"match": [{"sniHosts": spec["hosts"]}], "route": route}]
    else:
        spec["http"] = [rule]
    return make("VirtualService", f"v{rng.randrange(4)}", namespace, spec=spec, creationTimestamp=_since(rng))


def _rule(rng: random.Random, namespace: str, labels: dict[str, str]) -> Object:
    policies: list[Spec] = [
        {"loadBalancer": {"simple": "ROUND_ROBIN"}},
        {"connectionPool": {"tcp": {"maxConnections": rng.randrange(1, 3)}}},
        {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["version"]}}, "outlierDetection": {}},
        {"tls": {"mode": "SIMPLE", "credentialName": "a"}},
    ]
    subsets = [{"name": name, "labels": labels} for name in rng.sample(["v1", "v2"], rng.randrange(3))]
    spec: Spec = {"host": rng.choice(_HOSTS), "subsets": subsets}
    if rng.random() < 0.6:
        spec["trafficPolicy"] = rng.choice(policies)
    if rng.random() < 0.2:
        spec["workloadSelector"] = {"matchLabels": labels}
    else:
        spec["exportTo"] = rng.choice(_EXPORTS)
    return make(
        "DestinationRule", f"d{rng.randrange(4)}", namespace, spec=spec, creationTimestamp=_since(rng)
    )


def _reference(rng: random.Random) -> Spec:
    istio = {"group": "networking.istio.io", "port": 80}
    return rng.choice(
        [
            {
                "name": rng.choice(["s1", "s2"]),
                "namespace": rng.choice(NAMESPACES),
                "port": rng.choice([80, 81]),
            },
            {"name": rng.choice(["s1", "s2"]), "port": 80},
            {"name": f"e{rng.randrange(3)}", "kind": "ServiceEntry", **istio},
            {"name": rng.choice(["one.example", "s1.a.svc.cluster.local"]), "kind": "Hostname", **istio},
        ]
    )


def _gateway_route(rng: random.Random, namespace: str, labels: dict[str, str]) -> Object:
    parents: list[Spec] = [
        {
            "group": "",
            "kind": "Service",
            "name": rng.choice(["s1", "s2"]),
            "namespace": rng.choice(NAMESPACES),
        },
        {"group": "networking.istio.io", "kind": "ServiceEntry", "name": f"e{rng.randrange(3)}"},
    ]
    parent = rng.choice(parents) | rng.choice([{}, {}, {"port": 80}, {"sectionName": "http"}])
    kind = rng.choice(_KINDS)
    refs = [{**_reference(rng), "weight": rng.randrange(3)} for _ in range(rng.randrange(1, 3))]
    spec: Spec = {"parentRefs": [parent], "rules": [{"backendRefs": refs}]}
    spec |= {"hostnames": ["a.example"]} if kind == "TLSRoute" else {}
    return make(kind, f"r{rng.randrange(3)}", namespace, spec=spec, creationTimestamp=_since(rng))


def _grant(rng: random.Random, namespace: str, labels: dict[str, str]) -> Object:
    asker = {
        "group": "gateway.networking.k8s.io",
        "kind": rng.choice(_KINDS),
        "namespace": rng.choice(NAMESPACES),
    }
    target = {"group": "", "kind": "Service", **rng.choice([{}, {"name": "s1"}])}
    return make("ReferenceGrant", f"g{rng.randrange(2)}", namespace, spec={"from": [asker], "to": [target]})
