"""The servers that the contract is tried on."""

from collections.abc import Iterator

import pytest

from tests.kube.cluster import Cluster
from tests.support import apiserver

SERVERS = ["fake", *(["real"] if apiserver.real() else [])]


@pytest.fixture(scope="session", params=SERVERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server; each test that asks for it runs on every one there is."""
    real = apiserver.real()
    if request.param == "real" and real:
        cluster = Cluster(real)
        yield cluster
        cluster.close()
    else:
        with apiserver.fake(shortest_token=1) as fake:
            cluster = Cluster(fake.kubeconfig)
            yield cluster
            cluster.close()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """The name of a namespace of the test's own."""
    name = cluster.made("/api/v1/namespaces", {"metadata": {"generateName": "wt-"}})["metadata"]["name"]
    yield name
    cluster.ask("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def home(namespace: str) -> str:
    """The path of that namespace."""
    return f"/api/v1/namespaces/{namespace}"
