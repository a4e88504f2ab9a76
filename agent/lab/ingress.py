"""The lab's own gateway: made where manifests have Gateways and bring no pod that serves them.

It has the names and labels of Istio's ingress gateway, so that Gateways with the selector
`istio: ingressgateway` find it, and policies its identity. The classes `warren` and `istio` are its.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from agent.lab.controllers import Body, key_of
from agent.lab.manifests import Manifest
from agent.model.mesh import GATEWAY
from agent.model.schema.objects import Key
from agent.model.translation.gateways.attachments import CONTROLLER

NAMESPACE, NAME = "istio-system", "istio-ingressgateway"
_ACCOUNT = f"{NAME}-service-account"
_LABELS = {"app": NAME, "istio": "ingressgateway", GATEWAY: "true"}
_KINDS = ("Gateway", "KubernetesGateway", "ListenerSet")
_CLASSES, _GATEWAY_API = ("warren", "istio"), "gateway.networking.k8s.io/v1"
_PRIVILEGED = 1024


def complete(read: Sequence[Manifest], present: Mapping[Key, Body]) -> list[Manifest]:
    """The manifests, with a gateway for their Gateways where that is missing."""
    bodies = {**present, **{one.key: one.body for one in read}}
    ports = sorted({port for body in bodies.values() for port in _ports(body)})
    others = (body for key, body in bodies.items() if key != Key("Deployment", NAMESPACE, NAME))
    if not ports or any(_is_gateway(body) for body in others):
        return [*read]
    own = [Manifest(key_of(body), body, "the lab's gateway") for body in _objects(ports)]
    given = {one.key for one in read}
    return [*read, *(one for one in own if one.key not in given)]


def _ports(body: Body) -> Iterator[int]:
    if key_of(body).kind in _KINDS:
        spec = body.get("spec", {})
        yield from (server["port"]["number"] for server in spec.get("servers", ()))
        yield from (listener["port"] for listener in spec.get("listeners", ()))


def _is_gateway(body: Body) -> bool:
    """Whether it is a pod of a gateway, or has such pods; the lab's own does not count."""
    template: Any = body.get("spec", {}).get("template", body)
    labels = template.get("metadata", {}).get("labels") or {}
    own = body["metadata"].get("namespace") == NAMESPACE and labels.get("app") == NAME
    return labels.get(GATEWAY) == "true" and not own


def _objects(ports: Iterable[int]) -> Iterator[Body]:
    for name in _CLASSES:
        spec = {"controllerName": CONTROLLER}
        yield {"apiVersion": _GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": name}, "spec": spec}
    metadata = {"name": NAME, "namespace": NAMESPACE, "labels": _LABELS}
    yield {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": _ACCOUNT, "namespace": NAMESPACE},
    }
    served = [{"name": f"port-{port}", "port": port, "targetPort": port} for port in ports]
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"istio": "ingressgateway"}, "ports": served},
    }
    pod = {"serviceAccountName": _ACCOUNT, "containers": [{"name": "gateway", "image": "none"}]}
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS}, "spec": pod},
        },
    }


def doors(objects: Mapping[Key, Body], known: Mapping[int, int]) -> dict[int, int]:
    """Ports of the gateway by the port of the machine's loopback that leads there. known: open ones."""
    ports = sorted({port for body in objects.values() for port in _ports(body)})
    opened = {port: own for own, port in known.items()}
    found: dict[int, int] = {}
    for port in ports:
        found[opened.get(port) or _free(port + 8000 if port < _PRIVILEGED else port, found)] = port
    return found


def _free(wanted: int, taken: Iterable[int]) -> int:
    """That port, where it can be had, else another one."""
    for port in (wanted, 0):
        with closing(socket.socket()) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            if (own := int(sock.getsockname()[1])) not in taken:
                return own
    return _free(0, taken)
