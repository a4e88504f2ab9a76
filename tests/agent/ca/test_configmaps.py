"""The roots in each namespace: by one replica, as often as needed and no more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.ca import root
from agent.ca.clock import system_time
from agent.ca.configmaps import CRL, ROOTS, ConfigMaps, Kind
from agent.ca.errors import Reason, Refusal
from agent.ca.signer import Signer
from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.kube.lease import Lease
from tests.support.cluster import Cluster
from tests.support.eventually import eventually

BUNDLE = Signer.of(root.make("cluster.local", system_time())).bundle


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


def told(cluster: Cluster, namespace: str, kind: Kind = ROOTS) -> str | None:
    """What there is; "no key" where there is none, None where there is no ConfigMap."""
    try:
        found = cluster.get("api", "v1", "namespaces", namespace, "configmaps", kind.name)
    except ApiError:
        return None
    return str(found.get("data", {}).get(kind.key, "no key"))


@asynccontextmanager
async def keeping(
    cluster: Cluster, namespaces: set[str], text: Callable[[], str], holder: str = "one", kind: Kind = ROOTS
) -> AsyncIterator[list[str]]:
    """Gives what is written, as it comes."""
    client = Writing.load(cluster.kubeconfig)
    assert isinstance(client, Writing)
    client.written = []
    lease = Lease(cluster.client, cluster.namespace, "test", holder)
    lease.attempt()
    task = asyncio.create_task(ConfigMaps(client, lease, namespaces, kind, text).run())
    yield client.written
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    client.close()


async def test_what_is_as_it_should_be_is_not_written(cluster: Cluster) -> None:
    spaces = {cluster.new_namespace(f"n{number}") for number in range(3)}
    now = BUNDLE

    def text() -> str:
        return now

    async with keeping(cluster, spaces, text) as written:
        await eventually(lambda: all(told(cluster, one) == BUNDLE for one in spaces))
        assert len(written) == 3
        now = BUNDLE + Signer.of(root.make("x", system_time())).bundle
        await eventually(lambda: all(told(cluster, one) == now for one in spaces))
        assert len(written) == 6
    async with keeping(cluster, spaces, text) as written:  # as after a restart
        later = cluster.new_namespace("later")
        spaces.add(later)
        await eventually(lambda: told(cluster, later) == now)
        assert len(written) == 1


async def test_only_the_leases_holder_writes(cluster: Cluster) -> None:
    spaces = {cluster.namespace}
    async with (
        keeping(cluster, spaces, lambda: BUNDLE, "one") as first,
        keeping(cluster, spaces, lambda: BUNDLE, "two") as second,
    ):
        await eventually(lambda: told(cluster, cluster.namespace) == BUNDLE)
        assert first
        assert second == []


async def test_while_the_root_is_not_known_nothing_is_told(cluster: Cluster) -> None:
    known = False

    def text() -> str:
        if not known:
            raise Refusal(Reason.ROOT_UNKNOWN, "not yet")
        return BUNDLE

    async with keeping(cluster, {cluster.namespace}, text) as written:
        assert written == []
        known = True
        await eventually(lambda: told(cluster, cluster.namespace) == BUNDLE)


async def test_who_writes_it_as_well_is_named_and_not_fought(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    path = ("api", "v1", "namespaces", cluster.namespace, "configmaps", ROOTS.name)
    async with keeping(cluster, {cluster.namespace}, lambda: BUNDLE) as written:
        await eventually(lambda: told(cluster, cluster.namespace) == BUNDLE)

        def undone() -> bool:
            cluster.patch({"data": {ROOTS.key: "another root"}}, *path)
            return "does another CA write it?" in caplog.text

        await eventually(undone)
        assert 3 <= len(written) <= 5


async def test_a_namespace_that_is_gone_holds_up_no_other(cluster: Cluster) -> None:
    async with keeping(cluster, {"a-gone", cluster.namespace}, lambda: BUNDLE):
        await eventually(lambda: told(cluster, cluster.namespace) == BUNDLE)


async def test_what_is_empty_is_not_there(cluster: Cluster) -> None:
    """None is made, and one that is there loses its key: its file goes where it is mounted."""
    space, now = cluster.namespace, ""

    def text() -> str:
        return now

    async with (
        keeping(cluster, {space}, lambda: BUNDLE),
        keeping(cluster, {space}, text, kind=CRL) as written,
    ):
        await eventually(lambda: told(cluster, space) == BUNDLE)
        assert written == []
        assert told(cluster, space, CRL) is None
        now = "a list"
        await eventually(lambda: told(cluster, space, CRL) == now)
        now = ""
        await eventually(lambda: told(cluster, space, CRL) == "no key")
        assert len(written) == 2
    async with keeping(cluster, {space}, text, kind=CRL) as written:
        later = cluster.new_namespace("later")
        await eventually(lambda: told(cluster, later, CRL) is None)
        assert written == []
