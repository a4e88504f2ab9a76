"""What the CA and the agents of a lab write on an API server by themselves, and how it is taken back.

Nothing of it has the lab's mark. So what there is of it is noted before they start: the rest is theirs.
"""

import re
from collections.abc import Iterator, Set
from typing import Any

from agent.ca.configmaps import CRL, LABELS, ROOTS
from agent.ca.secret import OURS
from agent.kube import conditions
from agent.kube.client import MERGE, NOTHING, Client, Query, path_of
from agent.kube.errors import ApiError
from agent.kube.events import COMPONENT
from agent.lab import ownership
from agent.model.engine.kind import Kind
from agent.model.kinds import KINDS, NOT_ACTED_ON
from agent.sources.kind_cache import CONDITION

_LEASES = ("warren-ca", "warren-status")
_CONDITION = "#condition"  # after a path: our condition in the object's status, not the object
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+")


def reserve(client: Client, namespace: str, mark: str) -> list[str]:
    """The paths of what is there of it, each noted with what it was where the CA would change it.

    namespace: of the CA. Raises ApiError.
    """
    found = [*_configmaps(client), *_of_the_mesh(client, namespace)]
    for kind in (ROOTS, CRL):
        for item in _named(client, kind.name):
            patch = {"metadata": {"labels": LABELS}, "data": {kind.key: "what the CA writes"}}
            body = ownership.reserve(patch, item, mark)
            client.request("PATCH", _path(item, "configmaps"), body=body, content_type=MERGE)
    return found


def remove(client: Client, namespace: str, found: Set[str]) -> None:
    """Delete what was not found before. Raises ApiError."""
    for path in [*_configmaps(client, of=namespace), *_of_the_mesh(client, namespace)]:
        if path in found:
            continue
        try:
            if path.endswith(_CONDITION):
                conditions.remove(client, path.removesuffix(_CONDITION), CONDITION)
            else:
                client.request("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise


def _configmaps(client: Client, of: str = "") -> Iterator[str]:
    """The roots and lists of all namespaces; of: only those of the CA that tells this namespace its root."""
    roots = {item["metadata"]["namespace"]: _certificates(item) for item in _named(client, ROOTS.name)}
    own = roots.get(of, frozenset())
    for kind in (ROOTS, CRL):
        for item in _named(client, kind.name):
            if not of or own & roots.get(item["metadata"]["namespace"], frozenset()):
                yield _path(item, "configmaps")


def _of_the_mesh(client: Client, namespace: str) -> Iterator[str]:
    """The Secret, the Leases, Events, and our conditions in the statuses of others' objects."""
    leases = path_of("apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases")
    secret = path_of("api", "v1", "namespaces", namespace, "secrets", OURS)
    for path in (secret, *(f"{leases}/{name}" for name in _LEASES)):
        if _there(client, path):
            yield path
    for event in _items(client, path_of("api", "v1", "events")):
        if event.get("reportingComponent") == COMPONENT:
            yield _path(event, "events")
    for kind in (*KINDS.values(), *NOT_ACTED_ON.values()):
        if kind.group.endswith("istio.io"):
            yield from _conditions(client, kind)


def _conditions(client: Client, kind: Kind) -> Iterator[str]:
    for item in _items(client, path_of("apis", kind.group, kind.versions[0], kind.plural)):
        told = (item.get("status") or {}).get("conditions") or []
        if any(condition.get("type") == CONDITION for condition in told):
            group = path_of("apis", kind.group, kind.versions[0])
            yield f"{_path(item, kind.plural, group)}{_CONDITION}"


def _named(client: Client, name: str) -> list[Any]:
    return _items(client, path_of("api", "v1", "configmaps"), {"fieldSelector": f"metadata.name={name}"})


def _items(client: Client, path: str, query: Query = NOTHING) -> list[Any]:
    """All objects there; none of a kind that the server does not have."""
    try:
        return list(client.read(path, query=query)["items"])
    except ApiError as error:
        if error.status == 404:
            return []
        raise


def _there(client: Client, path: str) -> bool:
    return client.dated(path)[0] is not None


def _path(item: Any, plural: str, group: str = "/api/v1") -> str:
    metadata = item["metadata"]
    return f"{group}{path_of('namespaces', metadata['namespace'], plural, metadata['name'])}"


def _certificates(item: Any) -> frozenset[str]:
    return frozenset(_CERTIFICATE.findall((item.get("data") or {}).get(ROOTS.key, "")))
