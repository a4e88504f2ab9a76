"""Istio's and the Gateway API's kinds on an API server: their definitions, and objects of them."""

import functools
from pathlib import Path
from typing import Any

import yaml

from agent.kube.errors import ApiError
from agent.model.engine.kind import GATEWAY, Kind
from agent.model.kinds import KINDS, MESH_GROUPS
from tests.support import wait
from tests.support.bookinfo import collection
from tests.support.cluster import Cluster
from tests.support.samples import SAMPLES

DEFINITIONS = "apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"
_FILES = [SAMPLES.parents[1] / "crds" / name for name in ("istio.yaml", "gateway-api.yaml")]


@functools.cache
def definition(plural: str, group: str = "") -> Any:
    """The CustomResourceDefinition of a kind. group: where several have one of that name."""
    for one in _all():
        if one["spec"]["names"]["plural"] == plural and group in ("", one["spec"]["group"]):
            return one
    return _like(definition("gateways", GATEWAY), plural)


def _like(other: Any, plural: str) -> Any:
    """Of a kind that the files are too old to have: with the schema of its like, but without its rules."""
    kind = next(kind for kind in KINDS.values() if kind.plural == plural)
    names = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": plural,
        "singular": kind.name.lower(),
    }
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [
        {**other["spec"]["versions"][0], "name": name, "schema": schema, "storage": name == kind.versions[0]}
        for name in kind.versions
    ]
    metadata = {**other["metadata"], "name": f"{plural}.{kind.group}"}
    spec = {**other["spec"], "group": kind.group, "names": names, "versions": versions}
    return {**other, "metadata": metadata, "spec": spec}


@functools.cache
def _all() -> list[Any]:
    texts = (file.read_text() for file in _FILES)
    return [one for text in texts for one in yaml.load_all(text, yaml.CSafeLoader) if one]


def install(kubeconfig: Path) -> None:
    """Let a server have all kinds of the mesh that we act on: an agent need not make sure that it has not."""
    cluster = Cluster(kubeconfig)
    for kind in KINDS.values():
        if kind.group.endswith(MESH_GROUPS):
            _install(cluster, kind)
    cluster.close()


def _install(cluster: Cluster, kind: Kind) -> None:
    try:
        cluster.post(definition(kind.plural, kind.group), *DEFINITIONS)
    except ApiError as error:
        if error.status != 409:
            raise


def policy(name: str, namespace: str = "default", **spec: Any) -> Any:
    """An AuthorizationPolicy; one that denies everything unless told otherwise."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec or {"action": "DENY", "rules": [{}]},
    }


def entry(name: str, host: str, **spec: Any) -> Any:
    """A ServiceEntry for a host that DNS knows."""
    ports = [{"number": 80, "name": "http"}]
    spec = {"hosts": [host], "resolution": "DNS", "ports": ports, **spec}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def post(cluster: Cluster, item: Any) -> None:
    """As soon as the kind is served."""
    wait.until(lambda: _posted(cluster, item))


def _posted(cluster: Cluster, item: Any) -> bool:
    try:
        cluster.post(item, *collection(item))
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True
