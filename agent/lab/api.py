"""The lab's cluster on an API server: what `kubectl apply`, a scheduler and kubelets would have put there.

    warren lab up --api KUBECONFIG

It is one without controllers and kubelets of its own (a kube-apiserver and its etcd): they would take away
nodes that nobody else knows. It may be anywhere that this machine reaches: agents and CA, which are on the
lab's own network, reach it through `agent.lab.relay`. `down` deletes what the lab created and takes back
what it changed (`agent.lab.ownership`); what the CA and the agents wrote is told by `agent.lab.traces`.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec
import yaml

from agent.errors import SettingsError
from agent.kube.client import JSON, MERGE, NOTHING, Client, Query, path_of
from agent.kube.errors import ApiError
from agent.lab import ownership, traces
from agent.lab.controllers import Body, key_of
from agent.lab.errors import LabError
from agent.lab.manifests import DATA
from agent.lab.state import NodeState, write_atomically
from agent.model.engine.kind import Kind
from agent.model.kinds import KINDS
from agent.model.schema.objects import Key

NAMESPACE = "warren-system"
NODE_ACCOUNT = "warren-node"
CA_ACCOUNT = "warren-ca"
REPORTER_ACCOUNT = "warren-reporter"
_AUDIENCE = "istio-ca"
_TOKEN_SECONDS = 30 * 86400  # no kubelet renews them; a server may give less
_CONFLICT, _NOT_FOUND, _INVALID = 409, 404, 422
_ORDER = ("Namespace", "Node", "ServiceAccount", "Service", "Pod")  # what is referred to comes first
_EXCLUSIVE = ("Node", "Pod")  # the lab runs them: those of others it cannot
_ADDRESSES = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


class Api:
    """The server, as far as the lab writes to it. Every method raises LabError, which says what to do."""

    def __init__(self, kubeconfig: Path, mark: str) -> None:
        """mark: of the lab's objects. Raises SettingsError when the file is of no use."""
        self._client, self._mark = Client.load(kubeconfig), mark

    def check_free(self, nodes: Iterable[NodeState]) -> None:
        """Raises LabError for a node that is there: this is another lab's cluster, or a real one."""
        for node in nodes:
            if self._ask("GET", _object(Key("Node", "", node.name)), allowed=(_NOT_FOUND,)):
                raise LabError(f"a node {node.name} is there already on the API server: it is not this lab's")

    def put(self, bodies: Iterable[Body]) -> list[Body]:
        """Create or change objects; gives them with the uid and the addresses that the server chose."""
        return [self._put(body) for body in sorted(bodies, key=lambda body: _rank(body["kind"]))]

    def delete(self, body: Body) -> None:
        """Delete an object of the lab's at once, if it is there; not one of the same name in its place."""
        self._delete(_object(key_of(body)), body["metadata"]["uid"])

    def found(self) -> list[str]:
        """What is there already of what the CA and the agents will write (`agent.lab.traces`)."""
        try:
            return traces.reserve(self._client, NAMESPACE, self._mark)
        except ApiError as error:
            raise _explained(error) from error

    def withdraw(self, found: Iterable[str] | None) -> None:
        """Delete what the lab created, and restore what it changed.

        found: what `found` has told before the CA and the agents began to write; None: they have not begun.
        """
        try:
            if found is not None:
                traces.remove(self._client, NAMESPACE, frozenset(found))
        except ApiError as error:
            raise _explained(error) from error
        for kind in sorted(KINDS.values(), key=lambda kind: _rank(kind.name), reverse=True):
            for item in self._marked(_collection(kind)):
                namespace = item["metadata"].get("namespace", "")
                self._take_back(_object(Key(kind.name, namespace, item["metadata"]["name"])), item)
        for name in DATA:
            for item in self._marked(path_of("api", "v1", f"{name.lower()}s")):
                key = Key(name, item["metadata"]["namespace"], item["metadata"]["name"])
                self._take_back(_object(key), item)

    def _marked(self, path: str) -> list[Body]:
        query = {"labelSelector": f"{ownership.MARK}={self._mark}"}
        answer = self._ask("GET", path, query=query, allowed=(_NOT_FOUND,))
        items: list[Body] = msgspec.json.decode(answer)["items"] if answer else []
        return items

    def _take_back(self, path: str, item: Body) -> None:
        if (patch := ownership.restoration(item, self._mark)) is not None:
            self._ask("PATCH", path, body=patch, content_type=MERGE, allowed=(_NOT_FOUND,))
        else:
            self._delete(path, item["metadata"]["uid"])

    def _delete(self, path: str, uid: str) -> None:
        options = {
            "gracePeriodSeconds": 0,
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        self._ask("DELETE", path, body=options, allowed=(_NOT_FOUND, _CONFLICT))

    def token(self, pod: Key, account: str) -> str:
        """A token for the CA, bound to a pod: what a kubelet projects into it."""
        uid = msgspec.json.decode(self._ask("GET", _object(pod)))["metadata"]["uid"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": uid}
        spec = {"audiences": [_AUDIENCE], "expirationSeconds": _TOKEN_SECONDS, "boundObjectRef": bound}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"{_object(Key('ServiceAccount', pod.namespace, account))}/token"
        token: str = msgspec.json.decode(self._ask("POST", path, body=body))["status"]["token"]
        return token

    def _put(self, body: Body) -> Body:
        key = key_of(body)
        sent = {name: part for name, part in body.items() if name != "status"}
        try:
            stored = self._create(key, sent)
        except ApiError as error:
            if error.status != _INVALID or key.kind != "Service":
                raise _explained(error) from error
            # The server has other ranges of addresses than ours: then it chooses.
            stored = self._create(key, _without_addresses(sent))
        if "status" in body and ownership.is_made(stored, self._mark):
            self._ask("PATCH", f"{_object(key)}/status", body={"status": body["status"]}, content_type=MERGE)
        metadata = {**body["metadata"], "uid": stored["metadata"]["uid"]}
        decided = {name: stored["spec"][name] for name in _ADDRESSES if name in stored.get("spec", {})}
        spec = {"spec": {**body["spec"], **decided}} if key.kind == "Service" else {}
        return {**body, "metadata": metadata, **spec}

    def _create(self, key: Key, body: Body) -> Body:
        """Raises ApiError."""
        metadata = {name: value for name, value in body["metadata"].items() if name != "uid"}
        body = {**body, "metadata": metadata}
        try:
            answer = self._client.request(
                "POST", _object(key).rpartition("/")[0], body=ownership.made(body, self._mark)
            )
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
            return self._change(key, body)
        stored: Body = msgspec.json.decode(answer)
        return stored

    def _change(self, key: Key, body: Body) -> Body:
        """Let an object that is there become like `body`. Raises ApiError, and LabError for one of others."""
        stored: Body = self._client.read(_object(key))
        if ownership.is_made(stored, self._mark):
            patch: Body | None = body
        elif key.kind in _EXCLUSIVE:
            raise LabError(f"{key} is there already on the API server: it is not this lab's")
        else:
            wanted = _without_addresses(body) if key.kind == "Service" else body
            patch = ownership.change(wanted, stored, self._mark)
        if patch is None:
            return stored
        answer = self._client.request("PATCH", _object(key), body=patch, content_type=MERGE)
        changed: Body = msgspec.json.decode(answer)
        return changed

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = NOTHING,
        body: object = None,
        content_type: str = JSON,
        allowed: Collection[int] = (),
    ) -> bytes:
        try:
            return self._client.request(method, path, query=query, body=body, content_type=content_type)
        except ApiError as error:
            if error.status in allowed:
                return b""
            raise _explained(error) from error


def system(nodes: Sequence[NodeState]) -> list[Body]:
    """What a cluster has of Warren's own: the namespace, the accounts, and the pod on each node."""
    accounts: list[Body] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
        for name in (NODE_ACCOUNT, CA_ACCOUNT, REPORTER_ACCOUNT)
    ]
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


def _without_addresses(service: Body) -> Body:
    return {**service, "spec": {k: v for k, v in service["spec"].items() if k not in _ADDRESSES}}


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _object(key: Key) -> str:
    if key.kind in DATA:
        return path_of("api", "v1", "namespaces", key.namespace, f"{key.kind.lower()}s", key.name)
    return f"{_collection(KINDS[key.kind], key.namespace)}{path_of(key.name)}"


def _collection(kind: Kind, namespace: str = "") -> str:
    """All of a kind; with a namespace, those in it."""
    place = ("namespaces", namespace) if namespace else ()
    root = ("apis", kind.group) if kind.group else ("api",)
    return path_of(*root, kind.versions[0], *place, kind.plural)


def _explained(error: ApiError) -> LabError:
    return LabError(f"the API server: {error}")
