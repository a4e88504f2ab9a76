"""What becomes of each route and rule that is taken, a tunnel takes as well."""

from collections.abc import Iterator

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from agent.model.model import Model, apply
from agent.model.resources import ROUTES
from agent.model.schema.objects import Object, key_of
from agent.sources.manifests import parse
from protocols.discovery_pb2 import DeltaDiscoveryResponse
from tests.agent.model.objects import make, resources
from tests.validation.table import rows
from tunnel._core import Core

_KINDS = ("VirtualService", "DestinationRule", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute")
_PORTS = ({"port": 80, "name": "http"}, {"port": 81, "name": "tcp"}, {"port": 443, "name": "tls"})


def services() -> Iterator[Object]:
    """Those that the table's manifests name, and routes to one of them so that rules are looked at."""
    for name in ("a", "b"):
        yield make("Service", name, "shop", spec={"ports": list(_PORTS)})
    route = [{"destination": {"host": "a", "port": {"number": 80}}}]
    yield make("VirtualService", "routes", "shop", spec={"hosts": ["a"], "http": [{"route": route}]})


@pytest.fixture(scope="module")
def core() -> Core:
    return Core(node="node", workers=1, spin_us=0, access_log="off")


def test_a_tunnel_takes_what_istio_and_we_take(core: Core) -> None:
    base, _ = apply(Model(), [(key_of(item), item) for item in services()])
    told: dict[tuple[str, bytes], str] = {}
    for row in rows():
        if row.taken and row.name.startswith(_KINDS):
            model, _ = apply(base, parse(row.text.encode()).objects.items())
            told |= {(one.name, one.body): row.name for one in resources(model, ROUTES)}
    assert len(told) > 150
    refused = {row: core.apply(push(*resource), []).rejected for resource, row in told.items()}
    assert {row: why for row, why in refused.items() if why} == {}


def push(name: str, body: bytes) -> bytes:
    message = DeltaDiscoveryResponse(type_url=ROUTES)
    message.resources.add(name=name, version="1", resource=AnyMessage(type_url=ROUTES, value=body))
    return message.SerializeToString()
