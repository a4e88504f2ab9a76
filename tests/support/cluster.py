"""What a test puts into an API server: namespaces that are its own, accounts, pods and their tokens."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agent.ca.placement import Placement
from agent.kube.client import NOTHING, Client, path_of
from agent.kube.errors import ApiError
from agent.model.schema.kubernetes import Namespace, Pod
from agent.model.schema.objects import Key

AMBIENT = {"istio.io/dataplane-mode": "ambient"}
_TYPES = {"Pod": Pod, "Namespace": Namespace}
Body = dict[str, Any]


class Cluster:
    """A server's admin. `namespace` was made for the test, where the mesh's own parts would be."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.client = Client.load(kubeconfig)
        self._made: list[str] = []
        self.namespace = self.new_namespace("system")

    def close(self) -> None:
        """Take the namespaces away."""
        for name in self._made:
            self.delete("api", "v1", "namespaces", name)
        self.client.close()

    def new_namespace(self, purpose: str, labels: Mapping[str, str] = AMBIENT) -> str:
        """One with a name that no other has; in the mesh, unless other labels are given."""
        name = f"wt-{purpose}-{uuid.uuid4().hex[:8]}"
        self.post({"metadata": {"name": name, "labels": dict(labels)}}, "api", "v1", "namespaces")
        self._made.append(name)
        return name

    def account(self, name: str, namespace: str = "") -> None:
        """A service account."""
        body = {"metadata": {"name": name}}
        self.post(body, "api", "v1", "namespaces", namespace or self.namespace, "serviceaccounts")

    def pod(
        self,
        name: str,
        node: str,
        account: str,
        namespace: str = "",
        *,
        labels: Mapping[str, str] = NOTHING,
        annotations: Mapping[str, str] = NOTHING,
        **spec: Any,
    ) -> str:
        """A pod that is scheduled; gives its uid. account: empty for none; spec: what else it says."""
        own = {"serviceAccountName": account} if account else {}
        containers = [{"name": "app", "image": "none"}]
        body = {
            "metadata": {"name": name, "labels": dict(labels), "annotations": dict(annotations)},
            "spec": {"nodeName": node, "containers": containers, **own, **spec},
        }
        made = self.post(body, "api", "v1", "namespaces", namespace or self.namespace, "pods")
        return str(made["metadata"]["uid"])

    def kubeconfig_for(self, token: str, file: Path) -> Path:
        """One for the bearer of a token, written to `file`."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        for user in config["users"]:
            user["user"] = {"token": token}
        file.write_text(yaml.safe_dump(config))
        return file

    def delete_pod(self, name: str, namespace: str = "") -> None:
        """At once."""
        path = path_of("api", "v1", "namespaces", namespace or self.namespace, "pods", name)
        self.client.request("DELETE", path, body={"gracePeriodSeconds": 0})

    def token(
        self,
        account: str,
        pod: str | None,
        audience: str = "istio-ca",
        seconds: int = 3600,
        namespace: str = "",
    ) -> str:
        """A token as the kubelet gets it for a pod; None: bound to none."""
        spec: Body = {"audiences": [audience], "expirationSeconds": seconds}
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod}
        within = ("api", "v1", "namespaces", namespace or self.namespace, "serviceaccounts", account, "token")
        return str(self.post({"spec": spec}, *within)["status"]["token"])

    def placement(self) -> Placement:
        """What the authority's source would tell at this moment."""
        placement = Placement()
        for kind, plural in (("Namespace", "namespaces"), ("Pod", "pods")):
            for item in self.get("api", "v1", plural)["items"]:
                found = msgspec.convert(item, _TYPES[kind])
                key = Key(kind, found.metadata.namespace, found.metadata.name)
                placement.apply([(key, found)])
        return placement

    def secret(self, name: str) -> dict[str, bytes] | None:
        """The data of a Secret of ours."""
        try:
            found = self.get("api", "v1", "namespaces", self.namespace, "secrets", name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return msgspec.convert(found["data"], dict[str, bytes])

    def get(self, *path: str) -> Any:
        return msgspec.json.decode(self.client.request("GET", path_of(*path)))

    def post(self, body: Body, *path: str) -> Any:
        return msgspec.json.decode(self.client.request("POST", path_of(*path), body=body))

    def patch(self, body: Body, *path: str) -> Any:
        """A merge patch."""
        kind = "application/merge-patch+json"
        return msgspec.json.decode(self.client.request("PATCH", path_of(*path), body=body, content_type=kind))

    def delete(self, *path: str) -> None:
        self.client.request("DELETE", path_of(*path))
