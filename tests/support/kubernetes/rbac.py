"""Role-based access: the rules of the stored roles, for those whom the stored bindings name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.kubernetes.kinds import RBAC, Kind, Kinds
from tests.support.kubernetes.storage import Object, Storage
from tests.support.kubernetes.users import User


@dataclass(frozen=True)
class Access:
    """What is asked for. `path` is set for what is no resource, such as /version."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True)
class _Binding:
    where: str
    subjects: list[dict[str, str]]
    rules: list[dict[str, Any]]


class Rbac:
    """Decides; it keeps the roles and bindings decoded until one of them changes."""

    def __init__(self, storage: Storage, kinds: Kinds) -> None:
        self._storage = storage
        self._kinds: dict[str, Kind] = {}
        for plural in ("clusterroles", "clusterrolebindings", "roles", "rolebindings"):
            kind = kinds.get(RBAC, "v1", plural)
            assert kind is not None
            self._kinds[plural] = kind
        self._read_at: list[int] = []
        self._bindings: dict[str, list[_Binding]] = {}  # by namespace; the cluster's under ""

    def why(self, user: User, access: Access) -> str:
        """By what it is allowed; empty when it is not."""
        if "system:masters" in user.groups:
            return "system:masters"
        for namespace in dict.fromkeys(("", access.namespace)):
            for binding in self._read().get(namespace, ()):
                if _applies(binding.subjects, user, namespace) and any(
                    _allows(rule, access) for rule in binding.rules
                ):
                    return binding.where
        return ""

    def _read(self) -> dict[str, list[_Binding]]:
        latest = [self._storage.of(kind).latest for kind in self._kinds.values()]
        if latest != self._read_at:
            self._bindings = {}
            for namespace, binding in self._all():
                self._bindings.setdefault(namespace, []).append(binding)
            self._read_at = latest
        return self._bindings

    def _all(self) -> Iterator[tuple[str, _Binding]]:
        roles = {
            (kind.name, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj.get("rules") or []
            for kind, obj in self._objects("clusterroles", "roles")
        }
        for kind, obj in self._objects("clusterrolebindings", "rolebindings"):
            namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
            ref = obj["roleRef"]
            rules = roles.get((ref["kind"], namespace if ref["kind"] == "Role" else "", ref["name"]), [])
            where = f"{kind.name} {namespace}/{name}" if namespace else f"{kind.name} {name}"
            yield namespace, _Binding(where, obj.get("subjects", []), rules)

    def _objects(self, *plurals: str) -> Iterator[tuple[Kind, Object]]:
        for plural in plurals:
            for obj in self._storage.objects(self._kinds[plural]):
                yield self._kinds[plural], obj


def _applies(subjects: list[dict[str, str]], user: User, namespace: str) -> bool:
    for subject in subjects:
        match subject["kind"]:
            case "User" if subject["name"] == user.name:
                return True
            case "Group" if subject["name"] in user.groups:
                return True
            case "ServiceAccount":
                where = subject.get("namespace") or namespace
                if where and f"system:serviceaccount:{where}:{subject['name']}" == user.name:
                    return True
    return False


def _allows(rule: dict[str, Any], access: Access) -> bool:
    if not _has(rule.get("verbs", ()), access.verb):
        return False
    if access.path:
        return any(
            access.path == url or (url.endswith("*") and access.path.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs", ())
        )
    resources = rule.get("resources", ())
    if access.subresource:
        asked = f"{access.resource}/{access.subresource}"
        named = _has(resources, asked) or f"*/{access.subresource}" in resources
    else:
        named = _has(resources, access.resource)
    names = rule.get("resourceNames", ())
    return named and _has(rule.get("apiGroups", ()), access.group) and (not names or access.name in names)


def _has(listed: Any, wanted: str) -> bool:
    return "*" in listed or wanted in listed
