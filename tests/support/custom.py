"""Istio's and the Gateway API's kinds on an API server: their definitions, and objects of them."""

import functools
from typing import Any

import yaml

from agent.kube.errors import ApiError
from tests.support import wait
from tests.support.bookinfo import collection
from tests.support.cluster import Cluster
from tests.support.samples import SAMPLES

DEFINITIONS = "apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"
_FILES = [SAMPLES.parents[1] / "crds" / name for name in ("istio.yaml", "gateway-api.yaml")]


@functools.cache
def definition(plural: str) -> Any:
    """The CustomResourceDefinition of a kind."""
    return next(one for one in _all() if one["spec"]["names"]["plural"] == plural)


@functools.cache
def _all() -> list[Any]:
    texts = (file.read_text() for file in _FILES)
    return [one for text in texts for one in yaml.load_all(text, yaml.CSafeLoader) if one]


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
