"""What kinds of objects there are: the built-in ones, and those that custom resource definitions add."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

RBAC = "rbac.authorization.k8s.io"
EXTENSIONS = "apiextensions.k8s.io"
DEFINITIONS = f"customresourcedefinitions.{EXTENSIONS}"
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Kind:
    """One version of a kind. `group` is empty for the core group, `name` is what objects call their kind.

    status: it has a status subresource. fields: what field selectors may name beside metadata.name and
    metadata.namespace. generations: metadata.generation counts changes of neither metadata nor status.
    names: the rule for names (`names.py`). schema: a custom resource's, OpenAPI v3; built-in kinds have none.
    """

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True
    status: bool = False
    short: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    generations: bool = False
    names: str = "subdomain"
    schema: Mapping[str, Any] | None = None
    list_name: str = ""
    singular: str = ""
    verbs: tuple[str, ...] = VERBS

    @property
    def resource(self) -> str:
        """The name under which all versions are stored, and which messages give: `leases.coordination...`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """The API path of its group and version."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


_POD_FIELDS = (
    "spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName spec.hostNetwork "
    "status.phase status.podIP status.nominatedNodeName"
)
_EVENT_FIELDS = (
    "involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid "
    "involvedObject.apiVersion involvedObject.resourceVersion involvedObject.fieldPath "
    "reason reportingComponent type"
)


def _core(plural: str, name: str, short: str = "", fields: str = "", **more: Any) -> Kind:
    return Kind("", "v1", plural, name, short=tuple(short.split()), fields=tuple(fields.split()), **more)


def _review(group: str, plural: str, name: str) -> Kind:
    return Kind(group, "v1", plural, name, namespaced=False, verbs=("create",))


BUILT_IN = (
    _core("configmaps", "ConfigMap", "cm"),
    _core("endpoints", "Endpoints", "ep", singular="endpoints"),
    _core("events", "Event", "ev", _EVENT_FIELDS),
    _core("namespaces", "Namespace", "ns", "status.phase", namespaced=False, status=True, names="label"),
    _core("nodes", "Node", "no", "spec.unschedulable", namespaced=False, status=True),
    _core("pods", "Pod", "po", _POD_FIELDS, status=True, generations=True),
    _core("secrets", "Secret", fields="type"),
    _core("serviceaccounts", "ServiceAccount", "sa"),
    _core("services", "Service", "svc", "spec.clusterIP spec.type", status=True, names="service"),
    Kind("apps", "v1", "daemonsets", "DaemonSet", status=True, short=("ds",), generations=True),
    Kind("apps", "v1", "deployments", "Deployment", status=True, short=("deploy",), generations=True),
    Kind("coordination.k8s.io", "v1", "leases", "Lease"),
    Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Kind(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False, names="segment"),
    Kind(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False, names="segment"),
    Kind(RBAC, "v1", "rolebindings", "RoleBinding", names="segment"),
    Kind(RBAC, "v1", "roles", "Role", names="segment"),
    Kind(
        EXTENSIONS,
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        status=True,
        short=("crd", "crds"),
        generations=True,
    ),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
)
# The body of a serviceaccounts/token request; it has no path of its own.
TOKEN_REQUEST = Kind("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")


class Kinds:
    """The kinds that are served now."""

    def __init__(self) -> None:
        self.hidden: set[str] = set()  # groups that a server which has just started does not know yet
        self._by_path: dict[tuple[str, str, str], Kind] = {}
        for kind in BUILT_IN:
            self.add(kind)

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._by_path.values()))

    def add(self, kind: Kind) -> None:
        self._by_path[kind.group, kind.version, kind.plural] = kind

    def remove(self, kind: Kind) -> None:
        self._by_path.pop((kind.group, kind.version, kind.plural), None)

    def get(self, group: str, version: str, plural: str) -> Kind | None:
        return None if group in self.hidden else self._by_path.get((group, version, plural))

    def core(self, plural: str) -> Kind:
        """A kind of the core group; KeyError when there is none of that name."""
        return self._by_path["", "v1", plural]

    def versions(self, group: str) -> list[str]:
        """The versions of a group that are served, the preferred one first."""
        those = () if group in self.hidden else self
        return list(dict.fromkeys(kind.version for kind in those if kind.group == group))

    def groups(self) -> list[str]:
        return sorted({kind.group for kind in self if kind.group} - self.hidden)
