"""What each namespace holds from its beginning, and how one is emptied when it goes."""

from tests.support.kubernetes.kinds import RBAC, Kind
from tests.support.kubernetes.objects import Objects
from tests.support.kubernetes.storage import Object

_ALL = ["*"]
_OPEN = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/readyz", "/version", "/version/"]
_REVIEWS = ("authentication.k8s.io", "authorization.k8s.io")
# Name, the group that it is bound to, rules: those bootstrap roles that clients rely on.
_ROLES: tuple[tuple[str, str, list[Object]], ...] = (
    (
        "cluster-admin",
        "system:masters",
        [
            {"verbs": _ALL, "apiGroups": _ALL, "resources": _ALL},
            {"verbs": _ALL, "nonResourceURLs": _ALL},
        ],
    ),
    ("system:discovery", "system:authenticated", [{"verbs": ["get"], "nonResourceURLs": _OPEN}]),
    (
        "system:basic-user",
        "system:authenticated",
        [{"verbs": ["create"], "apiGroups": [_REVIEWS[1]], "resources": ["selfsubjectaccessreviews"]}],
    ),
    (
        "system:auth-delegator",
        "",
        [
            {"verbs": ["create"], "apiGroups": [_REVIEWS[0]], "resources": ["tokenreviews"]},
            {"verbs": ["create"], "apiGroups": [_REVIEWS[1]], "resources": ["subjectaccessreviews"]},
        ],
    ),
)


class Namespaces:
    """The namespace controller."""

    def __init__(self, objects: Objects, root: str) -> None:
        """`root`: the server's CA in PEM, which each namespace has in a ConfigMap."""
        self._objects, self._root = objects, root
        self._kind = objects.kinds.core("namespaces")
        objects.hooks.stored.append(self._stored)
        objects.hooks.deleting.append(self._deleting)
        objects.hooks.removed.append(self._removed)

    def bootstrap(self) -> None:
        """Create what every cluster has."""
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self._ensure(self._kind, "", name)
        for name, group, rules in _ROLES:
            self._ensure(self._rbac("clusterroles"), "", name, rules=rules)
            if group:
                role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
                subject = {"apiGroup": RBAC, "kind": "Group", "name": group}
                self._ensure(self._rbac("clusterrolebindings"), "", name, roleRef=role, subjects=[subject])

    def _rbac(self, plural: str) -> Kind:
        kind = self._objects.kinds.get(RBAC, "v1", plural)
        assert kind is not None
        return kind

    def _ensure(self, kind: Kind, namespace: str, name: str, **content: object) -> None:
        if self._objects.storage.get(kind, namespace, name) is None:
            self._objects.create(kind, namespace, {"metadata": {"name": name}, **content})

    def _stored(self, kind: Kind, obj: Object) -> None:
        if kind == self._kind and "deletionTimestamp" not in obj["metadata"]:
            name = obj["metadata"]["name"]
            self._ensure(self._objects.kinds.core("serviceaccounts"), name, "default")
            configs = self._objects.kinds.core("configmaps")
            self._ensure(configs, name, "kube-root-ca.crt", data={"ca.crt": self._root})

    def _deleting(self, kind: Kind, obj: Object) -> None:
        if kind == self._kind:
            self._objects.storage.put(kind, obj | {"status": {"phase": "Terminating"}})
            self._empty(obj)

    def _empty(self, namespace: Object) -> None:
        """Delete all that is in it, and then the namespace, unless finalizers hold something."""
        name = namespace["metadata"]["name"]
        left = 0
        for kind in self._contents():
            for obj in list(self._objects.storage.objects(kind, name)):
                if not obj["metadata"].get("deletionTimestamp") or kind.plural == "pods":
                    now = {"gracePeriodSeconds": 0}
                    _, gone = self._objects.delete(kind, name, obj["metadata"]["name"], now)
                    left += not gone
                else:
                    left += 1
        if not left:
            self._objects.release(self._kind, namespace)

    def _removed(self, kind: Kind, obj: Object) -> None:
        """The last object of a namespace that goes may have held it."""
        name = obj["metadata"].get("namespace", "")
        record = self._objects.storage.get(self._kind, "", name) if name else None
        if record is None:
            return
        namespace = record.object()
        if "deletionTimestamp" in namespace["metadata"] and not any(
            next(self._objects.storage.objects(each, name), None) for each in self._contents()
        ):
            self._objects.release(self._kind, namespace)

    def _contents(self) -> list[Kind]:
        """The kinds that live in namespaces; one version of each."""
        stored = {
            kind.resource: kind for kind in self._objects.kinds if kind.namespaced and "list" in kind.verbs
        }
        return list(stored.values())
