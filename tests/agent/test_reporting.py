"""The reporter's process: one of several writes, another takes over when it ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.sources.kind_cache import CONDITION
from tests.support.apiserver import Fake
from tests.support.bookinfo import collection
from tests.support.cluster import Cluster
from tests.support.custom import entry, install, post
from tests.support.wait import PATIENCE, until

_TIME = PATIENCE  # a lease runs out after 15 s


@pytest.fixture
def cluster(fake: Fake) -> Iterator[Cluster]:
    it = Cluster(fake.kubeconfig)
    install(fake.kubeconfig)
    yield it
    it.close()


@contextmanager
def reporter(cluster: Cluster) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "agent.cli.main", "reporter", f"--kubeconfig={cluster.kubeconfig}"]
    process = subprocess.Popen([*command, f"--namespace={cluster.namespace}"], env={**os.environ})
    yield process
    process.terminate()
    assert process.wait(_TIME) == 0


def says(cluster: Cluster, name: str) -> bool:
    status = cluster.get(*collection(entry(name, "*.example")), name).get("status") or {}
    return any(one["type"] == CONDITION for one in status.get("conditions", ()))


def test_another_takes_over(cluster: Cluster) -> None:
    post(cluster, entry("first", "*.example"))
    with reporter(cluster):
        until(lambda: says(cluster, "first"), _TIME)
    lease = cluster.get("apis", "coordination.k8s.io", "v1", "namespaces", cluster.namespace,
                        "leases", "warren-status")  # fmt: skip
    assert lease["spec"]["holderIdentity"] == "", "who ends leaves it to another at once"
    post(cluster, entry("second", "*.example"))
    with reporter(cluster):
        until(lambda: says(cluster, "second"), _TIME)
