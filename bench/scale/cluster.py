"""A large cluster as Kubernetes' objects: as many as wanted, each as a cluster would have written it."""

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

Object = dict[str, Any]

NAMESPACES = 100
ZONES = ("eu-1a", "eu-1b", "eu-1c")
_SEED = uuid.UUID("d9d1f0a5-2a5e-4f0b-8c5e-0f2f6d3b9a11")
_BORN = "2026-01-05T10:00:00Z"


class Size(NamedTuple):
    """How many of each; pods are spread evenly over services and nodes."""

    services: int = 5_000
    pods: int = 50_000
    nodes: int = 1_000


def namespace_of(service: int) -> str:
    return f"team-{service % NAMESPACES:03}"


def namespaces(size: Size) -> Iterator[Object]:
    """All of them in the mesh."""
    for index in range(min(NAMESPACES, size.services)):
        labels = {"istio.io/dataplane-mode": "ambient"}
        yield _object("v1", "Namespace", "", namespace_of(index), labels)


def nodes(size: Size) -> Iterator[Object]:
    for index in range(size.nodes):
        zone = ZONES[index % len(ZONES)]
        labels = {
            "kubernetes.io/hostname": node_name(index),
            "topology.kubernetes.io/region": "eu-1",
            "topology.kubernetes.io/zone": zone,
        }
        address = {"type": "InternalIP", "address": _ip(0xAC10_0000 + index)}
        status = {"addresses": [address], "conditions": [_condition("Ready", True)]}
        yield _object("v1", "Node", "", node_name(index), labels) | {"status": status}


def service_accounts(size: Size) -> Iterator[Object]:
    yield from map(service_account, range(size.services))


def service_account(service: int) -> Object:
    """Of a service's pods."""
    return _object("v1", "ServiceAccount", namespace_of(service), app_name(service))


def services(size: Size) -> Iterator[Object]:
    """Their addresses are left to the API server, which must have a range for as many."""
    for index in range(size.services):
        app = app_name(index)
        ports = [
            {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
            {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP"},
        ]
        spec = {"selector": {"app": app}, "ports": ports, "type": "ClusterIP"}
        yield _object("v1", "Service", namespace_of(index), app, {"app": app}) | {"spec": spec}


def pods(size: Size) -> Iterator[Object]:
    """In the order in which an API server lists them, by namespace and name: a template's are together."""
    for service in sorted(range(size.services), key=lambda one: (namespace_of(one), app_name(one))):
        yield from (pod(size, index) for index in range(service, size.pods, size.services))


def pod(size: Size, index: int) -> Object:
    """One of the pods."""
    service = index % size.services
    app = app_name(service)
    replicas = f"{app}-{service * 2_654_435_761 % 2**32:x}"
    name = f"{replicas}-{index:05x}"
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": replicas,
        "uid": _uid(replicas),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    labels = {"app": app, "version": "v1", "pod-template-hash": replicas.removeprefix(f"{app}-")}
    made = _object("v1", "Pod", namespace_of(service), name, labels)
    made["metadata"] |= {"ownerReferences": [owner], "generateName": f"{replicas}-"}
    spec = _pod_spec(app) | {"nodeName": node_name(index % size.nodes)}
    return made | {"spec": spec, "status": _pod_status(index)}


def node_name(index: int) -> str:
    return f"node-{index:04}"


def app_name(service: int) -> str:
    return f"app-{service:04}"


def pod_ip(index: int) -> str:
    return _ip(0x0A80_0000 + index)


def _pod_spec(app: str) -> Object:
    mount = {
        "name": "kube-api-access",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": True,
    }
    container = {
        "name": "app",
        "image": f"registry.example.com/team/{app}:1.27.3",
        "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9090, "protocol": "TCP"},
        ],
        "env": [{"name": f"SETTING_{number}", "value": f"value-{number}"} for number in range(6)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [mount],
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"},
            "periodSeconds": 10,
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
    tolerations = [
        {
            "key": f"node.kubernetes.io/{key}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 300,
        }
        for key in ("not-ready", "unreachable")
    ]
    return {
        "containers": [container],
        "serviceAccountName": app,
        "serviceAccount": app,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "tolerations": tolerations,
        "volumes": [{"name": "kube-api-access", "projected": {"sources": [], "defaultMode": 420}}],
    }


def _pod_status(index: int) -> Object:
    ip = pod_ip(index)
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    container = {
        "name": "app",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "image": "registry.example.com/team/app:1.27.3",
        "imageID": f"registry.example.com/team/app@sha256:{index:064x}",
        "containerID": f"containerd://{index:064x}",
        "state": {"running": {"startedAt": _BORN}},
    }
    return {
        "phase": "Running",
        "conditions": [_condition(type_, True) for type_ in types],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "containerStatuses": [container],
        "qosClass": "Burstable",
        "startTime": _BORN,
    }


def _object(
    version: str, kind: str, namespace: str, name: str, labels: dict[str, str] | None = None
) -> Object:
    metadata: Object = {"name": name, "uid": _uid(f"{kind}/{namespace}/{name}"), "creationTimestamp": _BORN}
    metadata |= {"namespace": namespace} if namespace else {}
    metadata |= {"labels": labels} if labels else {}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _condition(type_: str, good: bool) -> Object:
    status = "True" if good else "False"
    return {"type": type_, "status": status, "lastProbeTime": None, "lastTransitionTime": _BORN}


def _uid(name: str) -> str:
    return str(uuid.uuid5(_SEED, name))


def _ip(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
