"""What is left of refused services: whom they select, for the policies that name them. Nobody sees them.

Each has the name of its kind, of which keys are made.
"""

from agent.model.schema import kubernetes
from agent.model.schema.istio import service_entry


class Hidden:
    """What has taken a refused object's place."""

    __slots__ = ()


class Service(kubernetes.Service, Hidden, frozen=True):
    """A refused one."""


class ServiceEntry(service_entry.ServiceEntry, Hidden, frozen=True):
    """A refused one."""
