"""What the authors of Gateways should know, although these are in force."""

from collections.abc import Iterator

from agent.model.engine.view import View
from agent.model.schema.istio.gateway import Gateway, Server
from agent.model.translation.gateways import istio, pods


def of_gateway(view: View, item: Gateway) -> Iterator[str]:
    if not any(istio.serves(item, pod.metadata.labels) for pod in pods.pods(view)):
        yield "selector: no gateway's pod has these labels; nothing listens for it yet"
    for index, server in enumerate(item.spec.servers):
        yield from (f"servers[{index}]: {text}" for text in _server(server))


def _server(server: Server) -> Iterator[str]:
    if server.bind:
        yield "bind is not enforced: it listens on all addresses of the pod"
    if server.default_endpoint:
        yield "defaultEndpoint is not enforced"
