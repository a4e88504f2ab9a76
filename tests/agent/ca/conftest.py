"""An API server, the fake one or the real one that is named, and what a test puts into it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import apiserver
from tests.support.cluster import Cluster


@pytest.fixture(scope="package")
def server() -> Iterator[Path]:
    """Its kubeconfig."""
    if named := apiserver.real():
        yield named
        return
    with apiserver.fake(shortest_token=1) as fake:
        yield fake.kubeconfig


@pytest.fixture
def cluster(server: Path) -> Iterator[Cluster]:
    made = Cluster(server)
    yield made
    made.close()
