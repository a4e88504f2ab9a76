"""The roots in each namespace: by one replica, as often as needed and no more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from agent.ca import root
from agent.ca.configmaps import KEY, NAME, RootConfigMaps
from agent.ca.errors import Reason, Refusal
from agent.ca.signer import Signer
from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.kube.lease import Lease
from tests.support.cluster import Cluster
from tests.support.eventually import eventually

SIGNER = Signer.of(root.make("cluster.local"))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.ca.configmaps._EVERY", 0.01)


class Writing(Client):
    """Keeps what it was asked to change."""

    written: list[str]

    def request(self, method: str, path: str, **how: Any) -> bytes:
        if method != "GET":
            self.written.append(f"{method} {path}")
        return super().request(method, path, **how)


def roots(cluster: Cluster, namespace: str) -> str:
    try:
        found = cluster.get("api", "v1", "namespaces", namespace, "configmaps", NAME)
    except ApiError:
        return ""
    return str(found["data"].get(KEY, ""))


@asynccontextmanager
async def keeping(
    cluster: Cluster, namespaces: set[str], signer: Callable[[], Signer], holder: str = "one"
) -> AsyncIterator[list[str]]:
    """Gives what is written, as it comes."""
    client = Writing.load(cluster.kubeconfig)
    assert isinstance(client, Writing)
    client.written = []
    lease = Lease(cluster.client, cluster.namespace, "test", holder)
    lease.attempt()
    task = asyncio.create_task(RootConfigMaps(client, lease, namespaces, signer).run())
    yield client.written
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    client.close()


async def test_what_is_as_it_should_be_is_not_written(cluster: Cluster) -> None:
    spaces = {cluster.new_namespace(f"n{number}") for number in range(3)}
    now = SIGNER

    def signer() -> Signer:
        return now

    async with keeping(cluster, spaces, signer) as written:
        await eventually(lambda: all(roots(cluster, one) == SIGNER.bundle for one in spaces))
        assert len(written) == 3
        now = replace(SIGNER, bundle=SIGNER.bundle + Signer.of(root.make("x")).bundle)
        await eventually(lambda: all(roots(cluster, one) == now.bundle for one in spaces))
        assert len(written) == 6
    async with keeping(cluster, spaces, signer) as written:  # as after a restart
        later = cluster.new_namespace("later")
        spaces.add(later)
        await eventually(lambda: roots(cluster, later) == now.bundle)
        assert len(written) == 1


async def test_only_the_leases_holder_writes(cluster: Cluster) -> None:
    spaces = {cluster.namespace}
    async with (
        keeping(cluster, spaces, lambda: SIGNER, "one") as first,
        keeping(cluster, spaces, lambda: SIGNER, "two") as second,
    ):
        await eventually(lambda: roots(cluster, cluster.namespace) == SIGNER.bundle)
        assert first
        assert second == []


async def test_while_the_root_is_not_known_nothing_is_told(cluster: Cluster) -> None:
    known = False

    def signer() -> Signer:
        if not known:
            raise Refusal(Reason.ROOT_UNKNOWN, "not yet")
        return SIGNER

    async with keeping(cluster, {cluster.namespace}, signer) as written:
        assert written == []
        known = True
        await eventually(lambda: roots(cluster, cluster.namespace) == SIGNER.bundle)


async def test_who_writes_it_as_well_is_named_and_not_fought(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    path = ("api", "v1", "namespaces", cluster.namespace, "configmaps", NAME)
    async with keeping(cluster, {cluster.namespace}, lambda: SIGNER) as written:
        await eventually(lambda: roots(cluster, cluster.namespace) == SIGNER.bundle)

        def undone() -> bool:
            cluster.patch({"data": {KEY: "another root"}}, *path)
            return "does another CA write it?" in caplog.text

        await eventually(undone)
        assert 3 <= len(written) <= 5


async def test_a_namespace_that_is_gone_holds_up_no_other(cluster: Cluster) -> None:
    async with keeping(cluster, {"a-gone", cluster.namespace}, lambda: SIGNER):
        await eventually(lambda: roots(cluster, cluster.namespace) == SIGNER.bundle)
