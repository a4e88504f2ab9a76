"""The manifests as `kubectl apply -k` would send them: every document, in the kustomization's namespace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agent.kube.client import Client

Body = dict[str, Any]

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "daemonset"
NAMESPACE = "warren-system"
_CLUSTER_WIDE = {
    *("Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"),
    "GatewayClass",
}


def written(folder: Path, *kinds: str) -> list[Body]:
    """What the kustomization of a folder lists, of these kinds or of all, as it is written."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    files = (yaml.safe_load_all((folder / name).read_text()) for name in listed)
    return [body for file in files for body in file if not kinds or body["kind"] in kinds]


def documents() -> Iterator[Body]:
    """All that the DaemonSet's kustomization lists."""
    assert yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["namespace"] == NAMESPACE
    for body in written(FOLDER):
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
