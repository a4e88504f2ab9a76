"""Pod -> `istio.workload.Workload`."""

import re
from collections.abc import Iterator
from functools import partial

from agent.model.engine.kind import CORE, Descriptor
from agent.model.engine.store import Entry, depends_on
from agent.model.engine.view import NETWORK, View
from agent.model.mesh import enrolled, is_gateway
from agent.model.resources import Resource, Template
from agent.model.schema.kubernetes import Node, Pod
from agent.model.schema.objects import Key, Labels, Owner, key_of
from agent.model.translation import egress, waypoint
from agent.model.translation.gateways import pods as gateways
from agent.model.translation.gateways import topology
from agent.model.translation.gateways.attachments import ONE_GATEWAY
from agent.model.translation.policy_selection import named_policies
from agent.model.translation.ports import of_pod, ports_of
from agent.model.translation.services import slice_services
from agent.model.translation.telemetry import name_for
from agent.model.translation.workloads import (
    WORKLOAD_NAME,
    identify,
    locate,
    may_make,
    new_workload,
    say_how_it_is_reached,
    tell_labels,
    templated_workload,
    uid_of,
)
from protocols.workload_pb2 import (
    CRONJOB,
    DEPLOYMENT,
    HOST_NETWORK,
    JOB,
    POD,
    UNHEALTHY,
    Address,
    PortList,
    Workload,
    WorkloadType,
)

_GROUP, _ = CORE
TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_TEMPLATE_HASH = "pod-template-hash"
_ROLLOUT_HASH = "rollouts-pod-template-hash"
_DEPLOYMENT_CONFIG = "deploymentconfig"
_MINUTE = re.compile(r"^\d{8,10}$")


def _index(pod: Pod) -> Iterator[Entry]:
    if pod.spec.node_name:
        yield depends_on(Key("Node", "", pod.spec.node_name))
    if is_gateway(pod):
        yield gateways.PODS
    yield from waypoint.index(pod)


def _dependants(view: View, pod: Pod) -> Iterator[Key]:
    """A gateway's listeners; of pods of one Gateway those of all, which may have served it before."""
    if is_gateway(pod):
        yield gateways.key_of(pod)
        if ONE_GATEWAY in pod.metadata.labels:
            yield from gateways.keys(view)


def _problems(view: View, pod: Pod) -> Iterator[str]:
    yield from waypoint.problems(view, pod)
    if is_gateway(pod):
        yield from topology.problems(pod)


def _translate(view: View, pod: Pod) -> Iterator[Resource]:
    """Nothing while it has no address, and once it has ended."""
    addresses = pod.addresses
    if pod.ended or not addresses:
        return
    uid, template, own = _uid(view, pod), _template(view, pod), Address()
    message = own.workload
    message.uid, message.name, message.node = uid, pod.metadata.name, pod.spec.node_name
    if node := view.store.get(Node, "", pod.spec.node_name):
        locate(message, *(node.metadata.labels.get(key, "") for key in TOPOLOGY))
    yield templated_workload(uid, template, own, addresses)


def _uid(view: View, pod: Pod) -> str:
    return uid_of(view.mesh, _GROUP, key_of(pod))


def _template(view: View, pod: Pod) -> Template:
    """What pods of one template have in common, made once for them: what they share is one object."""
    if view.slices_naming(pod):
        return Template.of(_common(view, pod))
    metadata, spec = pod.metadata, pod.spec
    key = (
        *map(id, (metadata.labels, metadata.annotations, metadata.owner_references)),
        *map(id, (spec.containers, spec.init_containers)),
        metadata.namespace,
        "" if _controller(pod) else metadata.name,  # by which it goes where nothing made it
        metadata.deletion_timestamp is not None,
        spec.service_account_name,
        spec.host_network,
        pod.ready,
    )
    known = view.members.templates(view.store)
    if (template := known.get(key)) is None:
        template = known[key] = Template.of(_common(view, pod))
    return template


def _common(view: View, pod: Pod) -> Workload:
    metadata, spec = pod.metadata, pod.spec
    namespace, labels = metadata.namespace, metadata.labels
    message = new_workload(view, "", pod, _services(view, pod))
    message.name = ""  # as the uid is, each pod's own
    message.network = labels.get(NETWORK) or view.network
    kind, owner = _owner(pod)
    identify(message, spec.service_account_name, owner, labels)
    tell_labels(view, message, labels)
    message.workload_type = kind
    if not pod.ready or metadata.deletion_timestamp is not None:
        message.status = UNHEALTHY
        message.draining = pod.ready
    if spec.host_network:
        message.network_mode = HOST_NETWORK
    message.authorization_policies.extend(named_policies(view, pod))
    message.telemetry = name_for(view, pod)
    message.outbound_traffic_policy = egress.of_workload(view, namespace, labels)
    if passed := waypoint.before(view, pod, "workload"):
        message.waypoint.CopyFrom(passed)
    if pod.has_account:  # without an identity nobody could know that it is the one at a tunnel's other end
        captured = enrolled(pod, view.namespace(namespace))
        say_how_it_is_reached(message, labels, metadata.annotations, captured, native=is_gateway(pod))
    return message


def _services(view: View, pod: Pod) -> dict[str, PortList]:
    """Those that select it, and those without a selector that have an EndpointSlice which names it."""
    target = of_pod(pod)
    selecting = view.services_of(pod.metadata.namespace, pod.metadata.labels)
    services = {service: ports_of(item, target) for item, service in selecting}
    for endpoints in view.slices_naming(pod):
        services = slice_services(view, endpoints, target) | services
    return services


def _owner(pod: Pod) -> tuple[WorkloadType, str]:
    """What made the pod, as telemetry names it: its label's word, else its controller or what made that.

    The Deployment, Rollout or CronJob is guessed from the name of what stands between: a ReplicaSet has its
    maker's name and the hash of the pod template, a Job that of its CronJob and the minute for which it was
    scheduled, a ReplicationController names its DeploymentConfig in a label. A static pod has no maker.
    """
    labels = pod.metadata.labels
    kind, name = _maker(pod, labels)
    return kind, labels.get(WORKLOAD_NAME) or name


def _maker(pod: Pod, labels: Labels) -> tuple[WorkloadType, str]:
    if (owner := _controller(pod)) is None:
        return POD, pod.metadata.name
    stem, _, suffix = owner.name.rpartition("-")
    match owner.kind:
        case "ReplicaSet" if stem and suffix == labels.get(_TEMPLATE_HASH):
            return DEPLOYMENT, stem
        case "ReplicaSet" if stem and suffix == labels.get(_ROLLOUT_HASH):
            return POD, stem
        case "Job":
            scheduled = stem and _MINUTE.match(suffix)
            return (CRONJOB, stem) if scheduled else (JOB, owner.name)
        case "ReplicationController":
            return POD, labels.get(_DEPLOYMENT_CONFIG) or owner.name
    return POD, owner.name


def _controller(pod: Pod) -> Owner | None:
    """What made it; a node makes its static pods' mirrors."""
    owner = next((owner for owner in pod.metadata.owner_references if owner.controller), None)
    return None if owner is None or owner.kind == "Node" else owner


KIND = Descriptor(
    "Pod",
    *CORE,
    "pods",
    Pod,
    critical=True,  # its label enrols
    endpoints=True,
    index=_index,
    dependants=_dependants,
    translate=_translate,
    problems=_problems,
    may_make=partial(may_make, _GROUP),
)
