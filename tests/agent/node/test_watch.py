"""What somebody takes away from an enrolled pod is noticed, named, put back, and counted."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent.node import routing
from agent.node.audit import Fault
from agent.node.enrolment import Enrolment, Sandbox, Tunnels
from agent.node.netns import NetnsFd
from agent.node.watch import Watch
from bpf.pins import Pins
from tests.support import standin
from tests.support.eventually import eventually
from tests.support.netns import Pod
from tests.support.resident import Resident
from tests.support.stage import Stage


@pytest.fixture(scope="module")
def pod(stage: Stage) -> Pod:
    return stage.pod()


@pytest.fixture(scope="module")
def tunnel(stage: Stage) -> Resident:
    return stage.tunnel()


@pytest.fixture
async def enrolment(stage: Stage, pod: Pod, tunnel: Resident) -> AsyncIterator[Enrolment]:
    """With the pod enrolled; the tunnel listens in it as soon as it is told."""
    told: set[str] = set()

    async def add(sandbox: Sandbox, _: NetnsFd) -> None:
        if sandbox.uid not in told:
            told.add(sandbox.uid)
            await asyncio.to_thread(tunnel.call, standin.adopt, sandbox.netns)

    async def remove(_: str, *, drain: bool = False) -> None:
        await asyncio.to_thread(tunnel.call, standin.leave)

    enrolment = Enrolment(stage.datapath, Tunnels(add, remove))
    enrolment.want([Sandbox("uid", "pod", "default", "default", pod.path, tuple(pod.addresses))])
    await enrolment.tried()
    yield enrolment
    enrolment.want([])
    await eventually(lambda: not enrolment.held() and not stage.datapath.pods())
    await enrolment.close()


async def test_nothing_is_wrong(stage: Stage, enrolment: Enrolment) -> None:
    watch = Watch(stage.datapath, enrolment)
    await watch.reconcile()
    assert (watch.broken, watch.mended) == ({}, {})
    assert set(watch.counts().values()) == {0}


async def test_what_is_taken_away_is_put_back(
    stage: Stage, enrolment: Enrolment, pod: Pod, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(stage.datapath, enrolment)
    pins = Pins(stage.bpffs / "warren")
    (cookie,) = pins.pods()
    pins.unpin_pod(cookie)
    routing.remove(pod.netns)
    pins.links()["connect6"].detach()

    await watch.reconcile()
    assert watch.mended == {Fault.IN: 1, Fault.ROUTING: 1, "program": 1}
    assert (watch.counts()[Fault.IN], watch.counts()[Fault.LISTENER]) == (1, 0)
    assert "pod uid: what arrives for it is not captured" in caplog.text
    assert "program connect6 had been detached, and is attached again" in caplog.text

    await eventually(enrolment.held)
    await watch.reconcile()
    assert watch.broken == {}
    assert routing.installed(pod.netns)
    assert watch.mended.total() == 3


async def test_tunnel_that_ends_is_named_once(
    stage: Stage, enrolment: Enrolment, tunnel: Resident, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent cannot put a tunnel right, and does not begin the pod's enrolment anew for it."""
    watch = Watch(stage.datapath, enrolment)
    tunnel.call(standin.leave)
    for _ in range(3):
        await watch.reconcile()
    assert watch.counts()[Fault.LISTENER] == 1
    assert (watch.mended, list(enrolment.held())) == ({}, ["uid"])
    assert caplog.text.count("start the tunnel") == 1


async def test_it_looks_again_and_again(
    stage: Stage, enrolment: Enrolment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when all pins are gone: what is attached is pinned again, and the pods with it."""
    monkeypatch.setattr("agent.node.watch._EVERY", 0.01)
    watch = Watch(stage.datapath, enrolment)
    running = asyncio.create_task(watch.run())
    for _ in range(2):
        watch.mended.clear()
        Pins(stage.bpffs / "warren").remove()
        await eventually(lambda: watch.mended[Fault.IN] and enrolment.held())
        await eventually(lambda: not watch.broken)
    running.cancel()
    assert len(Pins(stage.bpffs / "warren").pods()) == 1
