"""What is served, for clients that ask first."""

from typing import Any

from tests.support.kubernetes.kinds import Kind, Kinds

VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.2",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_HEALTH = ("healthz", "livez", "readyz")


def discovered(kinds: Kinds, path: str) -> dict[str, Any] | str | None:
    """The answer for a path that is no resource's; None: there is nothing."""
    parts = path.strip("/").split("/")
    found: dict[str, Any] | str | None = None
    match parts:
        case ["version"]:
            found = VERSION
        case [health] if health in _HEALTH:
            found = "ok"
        case ["api"]:
            found = {"kind": "APIVersions", "versions": ["v1"]}
        case ["api", "v1"]:
            found = _resources(kinds, "", "v1")
        case ["apis"]:
            groups = [_group(kinds, group) for group in kinds.groups()]
            found = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if group in kinds.groups():
            found = {"kind": "APIGroup", "apiVersion": "v1", **_group(kinds, group)}
        case ["apis", group, version] if version in kinds.versions(group):
            found = _resources(kinds, group, version)
    return found


def _group(kinds: Kinds, group: str) -> dict[str, Any]:
    versions = [{"groupVersion": f"{group}/{each}", "version": each} for each in kinds.versions(group)]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _resources(kinds: Kinds, group: str, version: str) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for kind in sorted(kinds, key=lambda kind: kind.plural):
        if (kind.group, kind.version) == (group, version):
            resources += _resource(kind)
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def _resource(kind: Kind) -> list[dict[str, Any]]:
    common = {"namespaced": kind.namespaced, "kind": kind.name}
    main = {
        "name": kind.plural,
        "singularName": kind.singular or kind.name.lower(),
        **common,
        "verbs": kind.verbs,
    }
    listed = [main | ({"shortNames": kind.short} if kind.short else {})]
    if kind.status:
        status = {"name": f"{kind.plural}/status", "singularName": "", **common}
        listed.append(status | {"verbs": ["get", "patch", "update"]})
    if kind.resource == "serviceaccounts":
        token = {
            "name": "serviceaccounts/token",
            "singularName": "",
            "namespaced": True,
            "kind": "TokenRequest",
        }
        listed.append(token | {"group": "authentication.k8s.io", "version": "v1", "verbs": ["create"]})
    return listed
