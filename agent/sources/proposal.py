"""What policies that somebody has written would change, found out without changing it."""

from collections.abc import Container, Iterable, Iterator

from google.protobuf.any_pb2 import Any
from msgspec.structs import replace

from agent.model.engine.refusal import last_good, said
from agent.model.model import Model, apply, pods_on
from agent.model.resources import ADDRESS, AUTHORIZATION, Delta, Resource
from agent.model.schema.istio.policy import Policy
from agent.model.schema.objects import Key, Object, key_of
from agent.sources import manifests
from protocols.discovery_pb2 import DeltaDiscoveryResponse
from protocols.proposal import File, Proposal, Remark


def propose(model: Model, node: str, files: Iterable[File], now: str) -> Proposal:
    """Put the policies in `files` into a copy of the model, those that are refused as they would be in force.

    now: when objects that are new count as created, as their source would write it; empty if it would not.
    """
    proposal, places, policies = Proposal(), dict[Key, str](), dict[Key, Policy]()
    for file in files:
        manifest = manifests.parse(file.text.encode())
        refused = {key: _refused(model, item) for key, item in manifest.refused.items()}
        for line, key, reason in manifest.problems:
            proposal.invalid.append(Remark(f"{file.name}:{line}", str(key or "document"), reason))
        for group, kind in sorted(manifest.strangers):
            stranger = Remark(file.name, f"{kind} ({group or 'v1'})", "not read by this version")
            proposal.left_out.append(stranger)
        for key, item in {**manifest.objects, **refused}.items():
            if not isinstance(item, Policy):
                proposal.left_out.append(Remark(file.name, str(key), "no policy"))
            elif key in places:
                text = f"also in {places[key]}, which takes precedence: remove one of them"
                proposal.invalid.append(Remark(file.name, str(key), text))
            else:
                places[key], policies[key] = file.name, _dated(model, key, item, now)
    after, delta = apply(model, policies.items())
    for key, place in places.items():
        texts = (said(policies[key]), after.problems.get(key))
        proposal.problems.extend(Remark(place, str(key), text) for text in texts if text)
    pods = (pod.metadata for pod in pods_on(model, node))
    own = {f"{model.mesh.cluster}//Pod/{pod.namespace}/{pod.name}" for pod in pods}
    proposal.pushes = [*_pushes(delta, own)]
    return proposal


def _refused(model: Model, item: Object) -> Object:
    if not isinstance(item, Policy) or not item.refusal:
        return item
    return last_good(model.store.objects.get(key_of(item)), item.refusal.reason) or item


def _dated(model: Model, key: Key, item: Policy, now: str) -> Policy:
    """As old as the object whose place it takes: of several that contradict each other the oldest counts."""
    if item.metadata.creation_timestamp:
        return item
    former = model.store.objects.get(key)
    since = former.metadata.creation_timestamp if isinstance(former, Policy) else now
    return replace(item, metadata=replace(item.metadata, creation_timestamp=since))


def _pushes(delta: Delta, own: Container[str]) -> Iterator[bytes]:
    """Policies before the workloads that name them; of those only the node's own are judged by policies."""
    for type_url in (AUTHORIZATION, ADDRESS):
        response = DeltaDiscoveryResponse(type_url=type_url)
        for resource in delta.changed:
            if resource.type_url == type_url and (type_url == AUTHORIZATION or resource.name in own):
                _add(response, resource)
        response.removed_resources.extend(name for url, name in delta.removed if url == type_url)
        yield response.SerializeToString()


def _add(response: DeltaDiscoveryResponse, resource: Resource) -> None:
    body = Any(type_url=resource.type_url, value=resource.body)
    response.resources.add(name=resource.name, version=resource.version, resource=body)
