"""API servers for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import apiserver
from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[Path]:
    """Of a real server where one is named, else of the fake."""
    if named := apiserver.real():
        yield named
        return
    with apiserver.fake() as fake:
        yield fake.kubeconfig


@pytest.fixture
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    it = Cluster(kubeconfig)
    yield it
    it.close()


@pytest.fixture
def fake() -> Iterator[apiserver.Fake]:
    """One whose faults are at hand."""
    with apiserver.fake() as server:
        yield server
