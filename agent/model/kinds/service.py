"""Service -> `istio.workload.Service`."""

from collections.abc import Iterator
from typing import Any

from agent.model.engine.kind import CORE, DISCOVERY, Descriptor, Raw, Reading
from agent.model.engine.reading import part
from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.engine.visibility import HIDING
from agent.model.mesh import Mesh
from agent.model.resources import ADDRESS, ROUTES
from agent.model.schema import hidden
from agent.model.schema.kubernetes import Service, ServiceSpec
from agent.model.schema.objects import Key
from agent.model.translation import services
from agent.model.translation.routes import dependants
from agent.model.translation.workloads import uid_of


def _index(item: Service) -> Iterator[Entry]:
    yield from services.index(item)
    if not item.selector:
        yield "unselective", item.metadata.namespace


def _problems(view: View, item: Service) -> Iterator[str]:
    yield from services.problems(view, item)


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    """Its service, and all that the namespace's slices make: which are its own cannot be told."""
    namespace = key.namespace
    own = f"{namespace}/{key.name}.{namespace}.svc.{mesh.domain}"
    slices = uid_of(mesh, DISCOVERY[0], Key("EndpointSlice", namespace, ""))
    if type_url == ROUTES:
        return name == own
    return type_url == ADDRESS and (name == own or name.startswith(slices))


def _strictest(spec: Raw, clear: bool, annotations: Any) -> Reading:
    return Reading(part(spec, ("selector",), ServiceSpec) or ServiceSpec(), HIDING, hidden.Service)


KIND = Descriptor(
    "Service",
    *CORE,
    "services",
    Service,
    critical=True,  # policies are attached to it; to unknown addresses pods speak plainly
    index=_index,
    dependants=dependants.of_service,
    translate=services.translate,
    problems=_problems,
    may_make=_may_make,
    strictest=_strictest,
)
