"""WorkloadEntry -> `istio.workload.Workload`."""

from collections.abc import Iterator
from functools import partial

from agent.model.engine.kind import NETWORKING, Descriptor
from agent.model.engine.view import View
from agent.model.resources import Resource
from agent.model.schema.istio.workload_entry import WorkloadEntry
from agent.model.schema.objects import key_of
from agent.model.translation import waypoint
from agent.model.translation.policy_selection import named_policies
from agent.model.translation.ports import of_entry, ports_of
from agent.model.translation.workloads import (
    NO_ADDRESS,
    WORKLOAD_NAME,
    identify,
    may_make,
    new_workload,
    outside_workload,
    say_how_it_is_reached,
    tell_labels,
    uid_of,
)
from protocols.workload_pb2 import UNHEALTHY

_GROUP, _ = NETWORKING
_REGISTRATION = "istio.io/autoRegistrationGroup"


def _translate(view: View, entry: WorkloadEntry) -> Iterator[Resource]:
    """With the services that select it."""
    metadata, labels = entry.metadata, entry.labels
    target = of_entry(entry.spec)
    selecting = view.services_of(metadata.namespace, labels)
    services = {service: ports_of(item, target) for item, service in selecting}
    message = new_workload(view, uid_of(view.mesh, _GROUP, key_of(entry)), entry, services)
    if not entry.healthy:
        message.status = UNHEALTHY
    name = metadata.annotations.get(_REGISTRATION) or labels.get(WORKLOAD_NAME) or metadata.name
    identify(message, entry.spec.service_account, name, labels)
    tell_labels(view, message, labels)
    message.authorization_policies.extend(named_policies(view, entry))
    say_how_it_is_reached(message, labels, metadata.annotations, enrolled=False)
    if passed := waypoint.before(view, entry, "workload"):
        message.waypoint.CopyFrom(passed)
    yield outside_workload(message, entry.spec)


def _problems(view: View, item: WorkloadEntry) -> Iterator[str]:
    yield from waypoint.problems(view, item)
    if not item.spec.address:
        yield NO_ADDRESS


KIND = Descriptor(
    "WorkloadEntry",
    *NETWORKING,
    "workloadentries",
    WorkloadEntry,
    critical=True,
    endpoints=True,
    index=waypoint.index,
    translate=_translate,
    problems=_problems,
    may_make=partial(may_make, _GROUP),
)
