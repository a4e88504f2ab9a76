"""The service, its routes and its pods, the same for each path."""

from typing import Any

HTTP, HTTP2, DOWNLOAD = 8080, 8081, 8082
PORTS = {HTTP: "h1", HTTP2: "h2", DOWNLOAD: "h1"}
"""Ports of the service and of its pods, and what they speak."""
VERSIONS = ("v1", "v2")
SHARES = {"v1": 90, "v2": 10}
HEADER, VALUE, CANARY = "x-user", "jason", "v2"
"""Requests with this header go to the canary."""
_NAMES = {"h1": "http", "h2": "http2"}


def objects(service: str, namespace: str, rules: int = 2) -> list[dict[str, Any]]:
    """Service, DestinationRule and VirtualService; of the `rules` rules only the last two ever match."""
    meta = {"name": service, "namespace": namespace}
    ports = [{"name": f"{_NAMES[spoken]}-{port}", "port": port} for port, spoken in PORTS.items()]
    subsets = [{"name": version, "labels": {"version": version}} for version in VERSIONS]

    def to(version: str, **more: int) -> dict[str, Any]:
        return {"destination": {"host": service, "subset": version}, **more}

    def of(header: str, value: str) -> list[dict[str, Any]]:
        return [{"headers": {header: {"exact": value}}}]

    http = [{"match": [{"uri": {"prefix": f"/never/{n}/"}}], "route": [to("v1")]} for n in range(rules - 2)]
    http += [
        {"match": of(HEADER, VALUE), "route": [to(CANARY)]},
        {"route": [to(one, weight=part) for one, part in SHARES.items()]},
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": {"app": service}, "ports": ports},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": meta,
            "spec": {"host": service, "subsets": subsets},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": meta,
            "spec": {"hosts": [service], "http": http},
        },
    ]


def pod(name: str, namespace: str, node: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """With a service account of its name; it does nothing by itself."""
    meta = {"name": name, "namespace": namespace}
    spec = {"nodeName": node, "serviceAccountName": name, "containers": [{"name": "x", "image": "x"}]}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "labels": labels}, "spec": spec},
    ]


def policy(service: str, namespace: str) -> dict[str, Any]:
    """Of the service's pods: what is asked of them is looked at request by request, and allowed."""
    operation = {"methods": ["GET", "POST"]}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": service, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": service}},
            "rules": [{"to": [{"operation": operation}]}],
        },
    }
