"""What a cluster's controllers and scheduler would make of manifests. Pure: objects in, objects out.

Two things differ from a cluster, because the lab is there to try a mesh:
- a namespace without a manifest of its own is made when an object names it, and is enrolled in the mesh
  (`istio.io/dataplane-mode: ambient`), except `kube-*` and `istio-system`;
- a Service is dual stack unless it asks for one family.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.errors import SettingsError
from agent.lab import addresses
from agent.lab.manifests import TEMPLATED, Manifest
from agent.model.schema.objects import Key
from agent.sources import documents
from agent.sources.admission import admit_pod

Body = dict[str, Any]

ENROLLED = {"istio.io/dataplane-mode": "ambient"}
WORKLOAD, TEMPLATE = "warren.dev/workload", "warren.dev/template"  # annotations: what a pod was made of
_UNENROLLED_NAMESPACES = ("kube-", "istio-system")
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # apimachinery/util/rand: no vowels, so that no word comes up


@dataclass
class Expansion:
    """One call's work: `objects` are to be written as they are; `pods` still need addresses and a network.

    outdated: pods of the same workloads that are there, and are not wanted any more as they are.
    """

    nodes: Sequence[Body]
    present: Mapping[Key, Body]
    objects: dict[Key, Body] = field(default_factory=dict)
    outdated: list[Key] = field(default_factory=list)
    pods: list[Body] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, body: Body) -> None:
        self.objects[key_of(body)] = body

    def known(self, key: Key) -> bool:
        return key in self.objects or key in self.present


def expand(manifests: Sequence[Manifest], nodes: Sequence[Body], present: Mapping[Key, Body]) -> Expansion:
    """The objects that a cluster of `nodes` (Node objects) holding `present` would gain from `manifests`.

    Pods that are there already stay, unless their workload has changed since. Raises SettingsError, a line
    for each thing that cannot be.
    """
    result = Expansion(nodes, present)
    for manifest in manifests:
        if manifest.key.kind in ("Namespace", "ServiceAccount"):
            result.add(manifest.body)
    for namespace in sorted({"default"} | {m.key.namespace for m in manifests if m.key.namespace}):
        _complete_namespace(result, namespace)
    for manifest in manifests:
        if manifest.key.kind == "Service":
            result.add(_complete_service(result, manifest))
        elif manifest.key.kind == "Pod" or manifest.key.kind in TEMPLATED:
            _place_pods(result, manifest)
        elif manifest.key.kind not in ("Namespace", "ServiceAccount"):
            result.add(manifest.body)  # no controller completes it
    if result.problems:
        raise SettingsError("\n".join(result.problems))
    return result


def key_of(body: Body) -> Key:
    """The key of an object whose namespace, where it has one, is filled in."""
    return Key(documents.kind_of(body), body["metadata"].get("namespace", ""), body["metadata"]["name"])


def node_object(name: str, number: int) -> Body:
    """A Node with its addresses and topology labels: all nodes in one region, each in a zone of its own."""
    labels = {
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/region": "lab",
        "topology.kubernetes.io/zone": f"lab-{number}",
    }
    status = [
        {"type": "InternalIP", "address": str(address)}
        for address in (addresses.node_v4(number), addresses.node_v6(number))
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"addresses": status},
    }


def _complete_namespace(result: Expansion, namespace: str) -> None:
    if not result.known(Key("Namespace", "", namespace)):
        labels = {} if namespace.startswith(_UNENROLLED_NAMESPACES) else ENROLLED
        metadata = {"name": namespace, "labels": dict(labels)}
        result.add({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    if not result.known(Key("ServiceAccount", namespace, "default")):
        result.add(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": namespace},
            }
        )


def _complete_service(result: Expansion, manifest: Manifest) -> Body:
    """A Service with what the API server would have assigned: families and cluster addresses."""
    body, key = manifest.body, manifest.key
    spec = dict(body.get("spec", {}))
    if spec.get("type") == "ExternalName":
        return body
    policy = spec.get("ipFamilyPolicy", "SingleStack" if "ipFamilies" in spec else "PreferDualStack")
    families = spec.get("ipFamilies") or ["IPv4", "IPv6"]
    if policy == "SingleStack":
        families = families[:1]
    elif len(families) == 1:
        families = [*families, *{"IPv4", "IPv6"}.difference(families)]
    spec["ipFamilies"] = families
    if spec.get("clusterIP") != "None":
        asked = spec.get("clusterIPs") or [spec[name] for name in ("clusterIP",) if name in spec]
        number = addresses.service_number(key.namespace, key.name, _taken(result, key))
        own = {"IPv4": str(addresses.SERVICES_V4[number]), "IPv6": str(addresses.SERVICES_V6[number])}
        spec["clusterIPs"] = asked or [own[family] for family in families]
        spec["clusterIP"] = spec["clusterIPs"][0]
    ports = spec.get("ports", [])
    spec["ports"] = [{"protocol": "TCP", "targetPort": port["port"], **port} for port in ports]
    return {**body, "spec": spec}


def _taken(result: Expansion, own: Key) -> set[int]:
    """The numbers of all other Services' addresses."""
    numbers = set()
    for key, body in {**result.present, **result.objects}.items():
        if key.kind == "Service" and key != own:
            for text in body["spec"].get("clusterIPs", ()):
                if number := addresses.number_of_service(text):
                    numbers.add(number)
    return numbers


def _place_pods(result: Expansion, manifest: Manifest) -> None:
    account = admit_pod(_template(manifest.body))["spec"].get("serviceAccountName")
    if account and not result.known(Key("ServiceAccount", manifest.key.namespace, account)):
        result.problems.append(
            f"{manifest.where}: {manifest.key}: there is no ServiceAccount {account} in "
            f"namespace {manifest.key.namespace}: add one"
        )
        return
    wanted = [*_instances(result, manifest)]
    outdated = {*_outdated(result, manifest.key, {key_of(body): body for body in wanted})}
    result.outdated.extend(sorted(outdated))
    for body in wanted:
        if result.known(key_of(body)) and key_of(body) not in outdated:
            continue
        if node := _schedule(result, body):
            body["spec"]["nodeName"] = node
            result.add(body)
            result.pods.append(body)
        else:
            result.problems.append(f"{manifest.where}: {manifest.key}: no node fits nodeName or nodeSelector")


def _outdated(result: Expansion, workload: Key, wanted: Mapping[Key, Body]) -> Iterator[Key]:
    """Of the pods of a workload those that are surplus, or made of another template."""
    for key, body in result.present.items():
        if workload_of(body) == workload:
            now = wanted.get(key)
            if now is None or _made_of(now) != _made_of(body):
                yield key


def workload_of(pod: Body) -> Key | None:
    """What a pod is an instance of; None for what is no pod of the lab's."""
    kind, _, name = pod["metadata"].get("annotations", {}).get(WORKLOAD, "").partition("/")
    return Key(kind, pod["metadata"].get("namespace", ""), name) if pod["kind"] == "Pod" and name else None


def _made_of(pod: Body) -> str:
    template: str = pod["metadata"]["annotations"].get(TEMPLATE, "")
    return template


def _template(body: Body) -> Body:
    template: Body = body if body["kind"] == "Pod" else body["spec"]["template"]
    return template


def _instances(result: Expansion, manifest: Manifest) -> Iterator[Body]:
    """The pods of one manifest, not yet bound to nodes."""
    body, (kind, namespace, name) = manifest.body, manifest.key
    if kind == "Pod":
        yield _pod(manifest.key, name, body["metadata"], body["spec"], [])
        return
    template, spec, owners = body["spec"]["template"], body["spec"], [_owner(kind, name)]
    meta = template.get("metadata", {})
    if kind == "StatefulSet":
        for ordinal in range(spec.get("replicas", 1)):
            own = {"hostname": f"{name}-{ordinal}", "subdomain": spec.get("serviceName", "")}
            yield _pod(manifest.key, f"{name}-{ordinal}", meta, {**template["spec"], **own}, owners)
    elif kind == "DaemonSet":
        for node in result.nodes:
            there = node["metadata"]["name"]
            suffix = _word(f"{namespace}/{name}/{there}", 5)
            yield _pod(
                manifest.key, f"{name}-{suffix}", meta, {**template["spec"], "nodeName": there}, owners
            )
    else:
        yield from _replicas(manifest, template)


def _replicas(manifest: Manifest, template: Body) -> Iterator[Body]:
    """Pods named like a cluster's: `<deployment>-<hash of the template>-<suffix>`."""
    kind, namespace, name = manifest.key
    meta = dict(template.get("metadata", {}))
    owner = _owner(kind, name)
    if kind == "Deployment":
        digest = _word(json.dumps(template, sort_keys=True, default=str), 10)
        meta["labels"] = {**meta.get("labels", {}), "pod-template-hash": digest}
        owner = _owner("ReplicaSet", f"{name}-{digest}")
    count = manifest.body["spec"].get("parallelism" if kind == "Job" else "replicas", 1)
    for ordinal in range(count):
        suffix = _word(f"{namespace}/{owner['name']}/{ordinal}", 5)
        yield _pod(manifest.key, f"{owner['name']}-{suffix}", meta, template["spec"], [owner])


def _owner(kind: str, name: str) -> Body:
    version = "batch/v1" if kind == "Job" else "apps/v1"
    own = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{name}"))  # an API server insists on one
    return {"apiVersion": version, "kind": kind, "name": name, "uid": own, "controller": True}


def _word(text: str, length: int) -> str:
    """Letters as in a cluster's generated names, the same for the same text."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    letters = []
    for _ in range(length):
        number, rest = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[rest])
    return "".join(letters)


def _pod(workload: Key, name: str, meta: Body, spec: Body, owners: Iterable[Body]) -> Body:
    labels, annotations = dict(meta.get("labels", {})), dict(meta.get("annotations", {}))
    template = _word(json.dumps([labels, annotations, spec], sort_keys=True, default=str), 10)
    metadata = {
        "name": name,
        "namespace": workload.namespace,
        "uid": str(uuid.uuid4()),
        "labels": labels,
        "annotations": {**annotations, WORKLOAD: f"{workload.kind}/{workload.name}", TEMPLATE: template},
        "ownerReferences": list(owners),
    }
    return admit_pod({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": dict(spec)})


def _schedule(result: Expansion, pod: Body) -> str | None:
    """The name of the node that holds fewest pods of the same owner, then fewest pods.

    The first of equals.
    """
    spec, owners = pod["spec"], pod["metadata"]["ownerReferences"]
    bound = [body for body in {**result.present, **result.objects}.values() if body["kind"] == "Pod"]

    def load(node: Body) -> tuple[int, int]:
        there = [body for body in bound if body["spec"]["nodeName"] == node["metadata"]["name"]]
        return sum(body["metadata"]["ownerReferences"] == owners for body in there if owners), len(there)

    fitting = [
        node
        for node in result.nodes
        if spec.get("nodeName", node["metadata"]["name"]) == node["metadata"]["name"]
        and spec.get("nodeSelector", {}).items() <= node["metadata"].get("labels", {}).items()
    ]
    return min(fitting, key=load)["metadata"]["name"] if fitting else None
