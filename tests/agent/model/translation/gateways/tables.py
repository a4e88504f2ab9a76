"""Short ways to write Gateways for tests, and to read what has been made of them."""

from typing import Any

from agent.model.mesh import GATEWAY
from agent.model.model import Model
from agent.model.resources import LISTENERS
from agent.model.schema.gateway.base import GATEWAY as GATEWAY_API
from agent.model.schema.objects import Object
from agent.model.translation.gateways.attachments import CONTROLLER
from protocols import routes_pb2 as pb
from tests.agent.model.objects import make, model_of, pod, resources
from tests.agent.model.translation.routes.tables import Spec, backend, http_route, web

INGRESS = {"istio": "ingressgateway", GATEWAY: "true"}


def ingress(name: str = "ingress", labels: Spec = INGRESS) -> Object:
    """A gateway's pod."""
    return pod(name, "10.0.9.1", namespace="edge", labels=dict(labels))


def http_server(*hosts: str, port: int = 80, **more: Any) -> Spec:
    return {"port": {"number": port, "protocol": "HTTP"}, "hosts": list(hosts) or ["*"], **more}


def gateway(*servers: Spec, name: str = "door", namespace: str = "default", **more: Any) -> Object:
    """Istio's, for the pod of `ingress`."""
    created = {"creationTimestamp": more.pop("created")} if "created" in more else {}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": list(servers), **more}
    return make("Gateway", name, namespace, spec=spec, **created)


def listeners(model: Model, name: str = "edge/ingress") -> pb.GatewayListeners:
    found = {one.name: one for one in resources(model, LISTENERS)}
    return pb.GatewayListeners.FromString(found[name].body)


def told(*items: Object) -> dict[int, pb.Listener]:
    """What the ingress is told, by port, where there are the Services `web` and `api`."""
    model = model_of(web(), web("api"), ingress(), *items)
    return {one.port: one for one in listeners(model).listeners}


def hosts(*items: Object, port: int = 80) -> dict[str, pb.Scope]:
    """What holds for requests to each host of a port, of all of its servers."""
    servers = told(*items)[port].servers
    virtual = (one for server in servers for one in server.http.hosts)
    return {host: one.scope for one in virtual for host in one.hosts}


def answers(scope: pb.Scope) -> list[str]:
    """To which services rules lead, the first destination of each."""
    rules = [one.forward.destinations[0] for one in scope.http if one.HasField("forward")]
    return [scope.destinations[one.destination].hostname.partition(".")[0] for one in rules]


def gateway_class(name: str = "warren", controller: str = CONTROLLER) -> Object:
    return make("GatewayClass", name, spec={"controllerName": controller})


def listener(name: str = "http", port: int = 80, protocol: str = "HTTP", **more: Any) -> Spec:
    return {"name": name, "port": port, "protocol": protocol, **more}


def kubernetes(*listeners: Spec, name: str = "door", namespace: str = "default", **more: Any) -> Object:
    """The Gateway API's, of our class."""
    created = {"creationTimestamp": more.pop("created")} if "created" in more else {}
    spec = {"gatewayClassName": "warren", "listeners": list(listeners or (listener(),)), **more}
    return make("KubernetesGateway", name, namespace, spec=spec, **created)


def route(*rules: Spec, kind: str = "HTTPRoute", **more: Any) -> Object:
    """For the Gateway `door` of the namespace `default`, to `web`, unless told otherwise."""
    parent = {"group": GATEWAY_API, "kind": "Gateway", "name": "door", "namespace": "default"}
    parents = [{**parent, **one} for one in more.pop("parents", [{}])]
    return http_route(*(rules or ({"backendRefs": [backend("web")]},)), kind=kind, parents=parents, **more)
