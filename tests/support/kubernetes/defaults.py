"""What the server fills in, and what it keeps from a writer, kind by kind."""

from typing import Any

from tests.support.kubernetes.custom import complete
from tests.support.kubernetes.errors import Cause, invalid
from tests.support.kubernetes.kinds import Kind
from tests.support.kubernetes.storage import Object, Storage

Spec = dict[str, Any]


def before_create(kind: Kind, obj: Object, storage: Storage) -> None:
    """Change, in place, an object that is about to be created. Raises Refused (422)."""
    if kind.status:
        obj.pop("status", None)
    fill(kind, obj)
    if kind.generations:
        obj["metadata"]["generation"] = 1
    if kind.resource == "pods":
        obj["status"] = {"phase": "Pending"}
    elif kind.resource == "namespaces":
        obj["spec"], obj["status"] = {"finalizers": ["kubernetes"]}, {"phase": "Active"}
    elif kind.resource == "services":
        obj["status"] = {"loadBalancer": {}}
        _give_address(kind, obj, storage)
    elif kind.name == "CustomResourceDefinition":
        complete(obj, kind)


def before_update(kind: Kind, obj: Object, old: Object) -> None:
    """Change, in place, an object that is about to replace `old` through the main resource."""
    fill(kind, obj)
    if kind.status:
        obj.pop("status", None)
        if "status" in old:
            obj["status"] = old["status"]
    if kind.resource == "services" and not obj["spec"].get("clusterIP"):
        for field in ("clusterIP", "clusterIPs"):
            if field in old["spec"] and obj["spec"]["type"] != "ExternalName":
                obj["spec"][field] = old["spec"][field]
    if kind.generations and _content(obj) != _content(old):
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def before_status_update(obj: Object, old: Object) -> Object:
    """What is stored when `obj` is written to the status subresource: only its status counts."""
    kept = {key: value for key, value in old.items() if key != "status"}
    return kept | ({"status": obj["status"]} if "status" in obj else {})


def fill(kind: Kind, obj: Object) -> None:
    """The defaults that clients look at."""
    match kind.resource:
        case "pods":
            _fill_pod(obj.setdefault("spec", {}))
        case "deployments.apps" | "daemonsets.apps":
            template = obj.setdefault("spec", {}).setdefault("template", {})
            _fill_pod(template.setdefault("spec", {}))
        case "services":
            _fill_service(obj.setdefault("spec", {}))
        case "secrets":
            obj.setdefault("type", "Opaque")


def _content(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in _APART}


_APART = ("kind", "apiVersion", "metadata", "status")


def _fill_pod(spec: Spec) -> None:
    for container in [*spec.get("initContainers", ()), *(spec.get("containers") or ())]:
        container.setdefault("resources", {})
        for port in container.get("ports", ()):
            port.setdefault("protocol", "TCP")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec["serviceAccountName"] = spec["serviceAccount"] = spec.get("serviceAccountName") or "default"
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")


def _fill_service(spec: Spec) -> None:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if spec.get("clusterIP") != "None":
            port.setdefault("targetPort", port.get("port"))
    if spec["type"] != "ExternalName":
        if "ipFamilies" not in spec:
            spec["ipFamilies"], spec["ipFamilyPolicy"] = ["IPv4"], "SingleStack"
        spec.setdefault("internalTrafficPolicy", "Cluster")


def _give_address(kind: Kind, obj: Object, storage: Storage) -> None:
    """A cluster IP from 10.96.0.0/16, as kube-apiserver does by default."""
    spec = obj["spec"]
    if spec["type"] == "ExternalName":
        return
    wanted = spec.get("clusterIP") or next(iter(spec.get("clusterIPs", ())), "")
    if wanted != "None":
        used = {record.fields["spec.clusterIP"] for record in storage.of(kind).records.values()}
        if wanted in used:
            taken = f'Invalid value: "{wanted}": provided IP is already allocated'
            cause = Cause("FieldValueInvalid", "spec.clusterIPs[0]", taken)
            raise invalid(kind, obj["metadata"]["name"], [cause])
        addresses = (f"10.96.{number >> 8}.{number & 255}" for number in range(1, 1 << 16))
        wanted = wanted or next(address for address in addresses if address not in used)
        spec.setdefault("clusterIPs", [wanted])
    spec["clusterIP"] = wanted
    spec.setdefault("clusterIPs", [wanted])
