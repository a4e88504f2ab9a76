"""Enrolment with the real redirection, a real ZDS server and real network namespaces."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.errors import WarrenError
from agent.node import routing
from agent.node.enrolment import Enrolment, Sandbox, Tunnels
from agent.node.netns import NetnsFd
from agent.node.state import Cookie
from agent.zds.server import ZdsServer
from agent.zds.tunnel import Local
from tests.agent.zds.client import Client
from tests.support.eventually import eventually
from tests.support.netns import Pod
from tests.support.stage import Stage


def cookie_of(pod: Pod) -> Cookie:
    return Cookie(pod.netns.cookie())


class Running:
    """An agent's middle: enrolment, the redirection and the ZDS server."""

    def __init__(self, stage: Stage, path: Path) -> None:
        self.stage, self.path = stage, path
        self.zds = ZdsServer(path, self._trust)
        self.enrolment = self._enrolment()

    async def restart(self) -> None:
        """The agent goes and comes back; what it held is in the kernel alone."""
        await self.enrolment.close()
        self.stage.restart()
        self.enrolment = self._enrolment()

    def sandbox(self, pod: Pod, uid: str = "") -> Sandbox:
        return Sandbox(uid or pod.name, pod.name, "default", "default", pod.path, tuple(pod.addresses))

    def captured(self, *pods: Pod) -> bool:
        """Whether exactly these are captured, with routing."""
        state = self.stage.datapath.pods()
        return set(state) == {cookie_of(pod) for pod in pods} and all(
            state[cookie_of(pod)].captured and routing.installed(pod.netns) for pod in pods
        )

    async def _trust(self, pid: int) -> None:
        pass

    def _enrolment(self) -> Enrolment:
        return Enrolment(self.stage.datapath, Tunnels(self._add, self.zds.remove))

    async def _add(self, sandbox: Sandbox, netns: NetnsFd) -> None:
        local = Local(sandbox.uid, sandbox.name, sandbox.namespace, sandbox.service_account, netns)
        await self.zds.add(local)


@pytest.fixture
async def running(stage: Stage, tmp_path: Path) -> AsyncIterator[Running]:
    it = Running(stage, tmp_path / "zds")
    await it.zds.start()
    yield it
    await it.enrolment.close()
    await it.zds.stop()
    for cookie in stage.datapath.pods():  # the stage is shared with other tests
        stage.datapath.release(cookie)
        stage.datapath.forget(cookie)


async def test_captured_without_a_tunnel_and_released(running: Running) -> None:
    pod, other = running.stage.pod(), running.stage.pod()
    running.enrolment.want([running.sandbox(pod), running.sandbox(other)])
    await eventually(lambda: running.enrolment.enrolled() == 2)
    assert running.captured(pod, other)
    running.enrolment.want([running.sandbox(other)])
    await eventually(lambda: running.captured(other))
    await eventually(lambda: running.enrolment.enrolled() == 1)
    assert not routing.installed(pod.netns)


async def test_the_tunnel_listens_before_the_pod_is_captured(running: Running) -> None:
    pod = running.stage.pod()
    with Client(running.path) as client:
        assert await client.told() == "snapshot"
        running.enrolment.want([running.sandbox(pod)])
        request = await client.hear()
        assert request
        assert request.add.uid == pod.name
        assert routing.installed(pod.netns)
        assert not running.captured(pod)
        client.answer()
        await eventually(lambda: running.enrolment.enrolled() == 1)
        assert running.captured(pod)

        running.enrolment.want([])
        await client.hear()
        assert not running.stage.datapath.pods()[cookie_of(pod)].captured
        client.answer()
        await eventually(running.captured)


async def test_refused_by_the_tunnel_it_is_captured_and_tried_again(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    pod = running.stage.pod()
    with Client(running.path) as client:
        await client.told()
        running.enrolment.want([running.sandbox(pod)])
        await client.told(error="no port")
        await eventually(lambda: "no port; trying again" in caplog.text)
        assert running.captured(pod)
        assert "no port" in running.enrolment.failing[pod.name]
        assert await client.told() == f"add {pod.name}"
        await eventually(lambda: running.enrolment.enrolled() == 1 and not running.enrolment.failing)


async def test_a_namespace_that_is_not_there_yet(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    pod = running.stage.pod()
    later = pod.path.with_name(f"{pod.name}-later")
    sandbox = Sandbox("uid", "a", "default", "default", later, tuple(pod.addresses))
    running.enrolment.want([sandbox])
    await eventually(lambda: f"pod default/a: network namespace {later}: No such file" in caplog.text)
    later.symlink_to(pod.path)
    try:
        await eventually(lambda: running.captured(pod))
        await eventually(lambda: not running.enrolment.failing)
    finally:
        later.unlink()


async def test_what_was_never_there_is_given_up(running: Running) -> None:
    running.enrolment.want([Sandbox("uid", "a", "default", "default", Path("/run/netns/absent"), ())])
    await eventually(lambda: running.enrolment.failing)
    running.enrolment.want([])
    await eventually(lambda: not running.enrolment.failing)


async def test_another_pod_in_the_same_namespace_stays_captured(running: Running) -> None:
    pod = running.stage.pod()
    running.enrolment.want([running.sandbox(pod, "old")])
    await eventually(lambda: running.enrolment.enrolled() == 1)
    for _ in range(5):
        for uid in ("new", "old"):
            running.enrolment.want([running.sandbox(pod, uid)])
            await eventually(lambda: set(running.enrolment._held) == {uid} and not running.enrolment._workers)  # noqa: B023
            assert running.captured(pod)


async def test_addresses_that_change(running: Running) -> None:
    pod = running.stage.pod()
    running.enrolment.want([running.sandbox(pod)])
    await eventually(lambda: running.enrolment.enrolled() == 1)
    sandbox = Sandbox(pod.name, pod.name, "default", "default", pod.path, (pod.v6,))
    running.enrolment.want([sandbox])
    cookie = cookie_of(pod)
    await eventually(lambda: running.stage.datapath.pods()[cookie].addresses == (pod.v6,))
    assert running.captured(pod)


async def test_an_agent_that_comes_back_takes_over_and_sweeps(running: Running) -> None:
    stays, unenrolled, gone = (running.stage.pod() for _ in range(3))
    running.enrolment.want([running.sandbox(pod) for pod in (stays, unenrolled, gone)])
    await eventually(lambda: running.enrolment.enrolled() == 3)
    await running.restart()
    running.stage.node.delete(gone)
    cookie = cookie_of(stays)

    running.enrolment.want([running.sandbox(stays)])
    sweeping = asyncio.create_task(running.enrolment.sweep([unenrolled.path, Path("/run/netns/absent")]))
    while not sweeping.done():
        assert running.stage.datapath.pods()[cookie].captured, "not for a moment"
        await asyncio.sleep(0)
    await sweeping
    assert running.captured(stays)
    assert not routing.installed(unenrolled.netns)


async def test_a_pod_of_which_nobody_says_where_it_is_is_not_let_loose(running: Running) -> None:
    lost, gone = running.stage.pod(), running.stage.pod()
    running.enrolment.want([running.sandbox(pod) for pod in (lost, gone)])
    await eventually(lambda: running.enrolment.enrolled() == 2)
    await running.restart()
    await running.enrolment.sweep([], lost={*lost.addresses})
    assert running.captured(lost)
    await running.enrolment.sweep([])
    assert running.captured()


async def test_a_tunnel_that_does_not_answer_does_not_leave_the_pod_open(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.node.enrolment._ANSWER", 0.05)
    pod = running.stage.pod()
    with Client(running.path) as client:
        await client.told()
        running.enrolment.want([running.sandbox(pod)])
        await eventually(lambda: running.captured(pod))
        await eventually(lambda: "no answer from the tunnel" in running.enrolment.failing.get(pod.name, ""))


async def test_failures_of_the_kernel_are_tried_again(running: Running) -> None:
    class Failing:
        """The real redirection, out of order at first."""

        def __init__(self) -> None:
            self.left = 2

        def __getattr__(self, name: str) -> object:
            if name == "capture" and self.left:
                self.left -= 1
                raise WarrenError("out of order")
            return getattr(running.stage.datapath, name)

    enrolment = Enrolment(Failing(), Tunnels(running._add, running.zds.remove))  # type: ignore[arg-type]
    pod = running.stage.pod()
    enrolment.want([running.sandbox(pod)])
    await eventually(lambda: enrolment.enrolled() == 1)
    assert running.captured(pod)
    await enrolment.close()


async def test_a_runtime_tells_later_whose_namespace_it_is(running: Running) -> None:
    pod = running.stage.pod()
    running.enrolment.want([running.sandbox(pod)])
    await eventually(lambda: running.enrolment.enrolled() == 1)
    told = replace(running.sandbox(pod), container="c1")
    running.enrolment.want([told])
    while running.enrolment._held[pod.name].sandbox != told or not running.enrolment.enrolled():
        assert running.captured(pod), "not released for a moment"
        await asyncio.sleep(0)
