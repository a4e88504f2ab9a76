"""Replicas and their one root: against an API server, with what an operator does to its Secrets."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.ca import root
from agent.ca.authority import Authority
from agent.ca.clock import Clock, system_time
from agent.ca.errors import AuthorityError, ClockError, Reason, Refusal
from agent.ca.keeper import Keeper
from agent.ca.revocation import revoke, serials, usable
from agent.ca.rotation import Phase
from agent.ca.secret import OURS, PLUGGED_IN, REQUESTED, REVOKE, Secrets
from agent.ca.signer import Material, Signer, tidy
from agent.ca.spiffe import SpiffeId
from agent.kube.lease import Lease, Renewal
from tests.support import apiserver
from tests.support.authority import WEB, csr
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.plugged import NAMES, authority, material

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.ca.keeper._EVERY", 0.02)


class Machine:
    """One with a clock of its own; its authority has no lease and never will."""

    def __init__(self, cluster: Cluster, name: str, longest: timedelta) -> None:
        self.ahead = timedelta()
        secrets = Secrets(cluster.client, cluster.namespace)
        self.clock = secrets.clock = Clock(lambda: system_time() + self.ahead)
        self.lease = Lease(cluster.client, cluster.namespace, "test", name)
        self.keeper = Keeper(secrets, self.lease, "cluster.local", longest)


def keeper(cluster: Cluster, longest: timedelta = DAY, name: str = "one") -> Keeper:
    return Machine(cluster, name, longest).keeper


@asynccontextmanager
async def running(cluster: Cluster, count: int = 1, longest: timedelta = DAY) -> AsyncIterator[list[Keeper]]:
    """Replicas that are open, and follow."""
    async with machines(cluster, count, longest) as those:
        yield [machine.keeper for machine in those]


@asynccontextmanager
async def machines(cluster: Cluster, count: int, longest: timedelta) -> AsyncIterator[list[Machine]]:
    """The same, with their clocks at hand."""
    those = [Machine(cluster, f"replica-{number}", longest) for number in range(count)]
    replicas = [machine.keeper for machine in those]
    await asyncio.gather(*(one.open() for one in replicas))
    tasks = [asyncio.create_task(one.run()) for one in replicas]
    yield those
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def secret_path(cluster: Cluster, *name: str) -> tuple[str, ...]:
    return ("api", "v1", "namespaces", cluster.namespace, "secrets", *name)


def encoded(parts: Material) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in zip(NAMES, parts, strict=True)}


def plug_in(cluster: Cluster, parts: Material, crl: str | None = None) -> None:
    """As an operator: make or replace `cacerts`."""
    data = encoded(parts) | {"ca-crl.pem": base64.b64encode(crl.encode()).decode() if crl else None}
    if cluster.secret(PLUGGED_IN) is None:
        given = {name: text for name, text in data.items() if text}
        cluster.post({"metadata": {"name": PLUGGED_IN}, "data": given}, *secret_path(cluster))
    else:
        cluster.patch({"data": data}, *secret_path(cluster, PLUGGED_IN))


def annotate(cluster: Cluster, **annotations: str) -> None:
    names = {"since": "ca.warren.dev/since", "rotate": REQUESTED, "clocks": "ca.warren.dev/clocks"}
    names |= {"revoke": REVOKE}
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
        other = tidy(root.make("cluster.local", system_time()))
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
    theirs = tidy(root.make("cluster.local", system_time()))
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


def disputes(cluster: Cluster) -> set[str]:
    """Which replicas say that clocks disagree."""
    stored = Secrets(cluster.client, cluster.namespace).read()
    return set(stored.disputes) if stored else set()


async def test_a_clock_two_days_ahead_skips_no_hold(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with machines(cluster, 3, timedelta(minutes=10)) as [one, two, wrong]:
        all_of = [machine.keeper for machine in (one, two, wrong)]
        annotate(cluster, rotate="now")
        await eventually(lambda: {keeper.phase for keeper in all_of} == {Phase.ANNOUNCED})
        wrong.ahead = 2 * DAY
        await eventually(lambda: all(keeper.troubles["clock"] for keeper in all_of))
        annotate(cluster, since=an_hour_ago())  # the hold is over in truth, and still nobody goes on
        said = "replica-2 says: this machine's clock is 2 days ahead of the API server's"
        assert said in one.keeper.troubles["clock"]
        told = caplog.text.count(said)
        assert (await asyncio.to_thread(steps, one, two, wrong)) == {Phase.ANNOUNCED}
        assert caplog.text.count(said) == told, "it is logged once"
        wrong.ahead = timedelta()
        await eventually(lambda: {keeper.phase for keeper in all_of} == {Phase.SWITCHED})
        assert disputes(cluster) == set()
        await eventually(lambda: not any(keeper.troubles["clock"] for keeper in all_of))


def steps(*those: Machine) -> set[Phase]:
    """The phases after some further looks of each."""
    for machine in those * 3:
        with suppress(ClockError):
            machine.keeper._refresh()
    return {machine.keeper.phase for machine in those}


async def test_what_a_replica_signs_does_not_follow_its_clock(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machines(cluster, 1, DAY) as [machine]:
        machine.ahead = 2 * DAY
        await eventually(lambda: machine.clock.dispute)
        authority = Authority(machine.keeper.signer, DAY, machine.clock.now)
        issued = authority.issue(csr(), SpiffeId.parse(WEB))
        assert abs(issued.not_after - system_time() - DAY) < timedelta(seconds=10)
        monkeypatch.setattr("agent.ca.keeper.UNSEEN", timedelta(0))  # later
        with pytest.raises(Refusal, match="2 days ahead of the API server's: nothing is signed") as caught:
            machine.keeper.signer()
        assert caught.value.reason is Reason.CLOCK
        with pytest.raises(Refusal):
            machine.keeper.crl()


async def test_a_replica_with_a_wrong_clock_makes_no_root(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(cluster, "one", DAY)
    machine.ahead = -DAY
    opening = asyncio.create_task(machine.keeper.open())
    await eventually(lambda: "waiting for the root: this machine's clock is 1 day behind" in caplog.text)
    assert cluster.secret(OURS) is None
    machine.ahead = timedelta()
    await opening
    assert machine.keeper.signer()


async def test_a_lease_that_is_renewed_at_another_time_is_a_dispute(cluster: Cluster) -> None:
    """Machine and API server may be wrong together, on the same host."""
    async with machines(cluster, 2, DAY) as [one, two]:
        one.lease.renewal = Renewal("replica-9", timedelta(minutes=10))
        await eventually(lambda: disputes(cluster) == {"replica-0"})
        await eventually(lambda: two.keeper.troubles["clock"])
        assert (
            "the clock of replica-9, which holds the lease, is 10 minutes ahead of mine"
            in (two.keeper.troubles["clock"])
        )
        assert one.keeper.signer()
        annotate(cluster, rotate="now")
        assert await asyncio.to_thread(steps, one, two) == {Phase.STEADY}
        one.lease.renewal = None
        await eventually(lambda: two.keeper.phase is Phase.ANNOUNCED)


async def test_a_dispute_of_a_replica_that_is_gone_is_forgotten(cluster: Cluster) -> None:
    async with running(cluster) as [one]:
        told = {"gone": {"text": "wrong", "seen": an_hour_ago()}}
        annotate(cluster, clocks=json.dumps(told), rotate="now")
        await eventually(lambda: one.phase is Phase.ANNOUNCED)


def revoked(one: Keeper) -> set[int]:
    return serials(one.crl())


async def test_what_is_revoked_is_shared_and_survives_a_rotation(cluster: Cluster) -> None:
    async with running(cluster, 2, timedelta(minutes=10)) as replicas:
        annotate(cluster, revoke="ab,CD", rotate="now")
        await eventually(lambda: [revoked(one) for one in replicas] == [{0xAB, 0xCD}] * 2)
        await eventually(lambda: agree(replicas, lambda one: one.phase is Phase.ANNOUNCED))
        annotate(cluster, since=an_hour_ago())
        await eventually(lambda: agree(replicas, lambda one: one.phase is Phase.SWITCHED))
        annotate(cluster, revoke="ef")  # by the new root, on a list of its own
        await eventually(lambda: agree(replicas, lambda one: revoked(one) == {0xAB, 0xCD, 0xEF}))
        assert replicas[0].crl().count("BEGIN") == 2
    async with running(cluster, 1, timedelta(minutes=10)) as [later]:
        assert revoked(later) == {0xAB, 0xCD, 0xEF}
        annotate(cluster, since=an_hour_ago())
        await eventually(lambda: later.phase is Phase.STEADY and revoked(later) == {0xEF})


async def test_revoking_waits_for_no_clock(cluster: Cluster) -> None:
    async with machines(cluster, 1, DAY) as [machine]:
        machine.ahead = 2 * DAY
        await eventually(lambda: machine.clock.dispute)
        annotate(cluster, revoke="ab")
        await eventually(lambda: "revoked-crl.pem" in (cluster.secret(OURS) or {}))
        machine.ahead = timedelta()
        await eventually(lambda: revoked(machine.keeper) == {0xAB})


async def test_an_operators_list_is_told_and_a_bad_one_keeps_the_last(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    top = authority("root")
    parts = material(authority("mesh", top), top)
    signer = Signer.of(parts)
    first, second = (revoke(signer, "", {serial}, system_time()) for serial in (1, 2))
    plug_in(cluster, parts, first)
    async with running(cluster, 2) as replicas:
        assert [revoked(one) for one in replicas] == [{1}] * 2
        plug_in(cluster, parts, second[:-40])
        await eventually(lambda: all(one.troubles["crl"] for one in replicas))
        assert "cacerts: ca-crl.pem holds no X.509 CRLs in PEM, or not the whole of one" in caplog.text
        assert [revoked(one) for one in replicas] == [{1}] * 2
    async with running(cluster) as [later]:
        assert revoked(later) == {1}, "also after a restart"
        annotate(cluster, revoke="ab")
        await eventually(lambda: "nothing was revoked: the CA is plugged in" in caplog.text)
        plug_in(cluster, parts, second)
        await eventually(lambda: revoked(later) == {2})
        assert not later.troubles["crl"]
        plug_in(cluster, parts)
        await eventually(lambda: revoked(later) == set())
        assert later.crl().count("BEGIN X509 CRL") == 1, "a file that goes would withdraw nothing"


async def test_a_first_start_with_a_bad_list_makes_no_state(cluster: Cluster) -> None:
    top = authority("root")
    plug_in(cluster, material(top), "nonsense")
    with pytest.raises(AuthorityError, match=r"ca-crl\.pem holds no X\.509 CRLs"):
        await keeper(cluster).open()
    assert cluster.secret(OURS) is None


async def test_lists_of_two_cas_by_one_name_hold_while_both_have_certificates(cluster: Cluster) -> None:
    """An intermediate with a new key and the old name, as many renew it."""
    top = authority("root")
    old, new = (material(authority("mesh", top), top) for _ in range(2))
    first, second = (revoke(Signer.of(one), "", {n}, system_time()) for n, one in enumerate((old, new), 1))
    plug_in(cluster, old, first)
    async with running(cluster, 1, timedelta(minutes=10)) as [one]:
        assert revoked(one) == {1}
        plug_in(cluster, new, first + second)
        await eventually(lambda: one.phase is Phase.SWITCHED and revoked(one) == {1, 2})
        annotate(cluster, since=an_hour_ago())
        await eventually(lambda: one.phase is Phase.STEADY and revoked(one) == {2})
        assert not one.troubles["crl"]


async def test_there_is_a_list_also_after_the_last_one_has_gone_with_its_root(cluster: Cluster) -> None:
    async with running(cluster, 1, timedelta(minutes=10)) as [one]:
        annotate(cluster, revoke="ab", rotate="now")
        for phase in (Phase.ANNOUNCED, Phase.SWITCHED):
            await eventually(lambda: one.phase is phase)  # noqa: B023
            annotate(cluster, since=an_hour_ago())
        await eventually(lambda: one.phase is Phase.STEADY and revoked(one) == set())
        assert one.crl() == usable(one.crl(), one.signer().path) != ""
