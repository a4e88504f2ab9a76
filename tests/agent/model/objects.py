"""Short ways to write objects for tests, in Kubernetes' own words."""

from typing import Any

import msgspec

from agent.model.kinds import KINDS
from agent.model.model import Change, Model, apply
from agent.model.resources import ADDRESS, AUTHORIZATION, Resource
from agent.model.schema.objects import Object, key_of
from protocols.security_pb2 import Authorization
from protocols.workload_pb2 import Address, Service, Workload

_PARTS = ("spec", "status", "addressType", "ports", "endpoints")


def make(kind: str, name: str, namespace: str = "", **fields: Any) -> Object:
    """An object; fields of the metadata stand beside `spec` and `status`."""
    top: dict[str, Any] = {part: fields.pop(part) for part in _PARTS if part in fields}
    if KINDS[kind].namespaced:
        namespace = namespace or "default"
    metadata = {"name": name, "namespace": namespace, **fields}
    type_ = KINDS[kind].struct
    assert type_
    item: Object = msgspec.convert({**top, "metadata": metadata}, type_)
    return item


def pod(name: str, ip: str = "10.0.0.1", spec: dict[str, Any] | None = None, **fields: Any) -> Object:
    """A pod that runs and is ready, as an API server has it: with a service account."""
    status = {
        "phase": "Running",
        "podIPs": [{"ip": ip}] if ip else [],
        "conditions": [{"type": "Ready", "status": "True"}],
        **fields.pop("status", {}),
    }
    spec = {"nodeName": "n1", "serviceAccountName": "default", **(spec or {})}
    return make("Pod", name, spec=spec, status=status, **fields)


def service(name: str, ports: list[dict[str, Any]] | None = None, **spec: Any) -> Object:
    """A Service that selects `app: <name>` unless told otherwise."""
    metadata = spec.pop("metadata", {})
    spec = {"selector": {"app": name}, "ports": ports or [{"port": 80}], **spec}
    return make("Service", name, spec=spec, **metadata)


def endpoint_slice(
    name: str, of: str, endpoints: list[dict[str, Any]], ports: list[dict[str, Any]], **fields: Any
) -> Object:
    """An EndpointSlice of a Service."""
    labels = {"kubernetes.io/service-name": of}
    return make(
        "EndpointSlice", name, labels=labels, addressType="IPv4", endpoints=endpoints, ports=ports, **fields
    )


def service_entry(name: str = "api", metadata: dict[str, Any] | None = None, **spec: Any) -> Object:
    """A ServiceEntry for api.example, port 80, unless told otherwise."""
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    spec = {"hosts": ["api.example"], "ports": ports, "resolution": "STATIC", **spec}
    return make("ServiceEntry", name, spec=spec, **(metadata or {}))


def workload_entry(name: str, address: str, **spec: Any) -> Object:
    """A WorkloadEntry at this address."""
    return make("WorkloadEntry", name, spec={"address": address, **spec})


def changes(*items: Object) -> list[Change]:
    """What adds these objects."""
    return [(key_of(item), item) for item in items]


def model_of(*items: Object, base: Model | None = None) -> Model:
    """A model that holds these objects."""
    return apply(base or Model(), changes(*items))[0]


def addresses(model: Model) -> dict[str, Address]:
    """All workloads and services of a model, by name."""
    return {one.name: Address.FromString(one.body) for one in resources(model, ADDRESS)}


def policies(model: Model) -> dict[str, Authorization]:
    """All policies of a model, by name."""
    return {one.name: Authorization.FromString(one.body) for one in resources(model, AUTHORIZATION)}


def resources(model: Model, type_url: str) -> list[Resource]:
    """All resources of a type."""
    return [one for those in model.resources.values() for one in those if one.type_url == type_url]


def workload(model: Model, name: str) -> Workload:
    """The workload of a pod of the namespace `default`."""
    return addresses(model)[f"Kubernetes//Pod/default/{name}"].workload


def service_of(model: Model, name: str) -> Service:
    """The service of that name in the namespace `default`."""
    return addresses(model)[f"default/{name}.default.svc.cluster.local"].service
