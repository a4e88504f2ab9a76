"""The manifests as `kubectl apply -k` would send them: every document, in the kustomization's namespace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agent.kube.client import Client

Body = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "deploy" / "daemonset"
NAMESPACE = "warren-system"
_CLUSTER_WIDE = {
    *("Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"),
    "GatewayClass",
}


def documents() -> Iterator[Body]:
    """All that the kustomization lists."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert listed["namespace"] == NAMESPACE
    for name in listed["resources"]:
        for body in yaml.safe_load_all((FOLDER / name).read_text()):
            if body["kind"] not in _CLUSTER_WIDE:
                body["metadata"].setdefault("namespace", NAMESPACE)
            yield body


def of_kind(*kinds: str) -> list[Body]:
    return [body for body in documents() if body["kind"] in kinds]


def create(client: Client, body: Body) -> Body:
    """POST an object to where its apiVersion, kind and namespace say. Raises ApiError."""
    version, plural = body["apiVersion"], body["kind"].lower()
    plural = (
        f"{plural[:-1]}ies"
        if plural.endswith(("cy", "ry"))
        else f"{plural}{'es' * plural.endswith('ss') or 's'}"
    )
    namespace = body["metadata"].get("namespace")
    within = "" if body["kind"] in _CLUSTER_WIDE else f"namespaces/{namespace or 'default'}/"
    path = f"/{'apis' if '/' in version else 'api'}/{version}/{within}{plural}"
    stored: Body = msgspec.json.decode(client.request("POST", path, body=body))
    return stored
