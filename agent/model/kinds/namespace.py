"""Namespace: its labels enrol its pods, and say what holds for all that is in it."""

from collections.abc import Iterator

from agent.model.engine.kind import CORE, Descriptor
from agent.model.engine.view import View
from agent.model.mesh import Mesh
from agent.model.resources import ROUTES
from agent.model.schema.kubernetes import Namespace
from agent.model.schema.objects import Key
from agent.model.translation import waypoint
from agent.model.translation.routes import dependants


def _dependants(view: View, item: Namespace) -> Iterator[Key]:
    for kind in waypoint.INHERIT:
        yield from view.store.find(kind, item.metadata.name)
    yield from dependants.of_namespace(view, item.metadata.name)


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    """Its annotation asks for the routes of its services."""
    return type_url == ROUTES and name.startswith(f"{key.name}/")


KIND = Descriptor(
    "Namespace",
    *CORE,
    "namespaces",
    Namespace,
    namespaced=False,
    critical=True,  # its label enrols
    dependants=_dependants,
    may_make=_may_make,
    index=waypoint.index,
    problems=waypoint.problems,
)
