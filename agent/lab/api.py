"""The lab's cluster on an API server: what `kubectl apply`, a scheduler and kubelets would have put there.

    warren lab up --api KUBECONFIG

It is one without controllers and kubelets of its own (a kube-apiserver and its etcd): they would take away
nodes that nobody else knows. It may be anywhere that this machine reaches: agents and CA, which are on the
lab's own network, reach it through `agent.lab.gateway`. `down` takes the lab's objects away again.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import yaml

from agent.errors import SettingsError
from agent.kube.client import JSON, NOTHING, Client, Query, path_of
from agent.kube.errors import ApiError
from agent.lab.controllers import Body, key_of
from agent.lab.errors import LabError
from agent.lab.state import NodeState, write_atomically
from agent.model.kinds import KINDS
from agent.model.objects import Key

NAMESPACE = "warren-system"
NODE_ACCOUNT = "warren-node"
CA_ACCOUNT = "warren-ca"
ROOT, CRL = "istio-ca-root-cert", "istio-ca-crl"
_AUDIENCE = "istio-ca"
_TOKEN_SECONDS = 30 * 86400  # no kubelet renews them; a server may give less
_MERGE = "application/merge-patch+json"
_CONFLICT, _NOT_FOUND, _INVALID = 409, 404, 422
_ORDER = ("Namespace", "Node", "ServiceAccount", "Service", "Pod")  # what is referred to comes first
_BELONG_TO_ALL = {Key("Namespace", "", "default"), Key("ServiceAccount", "default", "default")}
_ADDRESSES = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


class Api:
    """The server, as far as the lab writes to it. Every method raises LabError, which says what to do."""

    def __init__(self, kubeconfig: Path) -> None:
        """Raises SettingsError when the file is of no use."""
        self._client = Client.load(kubeconfig)

    def check_free(self, nodes: Iterable[NodeState]) -> None:
        """Raises LabError for a node that is there: this is another lab's cluster, or a real one."""
        for node in nodes:
            if self._ask("GET", _object(Key("Node", "", node.name)), allowed=_NOT_FOUND):
                raise LabError(f"a node {node.name} is there already on the API server: it is not this lab's")

    def put(self, bodies: Iterable[Body]) -> list[Body]:
        """Create or change objects; gives them with the uid and the addresses that the server chose."""
        return [self._put(body) for body in sorted(bodies, key=lambda body: _rank(body["kind"]))]

    def delete(self, keys: Iterable[Key]) -> None:
        """Take objects away at once, where they are there; namespaces that each cluster has stay."""
        those = [key for key in keys if key not in _BELONG_TO_ALL]
        for key in sorted(those, key=lambda key: _rank(key.kind), reverse=True):
            now = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
            self._ask("DELETE", _object(key), body=now, allowed=_NOT_FOUND)

    def withdraw(self, keys: Iterable[Key]) -> None:
        """Take the lab's objects away, and what its CA has put into namespaces that stay."""
        self.delete(keys)
        for name in (ROOT, CRL):
            answer = self._ask("GET", path_of("api", "v1", "configmaps"),
                               query={"fieldSelector": f"metadata.name={name}"})  # fmt: skip
            for item in msgspec.json.decode(answer)["items"]:
                path = path_of("api", "v1", "namespaces", item["metadata"]["namespace"], "configmaps", name)
                self._ask("DELETE", path, allowed=_NOT_FOUND)

    def token(self, pod: Key, account: str) -> str:
        """A token for the CA, bound to a pod: what a kubelet projects into it."""
        uid = msgspec.json.decode(self._ask("GET", _object(pod)))["metadata"]["uid"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": uid}
        spec = {"audiences": [_AUDIENCE], "expirationSeconds": _TOKEN_SECONDS, "boundObjectRef": bound}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"{_object(Key('ServiceAccount', pod.namespace, account))}/token"
        token: str = msgspec.json.decode(self._ask("POST", path, body=body))["status"]["token"]
        return token

    def root(self) -> str | None:
        """The CA's root, PEM, once it is distributed."""
        answer = self._ask("GET", path_of("api", "v1", "namespaces", NAMESPACE, "configmaps", ROOT),
                           allowed=_NOT_FOUND)  # fmt: skip
        root: str | None = msgspec.json.decode(answer)["data"].get("root-cert.pem") if answer else None
        return root

    def _put(self, body: Body) -> Body:
        key = key_of(body)
        sent = {name: part for name, part in body.items() if name != "status"}
        try:
            stored = self._create(key, sent)
        except ApiError as error:
            if error.status != _INVALID or key.kind != "Service":
                raise _explained(error) from error
            # The server has other ranges of addresses than ours: then it chooses.
            spec = {name: value for name, value in sent["spec"].items() if name not in _ADDRESSES}
            stored = self._create(key, {**sent, "spec": spec})
        if "status" in body:
            self._ask("PATCH", f"{_object(key)}/status", body={"status": body["status"]}, content_type=_MERGE)
        metadata = {**body["metadata"], "uid": stored["metadata"]["uid"]}
        decided = {name: stored["spec"][name] for name in _ADDRESSES if name in stored.get("spec", {})}
        spec = {"spec": {**body["spec"], **decided}} if key.kind == "Service" else {}
        return {**body, "metadata": metadata, **spec}

    def _create(self, key: Key, body: Body) -> Body:
        """Raises ApiError."""
        metadata = {name: value for name, value in body["metadata"].items() if name != "uid"}
        body = {**body, "metadata": metadata}
        try:
            answer = self._client.request("POST", _object(key).rpartition("/")[0], body=body)
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
            answer = self._client.request("PATCH", _object(key), body=body, content_type=_MERGE)
        stored: Body = msgspec.json.decode(answer)
        return stored

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = NOTHING,
        body: object = None,
        content_type: str = JSON,
        allowed: int = 0,
    ) -> bytes:
        try:
            return self._client.request(method, path, query=query, body=body, content_type=content_type)
        except ApiError as error:
            if error.status == allowed:
                return b""
            raise _explained(error) from error


def system(nodes: Sequence[NodeState]) -> list[Body]:
    """What a cluster has of Warren's own: the namespace, the accounts, and the pod on each node."""
    accounts = [_body("ServiceAccount", name, {}) for name in (NODE_ACCOUNT, CA_ACCOUNT)]
    for account in accounts:
        del account["spec"]
    namespace: Body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"istio.io/dataplane-mode": "none"}},
    }
    containers = [{"name": "tunnel", "image": "warren"}]
    pods = [
        _body("Pod", pod_of(node).name,
              {"nodeName": node.name, "serviceAccountName": NODE_ACCOUNT, "containers": containers})
        for node in nodes
    ]  # fmt: skip
    return [namespace, *accounts, *pods]


def pod_of(node: NodeState) -> Key:
    """Warren's own pod on a node."""
    return Key("Pod", NAMESPACE, f"{NODE_ACCOUNT}-{node.name}")


def copy_kubeconfig(source: Path, target: Path, port: int) -> tuple[str, int]:
    """Write a kubeconfig with which the server is reached at this port of 127.0.0.1, by the name it goes by.

    Gives the host and port of the server. Raises SettingsError.
    """
    try:
        content = yaml.safe_load(source.read_text())
        context = next(c["context"] for c in content["contexts"] if c["name"] == content["current-context"])
        cluster = next(c["cluster"] for c in content["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in content["users"] if u["name"] == context["user"])
        scheme, _, place = cluster["server"].rstrip("/").partition("://")
        host, _, number = place.rpartition(":") if place.rpartition(":")[2].isdigit() else (place, "", "443")
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise SettingsError(f"--api {source}: no kubeconfig with a current context: {error!r}") from error
    cluster["server"] = f"{scheme}://127.0.0.1:{port}"
    cluster.setdefault("tls-server-name", host.strip("[]"))
    for part in (cluster, user):
        for name in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if name in part:
                part[name] = str(source.parent / part[name])
    write_atomically(target, yaml.safe_dump(content), 0o600)
    return host.strip("[]"), int(number)


def _body(kind: str, name: str, spec: Body) -> Body:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {}, "annotations": {}, "ownerReferences": []}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _object(key: Key) -> str:
    kind = KINDS[key.kind]
    place = ("namespaces", key.namespace) if key.namespace else ()
    root = ("apis", kind.group) if kind.group else ("api",)
    return path_of(*root, kind.versions[0], *place, kind.plural, key.name)


def _explained(error: ApiError) -> LabError:
    return LabError(f"the API server: {error}")
