"""Short ways to write routes for tests, and to read what has been made of them."""

from typing import Any

from agent.model.model import Model
from agent.model.resources import ROUTES
from agent.model.schema.objects import Object
from protocols import routes_pb2 as pb
from tests.agent.model.objects import make, model_of, resources, service

HTTP = [{"port": 80, "name": "http"}]
WEB, API = "web.default.svc.cluster.local", "api.default.svc.cluster.local"
Spec = dict[str, Any]


def web(name: str = "web", namespace: str = "default", **spec: Any) -> Object:
    """A Service with an HTTP port, 80, unless told otherwise."""
    metadata = {"namespace": namespace, **spec.pop("metadata", {})}
    return service(name, spec.pop("ports", HTTP), metadata=metadata, **spec)


def to(host: str, subset: str = "", weight: int | None = None, port: int = 0, **more: Any) -> Spec:
    """One of the destinations of a VirtualService's rule."""
    destination: Spec = {"host": host}
    destination |= {"subset": subset} if subset else {}
    destination |= {"port": {"number": port}} if port else {}
    return {"destination": destination, **({} if weight is None else {"weight": weight}), **more}


def virtual_service(
    *http: Spec, name: str = "web", namespace: str = "default", created: str = "", **spec: Any
) -> Object:
    """For the host `web` unless told otherwise."""
    rules = {"http": list(http)} if http else {}
    since = {"creationTimestamp": created} if created else {}
    return make("VirtualService", name, namespace, spec={"hosts": ["web"], **rules, **spec}, **since)


def rule(name: str = "web", namespace: str = "default", created: str = "", **spec: Any) -> Object:
    """A DestinationRule, for the host `web` unless told otherwise."""
    since = {"creationTimestamp": created} if created else {}
    return make("DestinationRule", name, namespace, spec={"host": "web", **spec}, **since)


def versions(*names: str) -> list[Spec]:
    """Subsets by the label `version`."""
    return [{"name": name, "labels": {"version": name}} for name in names]


def http_route(
    *rules: Spec, name: str = "web", namespace: str = "default", kind: str = "HTTPRoute", **more: Any
) -> Object:
    """For the Service `web` of the namespace `default` unless told otherwise."""
    parent = {"group": "", "kind": "Service", "name": "web", "namespace": "default"}
    created = {"creationTimestamp": more.pop("created")} if "created" in more else {}
    parents = [{**parent, **one} for one in more.pop("parents", [{}])]
    return make(kind, name, namespace, spec={"parentRefs": parents, "rules": list(rules), **more}, **created)


def backend(name: str, weight: int | None = None, **more: Any) -> Spec:
    return {"name": name, "port": 80, **({} if weight is None else {"weight": weight}), **more}


def routes(model: Model) -> dict[str, pb.ServiceRoutes]:
    """All routes of a model, by name."""
    return {one.name: pb.ServiceRoutes.FromString(one.body) for one in resources(model, ROUTES)}


def port(*items: Object, host: str = WEB, number: int = 80) -> pb.PortRoutes | None:
    """What is told of a port; None: nothing."""
    found = routes(model_of(*items)).get(
        f"{host.split('.')[1]}/{host}" if "svc" in host else f"default/{host}"
    )
    return next((one for one in found.ports if one.port == number), None) if found else None


def scope(*items: Object, namespace: str = "", host: str = WEB, number: int = 80) -> pb.Scope:
    """What holds for clients of a namespace without labels (empty: one of which nothing is said)."""
    found = port(*items, host=host, number=number)
    assert found, "nothing is told of the port"
    unlabelled = (one for one in found.scopes if not one.labels)
    return next(one for one in unlabelled if not one.namespaces or namespace in one.namespaces)


def shares(scope: pb.Scope, index: int = 0) -> list[tuple[str, int]]:
    """Where an HTTP rule sends to, with weights: host/subset:port, or the status of what leads nowhere."""
    return [(_named(scope, one), one.weight) for one in scope.http[index].forward.destinations]


def connection_shares(scope: pb.Scope, index: int = 0) -> list[tuple[str, int]]:
    """The same of a rule of TCP."""
    return [(_named(scope, one), one.weight) for one in scope.tcp[index].destinations]


def _named(scope: pb.Scope, one: pb.Weighted) -> str:
    if one.HasField("unroutable"):
        return f"{one.unroutable.status} {one.unroutable.flag}".strip()
    found = scope.destinations[one.destination]
    short = found.hostname.removesuffix(".svc.cluster.local")
    return f"{short}/{found.subset}:{found.port}" if found.subset else f"{short}:{found.port}"
