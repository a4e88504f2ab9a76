"""Replicas and their one root: against an API server, with what an operator does to its Secrets."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.ca import root
from agent.ca.errors import AuthorityError, Reason, Refusal
from agent.ca.keeper import Keeper
from agent.ca.rotation import Phase
from agent.ca.secret import OURS, PLUGGED_IN, REQUESTED, Secrets
from agent.ca.signer import Material, Signer, tidy
from tests.support import apiserver
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.plugged import NAMES, authority, material

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.ca.keeper._EVERY", 0.02)


def keeper(cluster: Cluster, longest: timedelta = DAY) -> Keeper:
    return Keeper(Secrets(cluster.client, cluster.namespace), "cluster.local", longest)


@asynccontextmanager
async def running(cluster: Cluster, count: int = 1, longest: timedelta = DAY) -> AsyncIterator[list[Keeper]]:
    """Replicas that are open, and follow."""
    replicas = [keeper(cluster, longest) for _ in range(count)]
    await asyncio.gather(*(one.open() for one in replicas))
    tasks = [asyncio.create_task(one.run()) for one in replicas]
    yield replicas
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def secret_path(cluster: Cluster, *name: str) -> tuple[str, ...]:
    return ("api", "v1", "namespaces", cluster.namespace, "secrets", *name)


def encoded(parts: Material) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in zip(NAMES, parts, strict=True)}


def plug_in(cluster: Cluster, parts: Material) -> None:
    """As an operator: make or replace `cacerts`."""
    if cluster.secret(PLUGGED_IN) is None:
        cluster.post({"metadata": {"name": PLUGGED_IN}, "data": encoded(parts)}, *secret_path(cluster))
    else:
        cluster.patch({"data": encoded(parts)}, *secret_path(cluster, PLUGGED_IN))


def annotate(cluster: Cluster, **annotations: str) -> None:
    names = {"since": "ca.warren.dev/since", "rotate": REQUESTED}
    body = {"metadata": {"annotations": {names[name]: text for name, text in annotations.items()}}}
    cluster.patch(body, *secret_path(cluster, OURS))


def an_hour_ago() -> str:
    return (datetime.now(UTC) - timedelta(hours=1)).isoformat()


def agree(replicas: list[Keeper], condition: Callable[[Keeper], object]) -> bool:
    signers = {one.signer().certificate for one in replicas}
    return len(signers) == 1 and all(condition(one) for one in replicas)


def counted(cluster: Cluster, name: str, key: str) -> int:
    return (cluster.secret(name) or {}).get(key, b"").count(b"BEGIN CERTIFICATE")


async def test_whoever_comes_first_makes_the_root_of_all(cluster: Cluster) -> None:
    async with running(cluster, 3) as replicas:
        assert agree(replicas, lambda one: one.phase is Phase.STEADY)
        made = cluster.secret(OURS)
    async with running(cluster) as later:
        assert later[0].signer().certificate == replicas[0].signer().certificate
    assert cluster.secret(OURS) == made
    assert set(made or {}) == set(NAMES)


async def test_a_rotation_that_is_asked_for_goes_through_all_replicas(cluster: Cluster) -> None:
    hour = timedelta(minutes=10)
    async with running(cluster, 3, hour) as replicas:
        old = replicas[0].signer()
        annotate(cluster, rotate="now")
        await eventually(lambda: agree(replicas, lambda one: one.phase is Phase.ANNOUNCED))
        assert replicas[0].signer().certificate == old.certificate
        assert counted(cluster, OURS, "root-cert.pem") == 2
        annotate(cluster, since=an_hour_ago())
        await eventually(lambda: {one.phase for one in replicas} == {Phase.SWITCHED})
        assert replicas[0].signer().certificate != old.certificate
        assert agree(replicas, lambda one: one.signer().bundle.count("BEGIN") == 2)
        annotate(cluster, since=an_hour_ago())
        await eventually(lambda: {one.phase for one in replicas} == {Phase.STEADY})
        assert agree(replicas, lambda one: one.signer().bundle.count("BEGIN") == 1)
    assert set(cluster.secret(OURS) or {}) == set(NAMES)
    stored = Secrets(cluster.client, cluster.namespace).read()
    assert stored
    assert not stored.requested


async def test_what_is_plugged_in_signs_from_the_first_start(cluster: Cluster) -> None:
    top = authority("root")
    mesh = authority("mesh", top)
    plug_in(cluster, material(mesh, top))
    async with running(cluster) as [one]:
        assert one.signer().certificate == mesh.certificate
        assert one.signer().intermediates == [mesh.pem]
        assert one.signer().bundle == top.pem
        second = authority("second", top)
        plug_in(cluster, material(second, top))  # of the same root: without a restart, and at once
        await eventually(lambda: one.signer().certificate == second.certificate)
        other = authority("other")
        plug_in(cluster, material(authority("third", other), other))  # of another one: both for a while
        await eventually(lambda: one.phase is Phase.ANNOUNCED)
        assert one.signer().certificate == second.certificate
        assert one.signer().bundle == top.pem + other.pem


async def test_a_mesh_with_a_root_of_its_own_changes_over_to_what_is_plugged_in(cluster: Cluster) -> None:
    top = authority("root")
    mesh = authority("mesh", top)
    async with running(cluster, 2, timedelta(minutes=10)) as replicas:
        old = replicas[0].signer()
        plug_in(cluster, material(mesh, top))
        for _ in range(2):
            await eventually(lambda: {one.phase for one in replicas} < {Phase.ANNOUNCED, Phase.SWITCHED})
            assert agree(replicas, lambda one: set(one.signer().bundle) >= set(old.bundle))
            annotate(cluster, since=an_hour_ago())
            phase = replicas[0].phase
            await eventually(lambda: all(one.phase is not phase for one in replicas))  # noqa: B023
        await eventually(lambda: agree(replicas, lambda one: one.phase is Phase.STEADY))
        assert replicas[0].signer().bundle == top.pem
        cluster.delete(*secret_path(cluster, PLUGGED_IN))
        annotate(cluster, rotate="now")  # back to a root of its own, when it is asked for
        await eventually(lambda: agree(replicas, lambda one: one.phase is Phase.ANNOUNCED))
        assert replicas[0].signer().certificate == mesh.certificate


async def test_what_cannot_be_used_is_named_and_what_there_is_goes_on(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    top = authority("root")
    bad = material(authority("mesh", top), authority("another"))
    async with running(cluster) as [one]:
        old = one.signer()
        plug_in(cluster, bad)
        await eventually(lambda: "cacerts is not used: the certificate of CN=mesh" in caplog.text)
        assert one.signer().certificate == old.certificate
        assert one.phase is Phase.STEADY
        annotate(cluster, rotate="now")
        await eventually(lambda: "a rotation was asked for, but" in caplog.text)
        plug_in(cluster, material(authority("mesh", top), top))
        await eventually(lambda: one.phase is Phase.ANNOUNCED)
    told = [record for record in caplog.records if "cacerts is not used" in record.getMessage()]
    assert len(told) == 1


async def test_a_first_start_with_a_bad_one_makes_no_root_of_its_own(cluster: Cluster) -> None:
    plug_in(cluster, material(authority("mesh", authority("root")), authority("another")))
    with pytest.raises(
        AuthorityError, match=r"Secret .*/cacerts is not used: the certificate of CN=mesh is not"
    ):
        await keeper(cluster).open()
    assert cluster.secret(OURS) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            {"ca-key.pem": None},
            "Secret .*/istio-ca-secret cannot be used: it has no ca-key.pem; put back a good one",
        ),
        (
            {"ca-cert.pem": "AA=="},
            "Secret .*/istio-ca-secret cannot be used: ca-cert.pem holds no certificates",
        ),
        ({"root-cert.pem": "/w=="}, "root-cert.pem is not PEM; put back a good one"),
    ],
)
async def test_a_spoilt_state_is_named(cluster: Cluster, data: dict[str, Any], text: str) -> None:
    await keeper(cluster).open()
    cluster.patch({"data": data}, *secret_path(cluster, OURS))
    with pytest.raises(AuthorityError, match=text):
        await keeper(cluster).open()


async def test_a_secret_that_was_deleted_is_put_back(cluster: Cluster) -> None:
    async with running(cluster, 2) as replicas:
        old = replicas[0].signer()
        made = cluster.secret(OURS)
        cluster.delete(*secret_path(cluster, OURS))
        await eventually(lambda: cluster.secret(OURS) is not None)
        assert cluster.secret(OURS) == made
        await eventually(lambda: agree(replicas, lambda one: one.signer().certificate == old.certificate))


async def test_a_secret_that_was_exchanged_for_another_begins_a_rotation(cluster: Cluster) -> None:
    async with running(cluster, 2) as replicas:
        old = replicas[0].signer()
        other = tidy(root.make("cluster.local"))
        cluster.patch({"data": encoded(other)}, *secret_path(cluster, OURS))
        await eventually(lambda: {one.phase for one in replicas} == {Phase.ANNOUNCED})
        assert agree(replicas, lambda one: one.signer().certificate == old.certificate)
        assert replicas[0].signer().bundle == old.bundle + other.root_cert


async def test_the_longest_certificates_are_on_record_before_one_is_signed(cluster: Cluster) -> None:
    await keeper(cluster, timedelta(seconds=10)).open()
    await keeper(cluster, DAY).open()
    await keeper(cluster, timedelta(seconds=20)).open()
    stored = Secrets(cluster.client, cluster.namespace).read()
    assert stored
    assert stored.state.longest == DAY


async def test_a_secret_of_istiods_is_gone_on_with(cluster: Cluster) -> None:
    theirs = tidy(root.make("cluster.local"))
    cluster.post(
        {"metadata": {"name": OURS}, "type": "istio.io/ca-root", "data": encoded(theirs)},
        *secret_path(cluster),
    )
    one = keeper(cluster)
    await one.open()
    assert one.signer().certificate == Signer.of(theirs).certificate


async def test_who_cannot_read_the_root_signs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with apiserver.fake(tmp_path) as server:
        cluster = Cluster(server.kubeconfig)
        async with running(cluster) as [one]:
            await asyncio.to_thread(server.stop)
            await eventually(lambda: "secrets/istio-ca-secret" in caplog.text)
            one.signer()  # what was read a moment ago is believed
            monkeypatch.setattr("agent.ca.keeper.UNSEEN", timedelta(0))
            with pytest.raises(Refusal) as caught:
                one.signer()
            assert caught.value.reason is Reason.ROOT_UNKNOWN
            monkeypatch.setattr("agent.ca.keeper.UNSEEN", timedelta(minutes=1))
            opening = asyncio.create_task(keeper(cluster).open())  # a start waits
            await eventually(lambda: "waiting for the root" in caplog.text)
            await asyncio.to_thread(server.start)
            await opening
        cluster.close()
